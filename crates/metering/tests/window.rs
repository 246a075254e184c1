//! Budget windows: words, calendars, and nights on which clocks change.

use metering::{Period, Window, Zone};
use proptest::prelude::*;
use schemas::Micros;

fn at(text: &str) -> Micros {
    Micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn shown(window: Window) -> String {
    let text = |at: Micros| jiff::Timestamp::from_microsecond(at.0).unwrap().to_string();
    format!("{} {}", text(window.start), text(window.end))
}

fn window(period: &str, zone: &str, now: &str) -> String {
    let period: Period = period.parse().unwrap();
    shown(period.window(at(now), Micros(0), &zone.parse().unwrap()))
}

#[test]
fn words_mean_calendar_periods() {
    let read = |word: &str| word.parse::<Period>();
    for (word, period) in [
        ("daily", Period::Day),
        ("1d", Period::Day),
        ("weekly", Period::Week),
        ("7d", Period::Week),
        ("1w", Period::Week),
        ("monthly", Period::Month),
        ("30d", Period::Month),
        ("1mo", Period::Month),
        ("yearly", Period::Year),
        ("1y", Period::Year),
        ("Lifetime", Period::Lifetime),
        ("30s", Period::Custom { seconds: 30 }),
        ("30m", Period::Custom { seconds: 1800 }),
        ("30h", Period::Custom { seconds: 108_000 }),
        ("2w", Period::Custom { seconds: 1_209_600 }),
        ("3mo", Period::Months(3)),
    ] {
        assert_eq!(read(word), Ok(period), "{word}");
        assert_eq!(period.to_string().parse(), Ok(period), "{word}");
    }
    for word in [
        "",
        "d",
        "fortnightly",
        "0d",
        "-1d",
        "1.5h",
        "1 d",
        "99999999999s",
        "70000d",
    ] {
        let error = read(word).unwrap_err().to_string();
        assert!(error.contains(&format!("{word:?}")), "{error}");
        assert!(
            error.contains("monthly") && error.contains("30d"),
            "{error}"
        );
    }
    let unknown = "Mars/Olympus".parse::<Zone>().unwrap_err().to_string();
    assert!(unknown.contains("Mars/Olympus"));
    assert_eq!(
        "Europe/Berlin".parse::<Zone>().unwrap().to_string(),
        "Europe/Berlin"
    );
}

#[test]
fn a_month_is_a_month_and_a_week_begins_on_monday() {
    let now = "2026-11-21T08:00:00Z";
    let utc = |period| window(period, "UTC", now);
    assert_eq!(utc("monthly"), "2026-11-01T00:00:00Z 2026-12-01T00:00:00Z");
    assert_eq!(utc("30d"), utc("monthly"));
    assert_eq!(utc("weekly"), "2026-11-16T00:00:00Z 2026-11-23T00:00:00Z");
    assert_eq!(utc("1d"), "2026-11-21T00:00:00Z 2026-11-22T00:00:00Z");
    assert_eq!(utc("yearly"), "2026-01-01T00:00:00Z 2027-01-01T00:00:00Z");
    assert_eq!(utc("3mo"), "2026-10-01T00:00:00Z 2027-01-01T00:00:00Z");
    assert_eq!(
        window("monthly", "Europe/Berlin", "2026-10-31T23:30:00Z"),
        "2026-10-31T23:00:00Z 2026-11-30T23:00:00Z"
    );
    assert_eq!(
        window("monthly", "UTC", "2028-02-29T23:59:59.999999Z"),
        "2028-02-01T00:00:00Z 2028-03-01T00:00:00Z"
    );
}

#[test]
fn nights_on_which_clocks_change_belong_to_one_day() {
    // 23 and 25 hours
    assert_eq!(
        window("daily", "Europe/Berlin", "2026-03-29T10:00:00Z"),
        "2026-03-28T23:00:00Z 2026-03-29T22:00:00Z"
    );
    assert_eq!(
        window("daily", "Europe/Berlin", "2026-10-25T10:00:00Z"),
        "2026-10-24T22:00:00Z 2026-10-25T23:00:00Z"
    );
    // no midnight: Cairo's clocks go from 24:00 to 01:00
    assert_eq!(
        window("daily", "Africa/Cairo", "2026-04-24T10:00:00Z"),
        "2026-04-23T22:00:00Z 2026-04-24T21:00:00Z"
    );
    // Samoa had no 30 December 2011
    assert_eq!(
        window("daily", "Pacific/Apia", "2011-12-30T11:00:00Z"),
        "2011-12-30T10:00:00Z 2011-12-31T10:00:00Z"
    );
    // St. John's went from 00:01 back to 23:01: the evening that came again is the new day's
    assert_eq!(
        window("daily", "America/St_Johns", "2010-11-07T03:00:00Z"),
        "2010-11-07T02:30:00Z 2010-11-08T03:30:00Z"
    );
}

#[test]
fn custom_windows_run_from_their_anchor() {
    let day = Period::Custom { seconds: 86_400 };
    let anchor = at("2026-11-20T17:00:00Z");
    let of = |now| shown(day.window(at(now), anchor, &Zone::UTC));
    assert_eq!(
        of("2026-11-21T08:00:00Z"),
        "2026-11-20T17:00:00Z 2026-11-21T17:00:00Z"
    );
    assert_eq!(
        of("2026-11-21T17:00:00Z"),
        "2026-11-21T17:00:00Z 2026-11-22T17:00:00Z"
    );
    assert_eq!(
        of("2026-11-20T16:59:59Z"),
        "2026-11-19T17:00:00Z 2026-11-20T17:00:00Z"
    );
    let life = Period::Lifetime.window(anchor, anchor, &Zone::UTC);
    assert_eq!(life, Window::LIFETIME);
}

fn any_period() -> impl Strategy<Value = Period> {
    prop_oneof![
        Just(Period::Day),
        Just(Period::Week),
        Just(Period::Month),
        Just(Period::Year),
        (1_u16..40).prop_map(Period::Months),
        (1_u32..100_000_000).prop_map(|seconds| Period::Custom { seconds }),
    ]
}

const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Havana",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Australia/Lord_Howe",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Every instant lies in its window, and windows follow each other without gap or overlap.
    #[test]
    fn windows_tile_time(
        period in any_period(),
        zone in prop::sample::select(&ZONES[..]),
        seconds in prop_oneof![
            9 => -2_000_000_000_i64..6_000_000_000,
            1 => -9_223_372_036_854_i64..9_223_372_036_854,
        ],
        micros in 0_i64..1_000_000,
        anchor in -2_000_000_000_i64..2_000_000_000,
    ) {
        let zone: Zone = zone.parse().unwrap();
        let now = Micros(seconds * 1_000_000 + micros);
        let of = |at: Micros| period.window(at, Micros(anchor * 1_000_000), &zone);
        let window = of(now);
        prop_assert!(window.contains(now), "{window:?} {now:?}");
        prop_assert_eq!(of(window.start), window);
        prop_assert_eq!(of(Micros(window.end.0 - 1)), window);
        if window.end.0 < i64::MAX {
            prop_assert_eq!(of(window.end).start, window.end);
        }
        if window.start.0 > i64::MIN {
            prop_assert_eq!(of(Micros(window.start.0 - 1)).end, window.start);
        }
    }

    /// Nobody's text makes the reader panic, and what it reads it can say again.
    #[test]
    fn any_word_is_read_or_refused(word in "[0-9]{0,6}[a-z]{0,8}") {
        if let Ok(period) = word.parse::<Period>() {
            prop_assert_eq!(period.to_string().parse::<Period>(), Ok(period));
        }
    }
}

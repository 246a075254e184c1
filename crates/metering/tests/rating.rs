//! What calls cost, and that a hold always covers them.

use metering::{
    Bounds, Catalog, MeterSet, Price, PriceKey, Unpriced, affordable_output,
    affordable_output_within, charge, rate, worst_case, worst_case_within,
};
use proptest::prelude::*;
use schemas::{
    AttoUsd, Attribution, BudgetRef, CacheKind, CatalogEvent, Meter, Meters, Micros, NanoUsd,
    Outcome, PriceEntry, Rate, RequestId, Stages, Usage, codec::Blob,
};

type Row<'a> = (Meter, Option<&'a str>, u64, &'a str);

fn entry(rows: &[Row<'_>]) -> PriceEntry {
    let rates = rows
        .iter()
        .map(|&(meter, tier, context_above, price)| Rate {
            meter,
            service_tier: tier.map(Into::into),
            context_above,
            price: price.into(),
        })
        .collect();
    PriceEntry {
        scope: "global".into(),
        provider: "openai".into(),
        model: "m".into(),
        effective_from: Micros(0),
        effective_to: None,
        source: "test".into(),
        source_date: "2026-11-21".into(),
        max_input: None,
        max_output: None,
        rates,
    }
}

fn price(rows: &[Row<'_>]) -> Price {
    Price::try_from(&entry(rows)).unwrap()
}

fn meters(readings: &[(Meter, i64)]) -> Meters {
    let mut meters = Meters::default();
    for &(meter, quantity) in readings {
        meters.add(meter, quantity);
    }
    meters
}

use Meter::*;

#[test]
fn prices_fall_back_from_tier_to_base_and_from_meter_to_meter() {
    let p = price(&[
        (InputText, None, 0, "1"),
        (InputText, None, 100, "2"),
        (InputText, Some("flex"), 0, "0.5"),
        (InputCacheRead, None, 0, "0.1"),
        (InputCacheWrite5m, None, 0, "1.25"),
        (OutputText, None, 0, "10"),
        (OutputText, None, 100, "15"),
        (OutputText, Some("priority"), 0, "20"),
        (OutputReasoning, None, 0, "12"),
    ]);
    let unit = |meter, tier, prompt| p.unit(meter, tier, prompt).map(|unit| unit.to_string());
    // strictly above: the whole request at the tier's price
    assert_eq!(unit(InputText, None, 100).unwrap(), "1.0");
    assert_eq!(unit(InputText, None, 101).unwrap(), "2.0");
    // the context tier counts before the service tier
    assert_eq!(unit(InputText, Some("flex"), 101).unwrap(), "2.0");
    assert_eq!(unit(InputText, Some("flex"), 1).unwrap(), "0.5");
    // a declared tier without a price for the meter: the base price
    assert_eq!(unit(OutputText, Some("flex"), 1).unwrap(), "10.0");
    assert_eq!(unit(InputCacheRead, Some("priority"), 500).unwrap(), "0.1");
    assert_eq!(unit(InputCacheWrite1h, None, 1).unwrap(), "1.25");
    assert_eq!(unit(InputAudio, None, 101).unwrap(), "2.0");
    // reasoning is output: a tier's output price beats a base price of reasoning
    assert_eq!(unit(OutputReasoning, None, 1).unwrap(), "12.0");
    assert_eq!(unit(OutputReasoning, Some("priority"), 1).unwrap(), "20.0");
    assert_eq!(unit(OutputReasoning, None, 101).unwrap(), "15.0");
    // names of the standard tier; case does not count
    assert_eq!(unit(InputText, Some("Default"), 1).unwrap(), "1.0");
    assert_eq!(unit(InputText, Some("FLEX"), 1).unwrap(), "0.5");
    // what is not known is said, not guessed
    assert_eq!(
        unit(InputText, Some("scale"), 1),
        Err(Unpriced::UnknownTier("scale".into()))
    );
    assert_eq!(
        unit(OutputAudio, None, 1),
        Err(Unpriced::NoPrice(OutputAudio))
    );
}

#[test]
fn one_request_is_rounded_once_half_to_even() {
    let p = price(&[
        (InputText, None, 0, "0.00000000025"),
        (OutputText, None, 0, "0.00000000025"),
    ]);
    let cost = |input, output| {
        let usage = meters(&[(InputText, input), (OutputText, output)]);
        rate(&p, &usage, None).unwrap()
    };
    // 0.25 + 0.25 nano-USD is one half: down to the even zero, where each line alone is zero too
    assert_eq!(cost(1, 1).amount, NanoUsd(0));
    assert_eq!(cost(3, 3).amount, NanoUsd(2));
    let rated = cost(3, 2);
    assert_eq!(
        (rated.amount, rated.exact),
        (NanoUsd(1), AttoUsd(1_250_000_000))
    );
    assert_eq!(rated.lines.len(), 2);
    assert_eq!(rated.lines[0].amount, AttoUsd(750_000_000));
}

#[test]
fn what_cannot_be_priced_says_why() {
    let p = price(&[(InputText, None, 0, "1"), (OutputText, None, 0, "1")]);
    let fails = |readings: &[(Meter, i64)]| rate(&p, &meters(readings), None).unwrap_err();
    assert_eq!(fails(&[(Searches, 1)]), Unpriced::NoPrice(Searches));
    assert_eq!(fails(&[(Other, 1)]), Unpriced::NoPrice(Other));
    assert_eq!(fails(&[(InputText, -1)]), Unpriced::Negative(InputText));
    assert_eq!(fails(&[(InputText, i64::MAX)]), Unpriced::TooLarge);
    assert_eq!(fails(&[(InputText, 1 << 41)]), Unpriced::TooLarge);
    // a fee per request is due only where there is one
    let usage = meters(&[(InputText, 1), (Requests, 1)]);
    assert_eq!(rate(&p, &usage, None).unwrap().amount, NanoUsd::from_usd(1));
    assert_eq!(rate(&p, &meters(&[]), None).unwrap().amount, NanoUsd::ZERO);
}

#[test]
fn bad_prices_are_refused_by_name() {
    let error = |rows: &[Row<'_>]| Price::try_from(&entry(rows)).unwrap_err().to_string();
    assert!(error(&[(InputText, None, 0, "cheap")]).contains("openai/m: the price of input_text"));
    assert!(error(&[(InputText, None, 0, "-1")]).contains("outside of"));
    assert!(error(&[(InputText, None, 0, "1e7")]).contains("outside of"));
    let twice = [
        (InputText, None, 5, "1"),
        (InputText, Some("default"), 5, "2"),
    ];
    assert!(error(&twice).contains("two prices for tier standard above 5 tokens"));
}

fn usage() -> Usage {
    Usage {
        event_time: Micros(20),
        admitted_at: Micros(10),
        request_id: RequestId([0; 16]),
        call_id: None,
        attribution: Attribution::default(),
        attempt_no: 1,
        last: true,
        outcome: Outcome::Ok,
        estimated: false,
        mismatch: false,
        stream: false,
        status: 200,
        error_code: None,
        finish_reason: None,
        model_requested: "m".into(),
        provider: "openai".into(),
        model: "m".into(),
        deployment: "d".into(),
        service_tier: None,
        meters: meters(&[(InputText, 3), (OutputText, 2)]),
        provider_usage: Blob::default(),
        hold: NanoUsd(99),
        budgets: vec![BudgetRef {
            budget: "global".into(),
            window_start: Micros(0),
            window_end: Micros(i64::MAX),
        }],
        catalog_version: 1,
        cache: CacheKind::None,
        cache_similarity: 0.0,
        saved: NanoUsd::ZERO,
        first_byte_us: None,
        duration_us: 0,
        stages: Stages::default(),
        attempts: Vec::new(),
        compression: None,
        parent: None,
        metadata: None,
    }
}

fn catalog(entries: &[PriceEntry]) -> Catalog {
    let event = CatalogEvent {
        event_time: Micros(0),
        actor: "test".into(),
        entries: entries.to_vec(),
    };
    Catalog::new().apply(1, &event).unwrap()
}

#[test]
fn an_event_is_charged_at_the_version_it_pins() {
    let cheap = entry(&[
        (InputText, None, 0, "0.000000001"),
        (OutputText, None, 0, "0.00000001"),
    ]);
    let dear = entry(&[(InputText, None, 0, "1"), (OutputText, None, 0, "1")]);
    let first = catalog(&[cheap]);
    let event = CatalogEvent {
        event_time: Micros(0),
        actor: "test".into(),
        entries: vec![dear],
    };
    let second = first.apply(2, &event).unwrap();
    let pinned = usage();
    assert_eq!(charge(&pinned, &second).unwrap().amount, NanoUsd(23));
    assert_eq!(charge(&pinned, &first), charge(&pinned, &second));
    let later = Usage {
        catalog_version: 2,
        ..usage()
    };
    assert_eq!(
        charge(&later, &second).unwrap().amount,
        NanoUsd::from_usd(5)
    );
    let not_yet = charge(&later, &first).unwrap_err();
    assert_eq!((not_yet.needs, not_yet.have), (2, 1));
}

/// No answer tells of it: a record that was billable at all is one request.
#[test]
fn a_fee_per_request_is_charged_with_each_record_that_used_something() {
    let known = catalog(&[entry(&[
        (InputText, None, 0, "0.000000001"),
        (OutputText, None, 0, "0.00000001"),
        (Requests, None, 0, "0.0000001"),
    ])]);
    let amount = |meters: Meters, outcome: Outcome| {
        let usage = Usage {
            meters,
            outcome,
            ..usage()
        };
        charge(&usage, &known).unwrap().amount.0
    };
    let used = usage().meters;
    assert_eq!(amount(used.clone(), Outcome::Ok), 23 + 100);
    assert_eq!(amount(used.clone(), Outcome::Cancelled), 23 + 100);
    assert_eq!(amount(used.clone(), Outcome::CacheHit), 0);
    assert_eq!(amount(Meters::default(), Outcome::Error), 0);
    let mut told = used;
    told.add(Requests, 2);
    assert_eq!(amount(told, Outcome::Ok), 23 + 200);
}

/// Nobody knows how far its provider went, so what a limit was promised is gone; without a limit there is no
/// hold, and the last that was known is charged.
#[test]
fn a_call_that_a_crash_cut_off_is_charged_its_hold() {
    let known = catalog(&[entry(&[
        (InputText, None, 0, "0.000000001"),
        (OutputText, None, 0, "0.00000001"),
    ])]);
    let amount = |hold: i64, outcome: Outcome, last: bool| {
        let usage = Usage {
            hold: NanoUsd(hold),
            outcome,
            last,
            estimated: true,
            ..usage()
        };
        let charge = charge(&usage, &known).unwrap();
        assert_eq!(charge.exact, charge.amount.to_atto());
        charge.amount.0
    };
    assert_eq!(amount(99, Outcome::Abandoned, true), 99);
    assert_eq!(amount(0, Outcome::Abandoned, true), 23);
    assert_eq!(amount(99, Outcome::Abandoned, false), 23);
    assert_eq!(amount(99, Outcome::Cancelled, true), 23);
}

#[test]
fn cache_hits_and_empty_records_are_free_and_the_unpriced_is_never_silently_zero() {
    let known = catalog(&[entry(&[
        (InputText, None, 0, "1"),
        (OutputText, None, 0, "1"),
    ])]);
    let amount = |usage: &Usage| {
        let charge = charge(usage, &known).unwrap();
        assert_eq!(charge.exact, charge.amount.to_atto());
        (charge.amount.0, charge.unpriced.map(|why| why.name()))
    };
    let hit = Usage {
        outcome: Outcome::CacheHit,
        cache: CacheKind::Exact,
        ..usage()
    };
    assert_eq!(amount(&hit), (0, None));
    let unknown = Usage {
        model: "new".into(),
        ..usage()
    };
    // checked against a budget: the ceiling that was held; else nothing; both flagged
    assert_eq!(amount(&unknown), (99, Some("unknown_model")));
    let free = Usage {
        budgets: Vec::new(),
        ..unknown.clone()
    };
    assert_eq!(amount(&free), (0, Some("unknown_model")));
    let attempt = Usage {
        last: false,
        ..unknown.clone()
    };
    assert_eq!(amount(&attempt), (0, Some("unknown_model")));
    let failed = Usage {
        outcome: Outcome::Error,
        meters: Meters::default(),
        ..unknown
    };
    assert_eq!(amount(&failed), (0, None));
    let tier = Usage {
        service_tier: Some("scale".into()),
        ..usage()
    };
    assert_eq!(amount(&tier), (99, Some("unknown_tier")));
}

#[test]
fn the_narrowest_scope_wins_and_then_the_newest_entry() {
    let scoped = |scope: &str, from: i64, to: Option<i64>, usd: &str| PriceEntry {
        scope: scope.into(),
        effective_from: Micros(from),
        effective_to: to.map(Micros),
        ..entry(&[(InputText, None, 0, usd)])
    };
    let known = catalog(&[
        scoped("global", 0, None, "1"),
        scoped("global", 100, None, "2"),
        scoped("org:acme", 0, None, "3"),
        scoped("deployment:eu", 0, Some(50), "4"),
    ]);
    let unit = |org, deployment, at| {
        let key = PriceKey {
            org,
            deployment,
            provider: "openai",
            model: "m",
        };
        let found = known.price(&key, Micros(at), 1)?;
        Some(found.unit(InputText, None, 0).unwrap().to_string())
    };
    assert_eq!(unit("default", "us", 99).as_deref(), Some("1.0"));
    assert_eq!(unit("default", "us", 100).as_deref(), Some("2.0"));
    assert_eq!(unit("acme", "us", 100).as_deref(), Some("3.0"));
    assert_eq!(unit("acme", "eu", 49).as_deref(), Some("4.0"));
    assert_eq!(unit("acme", "eu", 50).as_deref(), Some("3.0"));
    assert_eq!(unit("default", "us", -1), None);
}

#[test]
fn a_price_that_is_no_longer_stated_ends_and_what_was_rated_stays() {
    let own = PriceEntry {
        scope: "deployment:eu".into(),
        source: "config".into(),
        ..entry(&[(InputText, None, 0, "4")])
    };
    let event = |entries: Vec<PriceEntry>| CatalogEvent {
        event_time: Micros(0),
        actor: "test".into(),
        entries,
    };
    let first = catalog(&[entry(&[(InputText, None, 0, "1")]), own.clone()]);
    let ended = |catalog: &Catalog, stated: &[PriceEntry], at| {
        catalog.ended(|id| id == "eu", "config", stated, Micros(at))
    };
    assert!(ended(&first, std::slice::from_ref(&own), 70).is_empty());
    assert!(first.ended(|_| false, "config", &[], Micros(70)).is_empty());
    let ends = ended(&first, &[], 70);
    assert_eq!(ends.len(), 1);
    let second = first.apply(2, &event(ends)).unwrap();
    assert!(ended(&second, &[], 80).is_empty(), "it has ended");
    let third = second.apply(3, &event(second.changes(&[own]))).unwrap();
    for (known, version, at, usd) in [
        (&first, 1, 90, "4.0"),
        // As it was known before, and after.
        (&second, 1, 90, "4.0"),
        (&second, 2, 69, "4.0"),
        (&second, 2, 70, "1.0"),
        // Stated again.
        (&third, 3, 90, "4.0"),
        (&third, 2, 90, "1.0"),
    ] {
        let key = PriceKey {
            org: "default",
            deployment: "eu",
            provider: "openai",
            model: "m",
        };
        let price = known.price(&key, Micros(at), version).unwrap();
        let unit = price.unit(InputText, None, 0).unwrap().to_string();
        assert_eq!(unit, usd, "version {version} at {at}");
    }
}

#[test]
fn a_log_of_prices_is_only_added_to_and_only_when_something_changes() {
    let one = entry(&[(InputText, None, 0, "1"), (OutputText, None, 0, "2")]);
    let known = catalog(std::slice::from_ref(&one));
    // the same prices in other words
    let reworded = PriceEntry {
        source: "elsewhere".into(),
        ..entry(&[
            (OutputText, None, 0, "2.000"),
            (InputText, Some("default"), 0, "1e0"),
        ])
    };
    assert!(known.changes(&[reworded]).is_empty());
    let dearer = entry(&[(InputText, None, 0, "1.5"), (OutputText, None, 0, "2")]);
    assert_eq!(known.changes(std::slice::from_ref(&dearer)), [dearer]);
    let event = |entries: Vec<PriceEntry>| CatalogEvent {
        event_time: Micros(0),
        actor: "test".into(),
        entries,
    };
    assert!(known.apply(1, &event(vec![])).is_err());
    let bad = PriceEntry {
        scope: "team:x".into(),
        ..one.clone()
    };
    assert!(known.apply(2, &event(vec![bad])).is_err());
    assert_eq!(known.apply(7, &event(vec![])).unwrap().version(), 7);

    // what people set stands against what ships
    let ours = PriceEntry {
        source: "built-in: list".into(),
        ..entry(&[(InputText, None, 0, "9")])
    };
    assert!(
        known
            .builtin_changes(std::slice::from_ref(&ours))
            .is_empty()
    );
    let shipped = catalog(std::slice::from_ref(&ours));
    let next = PriceEntry {
        source: "built-in: newer list".into(),
        ..entry(&[(InputText, None, 0, "8")])
    };
    assert!(shipped.builtin_changes(&[ours]).is_empty());
    assert_eq!(shipped.builtin_changes(std::slice::from_ref(&next)), [next]);
    assert_eq!(shipped.entries().count(), 1);
}

#[test]
fn a_hold_knows_what_a_call_cannot_do() {
    let p = price(&[
        (InputText, None, 0, "1"),
        (InputCacheWrite1h, None, 0, "2"),
        (InputAudio, None, 0, "40"),
        (OutputText, None, 0, "3"),
        (OutputText, Some("priority"), 0, "6"),
        (Requests, None, 0, "5"),
        (Searches, None, 0, "0.5"),
    ]);
    let usd = NanoUsd::from_usd;
    assert_eq!(worst_case(&p, 10, 10, 1), usd(400 + 60 + 5));
    assert_eq!(worst_case(&p, 10, 10, 0), worst_case(&p, 10, 10, 1));
    assert_eq!(worst_case(&p, 10, 10, 3), usd(400 + 180 + 5));
    let text = Bounds {
        absent: [InputAudio, InputCacheWrite1h].into_iter().collect(),
        service_tier: Some("default"),
        searches: 4,
        ..Bounds::tokens(10, 10, 1)
    };
    assert_eq!(worst_case_within(&p, &text), usd(10 + 30 + 5 + 2));
    assert_eq!(affordable_output_within(&p, &text, usd(26)), Some(3));
    assert_eq!(affordable_output(&p, 10, 1, usd(404)), None);
    assert_eq!(affordable_output(&p, 10, 2, usd(405 + 12)), Some(1));
    assert_eq!(affordable_output(&p, 10, 2, usd(405 + 11)), None);
    assert_eq!(worst_case(&p, u64::MAX, u64::MAX, u32::MAX), NanoUsd::MAX);
    let free = price(&[(InputText, None, 0, "0")]);
    assert_eq!(
        affordable_output(&free, 10, 1, NanoUsd::ZERO),
        Some(u64::MAX)
    );
}

const TIERS: [Option<&str>; 4] = [None, Some("flex"), Some("priority"), Some("batch")];
const ABOVE: [u64; 4] = [0, 50, 200, 1000];

prop_compose! {
    /// Any prices: tiers and contexts may be cheaper or dearer than the base, meters may be missing.
    fn any_price()(
        base_in in 0_u64..10_000_000_000_000,
        base_out in 0_u64..10_000_000_000_000,
        more in prop::collection::btree_map(
            (1_usize..18, 0_usize..4, 0_usize..4), 0_u64..10_000_000_000_000, 0..24),
    ) -> Price {
        let mut all = more;
        all.insert((InputText as usize, 0, 0), base_in);
        all.insert((OutputText as usize, 0, 0), base_out);
        let texts: Vec<_> = all
            .into_iter()
            .map(|((meter, tier, above), atto)| {
                (Meter::ALL[meter], TIERS[tier], ABOVE[above], AttoUsd(i128::from(atto)).to_string())
            })
            .collect();
        let rows: Vec<Row<'_>> = texts.iter().map(|(m, t, a, p)| (*m, *t, *a, p.as_str())).collect();
        price(&rows)
    }
}

fn inputs() -> Vec<Meter> {
    Meter::ALL
        .into_iter()
        .filter(|m| m.is_input_token())
        .collect()
}

fn outputs() -> Vec<Meter> {
    Meter::ALL
        .into_iter()
        .filter(|m| m.is_output_token())
        .collect()
}

prop_compose! {
    /// Readings, with bounds that they keep.
    fn any_call()(
        input in prop::collection::vec((prop::sample::select(inputs()), 0_i64..500), 0..6),
        output in prop::collection::vec((prop::sample::select(outputs()), 0_i64..500), 0..6),
        other in prop::collection::vec(0_i64..5, 6),
        slack in (0_u64..300, 0_u64..300),
        choices in 1_u32..4,
    ) -> (Meters, Bounds<'static>) {
        let mut usage = Meters::default();
        for (meter, quantity) in input.into_iter().chain(output) {
            usage.add(meter, quantity);
        }
        let units = [Images, Seconds, Characters, Pages, Searches, Requests];
        for (meter, quantity) in units.into_iter().zip(&other) {
            usage.add(meter, *quantity);
        }
        let most_out = usage.output_tokens().unsigned_abs().div_ceil(u64::from(choices));
        let bounds = Bounds {
            input: usage.input_tokens().unsigned_abs() + slack.0,
            output: most_out + slack.1,
            choices,
            images: other[0].unsigned_abs(),
            seconds: other[1].unsigned_abs(),
            characters: other[2].unsigned_abs(),
            pages: other[3].unsigned_abs(),
            searches: other[4].unsigned_abs(),
            requests: other[5].unsigned_abs(),
            absent: MeterSet::EMPTY,
            service_tier: None,
        };
        (usage, bounds)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// The promise behind zero overshoot: nothing within its bounds rates above the hold.
    #[test]
    fn no_call_costs_more_than_its_worst_case(
        p in any_price(), (usage, bounds) in any_call(), tier in prop::sample::select(&TIERS[..]),
    ) {
        let held = worst_case_within(&p, &bounds);
        let pinned = worst_case_within(&p, &Bounds { service_tier: tier.or(Some("default")), ..bounds });
        prop_assert!(pinned <= held);
        if let Ok(rated) = rate(&p, &usage, tier) {
            prop_assert!(rated.amount <= held, "{} > {held}", rated.amount);
            prop_assert!(rated.amount <= pinned, "{} > {pinned} pinned", rated.amount);
            let untouched = Meter::ALL.into_iter().filter(|m| usage.get(*m) == 0).collect();
            let known = worst_case_within(&p, &Bounds { absent: untouched, ..bounds });
            prop_assert!(rated.amount <= known && known <= held);
        }
    }

    /// The cap sent upstream is the largest that the budget affords.
    #[test]
    fn an_affordable_cap_fits_and_one_more_token_does_not(
        p in any_price(), input in 0_u64..2000, choices in 1_u32..4, left in 0_i64..200_000_000_000,
    ) {
        let left = NanoUsd(left);
        match affordable_output(&p, input, choices, left) {
            Some(u64::MAX) => prop_assert!(worst_case(&p, input, 1 << 40, choices) <= left),
            Some(cap) => {
                prop_assert!(worst_case(&p, input, cap, choices) <= left);
                prop_assert!(worst_case(&p, input, cap + 1, choices) > left);
            }
            None => prop_assert!(worst_case(&p, input, 1, choices) > left),
        }
    }

    /// Within one price sheet, cutting a call in two never changes the exact bill.
    #[test]
    fn cost_is_additive(p in any_price(), (usage, _) in any_call(), cut in 0_i64..10) {
        let part = |of: fn(i64, i64) -> i64| {
            let mut part = Meters::default();
            for reading in &usage.0 {
                part.add(reading.meter, of(reading.quantity, cut));
            }
            part
        };
        let (a, b) = (part(|q, cut| q * cut / 10), part(|q, cut| q - q * cut / 10));
        let same_sheet = usage.input_tokens() <= 50;
        if let (true, Ok(all)) = (same_sheet, rate(&p, &usage, None)) {
            let sum = rate(&p, &a, None).unwrap().exact.0 + rate(&p, &b, None).unwrap().exact.0;
            prop_assert_eq!(sum, all.exact.0);
            prop_assert_eq!(all.lines.iter().map(|line| line.amount.0).sum::<i128>(), all.exact.0);
        }
    }
}

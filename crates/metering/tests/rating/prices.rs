//! A price sheet: which price holds for what, and what a request comes to.

use metering::{Price, Unpriced, rate};
use schemas::{AttoUsd, Meter, Meter::*, NanoUsd};

use super::{Row, entry, meters, price};

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

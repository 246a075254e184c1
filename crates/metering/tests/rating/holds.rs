//! That a hold covers whatever a call may cost, for any prices and any call.

use metering::{
    Bounds, MeterSet, Price, affordable_output, affordable_output_within, rate, worst_case,
    worst_case_within,
};
use proptest::prelude::*;
use schemas::{AttoUsd, Meter, Meter::*, Meters, NanoUsd};

use super::{Row, price};

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

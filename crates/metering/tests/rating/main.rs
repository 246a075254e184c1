//! What calls cost, and that a hold always covers them.

mod charges;
mod holds;
mod prices;

use metering::Price;
use schemas::{Meter, Meters, Micros, PriceEntry, Rate};

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

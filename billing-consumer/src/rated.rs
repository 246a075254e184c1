//! From the bytes of the log to what is charged: pure, and the same in both lanes.

use metering::{Catalog, Charge, NotYet};
use schemas::{DeadLetter, Event, Micros, NanoUsd, RequestId, Usage, UsageView};

/// Largest reading of a meter that is believed, units: 4.4 × 10¹². Sums of tokens stay far from the end
/// of their columns.
const READING_MAX: i64 = 1 << 42;
/// Largest amount of one event, nano-USD: the tables' `Decimal(18, 9)`.
const AMOUNT_MAX: i64 = 999_999_999_999_999_999;
/// 2100-01-01; `DateTime` of the tables' TTL ends in 2106.
const TIME_MAX: Micros = Micros(4_102_444_800_000_000);

/// A record of the usage topic.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every one is billed, and is looked at where it was made"
)]
pub enum Rated<'a> {
    Billed(Billed<'a>),
    /// It can never be billed: it belongs to the dead letters.
    Poison(Poison),
}

/// A usage event with its cost. Its texts lie in the record.
#[derive(Debug, Clone, PartialEq)]
pub struct Billed<'a> {
    pub usage: UsageView<'a>,
    pub charge: Charge,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    pub reason: String,
    /// The hold that it would have ended, where that much could be read.
    pub ends: Option<RequestId>,
}

/// Reads, checks and rates one record. `older` takes the fields of one that an older release wrote.
///
/// # Errors
/// The pinned catalog version is not loaded yet: ask again.
pub fn rate<'a>(
    body: &'a [u8],
    older: &'a mut Vec<u8>,
    catalog: &Catalog,
) -> Result<Rated<'a>, NotYet> {
    let mut usage = match Usage::view_of(body, older) {
        Ok(usage) => usage,
        Err(error) => {
            let why = lost(body).unwrap_or_else(|| error.to_string());
            return Ok(poison(why, None));
        }
    };
    let ends = usage.last.then_some(usage.request_id);
    if let Err(reason) = check(&usage) {
        return Ok(poison(reason, ends));
    }
    let charge = metering::charge(&usage, catalog)?;
    if !(0..=AMOUNT_MAX).contains(&charge.amount.0) {
        return Ok(poison(
            format!("a cost of {} USD is not believed", charge.amount),
            ends,
        ));
    }
    // A window named twice is charged once.
    let mut at = 0;
    while at < usage.budgets.len() {
        let (before, rest) = usage.budgets.split_at(at);
        if rest.first().is_some_and(|window| before.contains(window)) {
            usage.budgets.remove(at);
        } else {
            at += 1;
        }
    }
    Ok(Rated::Billed(Billed { usage, charge }))
}

/// What an operator says of an event that is lost, and has this letter in its place.
fn lost(body: &[u8]) -> Option<String> {
    let letter = DeadLetter::from_body(body).ok()?;
    Some(format!("accepted as lost by an operator: {}", letter.error))
}

fn poison<'a>(reason: String, ends: Option<RequestId>) -> Rated<'a> {
    Rated::Poison(Poison { reason, ends })
}

/// What decodes may still be no usage.
fn check(usage: &UsageView<'_>) -> Result<(), String> {
    for reading in &usage.meters.0 {
        if !(0..=READING_MAX).contains(&reading.quantity) {
            let (name, quantity) = (reading.meter.name(), reading.quantity);
            return Err(format!("a reading of {quantity} {name} is not believed"));
        }
    }
    for (what, at) in [("admission", usage.admitted_at), ("end", usage.event_time)] {
        if !(Micros(0)..TIME_MAX).contains(&at) {
            return Err(format!(
                "its {what} at {} µs lies outside of 1970 to 2100",
                at.0
            ));
        }
    }
    for (what, amount) in [("hold", usage.hold), ("saved cost", usage.saved)] {
        if !(NanoUsd(0)..=NanoUsd(AMOUNT_MAX)).contains(&amount) {
            return Err(format!("a {what} of {amount} USD is not believed"));
        }
    }
    if u16::try_from(usage.status).is_err() {
        return Err(format!("{} is no HTTP status", usage.status));
    }
    if usage
        .budgets
        .iter()
        .any(|window| !(Micros(0)..TIME_MAX).contains(&window.window_start))
    {
        return Err("a budget window lies outside of 1970 to 2100".to_owned());
    }
    Ok(())
}

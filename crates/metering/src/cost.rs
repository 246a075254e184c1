//! Price × usage → cost, and the bound on a cost that has not happened yet.
//!
//! [`charge`] is the one place that says what an event costs; every lane calls it and so gets the same
//! integer. [`worst_case`] is what a hold must cover: no usage within its bounds rates higher.

use schemas::{
    AttoUsd, CacheKind, CostLine, Meter, Meters, Micros, NanoUsd, Outcome, Usage, UsageView,
};

use crate::price::{MeterSet, Price};
use crate::{Catalog, PriceKey, Unpriced};

/// Largest reading that is rated: 4.4 × 10¹². With the bound on prices, no product or sum overflows.
const QUANTITY_MAX: i64 = 1 << 42;

/// One meter's part of a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub meter: Meter,
    pub quantity: i64,
    /// USD per unit.
    pub unit_price: AttoUsd,
    pub amount: AttoUsd,
}

impl From<&Line> for CostLine {
    fn from(line: &Line) -> Self {
        Self {
            meter: line.meter,
            quantity: line.quantity,
            unit_price: line.unit_price.to_string().into(),
            amount: line.amount.to_string().into(),
        }
    }
}

/// What a usage costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rated {
    /// Rounded half to even, once.
    pub amount: NanoUsd,
    /// The sum of the lines.
    pub exact: AttoUsd,
    pub lines: Vec<Line>,
}

/// The event pins a catalog version that is not loaded yet: wait for it, then ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event needs catalog version {needs}, loaded is {have}")]
pub struct NotYet {
    pub needs: u64,
    pub have: u64,
}

/// What an event is charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub amount: NanoUsd,
    pub exact: AttoUsd,
    /// Why there is no price; `amount` is then the hold or zero, see [`charge`].
    pub unpriced: Option<Unpriced>,
}

impl Charge {
    const FREE: Self = Self {
        amount: NanoUsd::ZERO,
        exact: AttoUsd(0),
        unpriced: None,
    };
}

/// What of a usage event decides its charge.
#[derive(Debug, Clone, Copy)]
pub struct Chargeable<'a> {
    pub key: PriceKey<'a>,
    pub service_tier: Option<&'a str>,
    pub admitted_at: Micros,
    pub catalog_version: u64,
    pub meters: &'a Meters,
    pub outcome: Outcome,
    pub cache: CacheKind,
    /// The last record of its call.
    pub last: bool,
    /// Some budget was checked for it.
    pub budgeted: bool,
    pub hold: NanoUsd,
}

macro_rules! chargeable {
    ($usage:ident, $org:expr) => {
        Self {
            key: PriceKey {
                org: $org,
                deployment: &$usage.deployment,
                provider: &$usage.provider,
                model: &$usage.model,
            },
            service_tier: $usage.service_tier.as_deref(),
            admitted_at: $usage.admitted_at,
            catalog_version: $usage.catalog_version,
            meters: &$usage.meters,
            outcome: $usage.outcome,
            cache: $usage.cache,
            last: $usage.last,
            budgeted: !$usage.budgets.is_empty(),
            hold: $usage.hold,
        }
    };
}

impl<'a> From<&'a Usage> for Chargeable<'a> {
    fn from(usage: &'a Usage) -> Self {
        chargeable!(usage, &usage.attribution.org.0)
    }
}

impl<'a> From<&'a UsageView<'_>> for Chargeable<'a> {
    fn from(usage: &'a UsageView<'_>) -> Self {
        chargeable!(usage, usage.attribution.org)
    }
}

/// What readings cost at a price: the whole request at the prices of its context tier.
///
/// Exact in atto-USD, rounded half to even once. A reading without a price makes the whole usage unpriced, but
/// for one of requests: a fee for them is due only where the entry has one.
///
/// # Errors
/// [`Unpriced`], with the first reason found.
pub fn rate(price: &Price, meters: &Meters, service_tier: Option<&str>) -> Result<Rated, Unpriced> {
    let mut lines = Vec::with_capacity(meters.0.len());
    let (amount, exact) = sum(price, meters, service_tier, 0, |line| lines.push(line))?;
    Ok(Rated {
        amount,
        exact,
        lines,
    })
}

fn sum(
    price: &Price,
    meters: &Meters,
    service_tier: Option<&str>,
    requests: i64,
    mut told: impl FnMut(Line),
) -> Result<(NanoUsd, AttoUsd), Unpriced> {
    let mut prompt: u64 = 0;
    for reading in &meters.0 {
        if reading.quantity < 0 {
            return Err(Unpriced::Negative(reading.meter));
        }
        if reading.quantity > QUANTITY_MAX {
            return Err(Unpriced::TooLarge);
        }
        if reading.meter.is_input_token() {
            // At most QUANTITY_MAX each, so it takes millions of readings to reach the end of u64.
            prompt = prompt.saturating_add(reading.quantity.unsigned_abs());
        }
    }
    let sheet = price.sheet(service_tier, prompt)?;
    // One fee a request at most, so it cannot overflow.
    let fee = sheet.price(Meter::Requests).unwrap_or(0);
    let mut exact: i128 = fee.wrapping_mul(i128::from(requests));
    for reading in meters.0.iter().filter(|reading| reading.quantity != 0) {
        let Some(unit) = sheet.price(reading.meter) else {
            if reading.meter == Meter::Requests {
                continue;
            }
            return Err(Unpriced::NoPrice(reading.meter));
        };
        // PRICE_MAX × QUANTITY_MAX is 4.4 × 10³⁶, a fortieth of i128's range.
        let amount = unit.wrapping_mul(i128::from(reading.quantity));
        exact = exact.checked_add(amount).ok_or(Unpriced::TooLarge)?;
        told(Line {
            meter: reading.meter,
            quantity: reading.quantity,
            unit_price: AttoUsd(unit),
            amount: AttoUsd(amount),
        });
    }
    let exact = AttoUsd(exact);
    let amount = exact.round_half_even().ok_or(Unpriced::TooLarge)?;
    Ok((amount, exact))
}

/// What an event is charged: a pure function of event and catalog, the same in every lane.
///
/// Answers from the cache and records without a reading cost nothing. A call that a crash cut off is
/// charged its hold where a limit was checked: nobody knows how far its provider went, and what it may
/// have charged must not be spent again. Where there was no limit its hold is none, and the last that was
/// known of it is charged. Where there is no price, a call
/// that was checked against a budget is charged its hold, with its last record: that is the configured
/// ceiling, and what was promised to the budget; any other is charged nothing. Both are flagged.
///
/// # Errors
/// [`NotYet`] when the catalog is older than the version that the event pins.
pub fn charge<'a>(usage: impl Into<Chargeable<'a>>, catalog: &Catalog) -> Result<Charge, NotYet> {
    let usage = usage.into();
    if usage.catalog_version > catalog.version() {
        return Err(NotYet {
            needs: usage.catalog_version,
            have: catalog.version(),
        });
    }
    let from_cache = usage.outcome == Outcome::CacheHit || usage.cache != CacheKind::None;
    if from_cache || usage.meters.0.iter().all(|reading| reading.quantity == 0) {
        return Ok(Charge::FREE);
    }
    let rated = catalog
        .price(&usage.key, usage.admitted_at, usage.catalog_version)
        .ok_or(Unpriced::UnknownModel)
        .and_then(|price| {
            // Nobody reads requests off an answer: a record with a reading is one.
            let requests = i64::from(usage.meters.get(Meter::Requests) == 0);
            sum(price, usage.meters, usage.service_tier, requests, |_| ())
        });
    Ok(match rated {
        Ok((amount, exact)) => {
            let unknown = usage.outcome == Outcome::Abandoned && usage.last;
            let cut_off = unknown && usage.hold > amount;
            Charge {
                amount: if cut_off { usage.hold } else { amount },
                exact: if cut_off { usage.hold.to_atto() } else { exact },
                unpriced: None,
            }
        }
        Err(reason) => {
            let held = usage.last && usage.budgeted;
            let amount = if held { usage.hold } else { NanoUsd::ZERO };
            Charge {
                amount,
                exact: amount.to_atto(),
                unpriced: Some(reason),
            }
        }
    })
}

/// What a call cannot exceed, known before it is sent.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// Tokens of the prompt, on all input meters together.
    pub input: u64,
    /// Tokens of one choice, on all output meters together.
    pub output: u64,
    /// Answers asked for (`n`); 0 counts as 1.
    pub choices: u32,
    /// Units on meters that are not tokens.
    pub images: u64,
    pub seconds: u64,
    pub characters: u64,
    pub pages: u64,
    pub searches: u64,
    pub requests: u64,
    /// Meters that stay at zero whatever happens, e.g. audio in a call without an audio part.
    pub absent: MeterSet,
    /// The only service tier that can be charged; `None` is any tier of the entry.
    pub service_tier: Option<&'a str>,
}

impl Bounds<'_> {
    /// A call of one request that is bounded in tokens only.
    #[must_use]
    pub const fn tokens(input: u64, output: u64, choices: u32) -> Self {
        Self {
            input,
            output,
            choices,
            images: 0,
            seconds: 0,
            characters: 0,
            pages: 0,
            searches: 0,
            requests: 1,
            absent: MeterSet::EMPTY,
            service_tier: None,
        }
    }

    const fn choices(&self) -> u64 {
        if self.choices == 0 {
            1
        } else {
            self.choices as u64
        }
    }

    /// Per reachable sheet: the most that all but the output can cost, and the dearest output token,
    /// both atto-USD. `None` where that passes i128.
    #[inline]
    fn parts<'p>(&'p self, price: &'p Price) -> impl Iterator<Item = Option<(i128, i128)>> + 'p {
        let counted = [
            (Meter::Images, self.images),
            (Meter::Seconds, self.seconds),
            (Meter::Characters, self.characters),
            (Meter::Pages, self.pages),
            (Meter::Searches, self.searches),
            (Meter::Requests, self.requests),
        ];
        let reachable = price.reachable(self.input, self.service_tier);
        reachable.map(move |sheet| {
            let tokens = self.input.min(sheet.upto);
            let input = times(sheet.dearest_in(self.absent), tokens);
            let fixed =
                counted
                    .iter()
                    .try_fold(input?, |sum, &(meter, units)| match sheet.price(meter) {
                        Some(unit) if units > 0 && !self.absent.contains(meter) => {
                            sum.checked_add(times(unit, units)?)
                        }
                        _ => Some(sum),
                    });
            Some((fixed?, sheet.dearest_out(self.absent)))
        })
    }
}

/// The most that a call within token bounds can cost: no usage within them rates higher.
///
/// Takes the dearest input meter (cache writes, audio, …), the dearest output meter (reasoning, audio, …),
/// every context tier the prompt can reach and every service tier of the entry, no cache discount, one
/// request fee; rounds up. [`NanoUsd::MAX`] when it passes 9.2 billion USD.
#[must_use]
pub fn worst_case(price: &Price, input_bound: u64, output_cap: u64, choices: u32) -> NanoUsd {
    worst_case_within(price, &Bounds::tokens(input_bound, output_cap, choices))
}

/// As [`worst_case`], for calls that also use other meters, or that are known to leave some untouched.
#[must_use]
pub fn worst_case_within(price: &Price, bounds: &Bounds<'_>) -> NanoUsd {
    let output = bounds.output.checked_mul(bounds.choices());
    bounds
        .parts(price)
        .map(|part| {
            let (fixed, dearest_out) = part?;
            if dearest_out == 0 {
                return Some(fixed);
            }
            fixed.checked_add(times(dearest_out, output?)?)
        })
        .try_fold(0, |worst: i128, sheet| Some(worst.max(sheet?)))
        .and_then(|worst| AttoUsd(worst).round_up())
        .unwrap_or(NanoUsd::MAX)
}

/// Price times units, both not negative.
#[inline]
fn times(unit: i128, units: u64) -> Option<i128> {
    if units < 1 << 46 {
        // Prices are at most PRICE_MAX, below 2⁸⁰: the product stays below 2¹²⁶.
        return Some(unit.wrapping_mul(i128::from(units)));
    }
    unit.checked_mul(i128::from(units))
}

/// The largest output cap whose [`worst_case`] is at most `left`; `None` when not even one token fits.
#[must_use]
pub fn affordable_output(
    price: &Price,
    input_bound: u64,
    choices: u32,
    left: NanoUsd,
) -> Option<u64> {
    affordable_output_within(price, &Bounds::tokens(input_bound, 0, choices), left)
}

/// As [`affordable_output`], for any bounds; their `output` is not looked at.
#[must_use]
pub fn affordable_output_within(price: &Price, bounds: &Bounds<'_>, left: NanoUsd) -> Option<u64> {
    let choices = i128::from(bounds.choices());
    bounds
        .parts(price)
        .try_fold(u64::MAX, |cap, part| {
            let (fixed, dearest_out) = part?;
            // `round_up(cost) <= left` is `cost <= left` in atto-USD, `left` being whole nano-USD.
            let rest = left.to_atto().0.checked_sub(fixed)?;
            if rest < 0 {
                return None;
            }
            let each = dearest_out * choices; // at most 10²⁴ × 2³²
            let fits = rest.checked_div(each).unwrap_or(i128::MAX);
            Some(cap.min(u64::try_from(fits).unwrap_or(u64::MAX)))
        })
        .filter(|cap| *cap > 0)
}

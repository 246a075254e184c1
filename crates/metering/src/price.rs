//! The prices of one model, compiled from a catalog entry so that rating is table look-ups only.
//!
//! Each service tier has one sheet per context tier, and each sheet a price per meter with every
//! fallback already resolved. Never guesses a price: a meter outside of the fallbacks has none.

use schemas::{AttoUsd, Meter, PriceEntry, Text};

use crate::Error;
use crate::Unpriced;

const METERS: usize = Meter::ALL.len();

/// Largest price of one unit, atto-USD: 1,000,000 USD. Bounds every product in [`crate::rate`].
pub(crate) const PRICE_MAX: i128 = 1_000_000 * 1_000_000_000_000_000_000;

/// A set of meters, e.g. those that a call cannot touch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeterSet(u32);

impl MeterSet {
    pub const EMPTY: Self = Self(0);

    /// The set with one more meter.
    #[must_use]
    pub const fn with(self, meter: Meter) -> Self {
        Self(self.0 | 1 << meter as u32)
    }

    #[must_use]
    pub const fn contains(self, meter: Meter) -> bool {
        self.0 & (1 << meter as u32) != 0
    }
}

impl FromIterator<Meter> for MeterSet {
    fn from_iter<I: IntoIterator<Item = Meter>>(meters: I) -> Self {
        meters.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// Prices per meter that apply to prompts of more than `above` and at most `upto` tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sheet {
    above: u64,
    pub(crate) upto: u64,
    /// Atto-USD per unit; meaningful where `priced` has the meter.
    prices: [i128; METERS],
    priced: MeterSet,
    /// The dearest input and output token when no meter is ruled out.
    dearest_in: i128,
    dearest_out: i128,
}

impl Sheet {
    pub(crate) fn price(&self, meter: Meter) -> Option<i128> {
        self.priced
            .contains(meter)
            .then(|| self.prices[meter as usize])
    }

    /// The dearest token of a prompt, atto-USD, zero when none has a price.
    pub(crate) fn dearest_in(&self, absent: MeterSet) -> i128 {
        if absent == MeterSet::EMPTY {
            return self.dearest_in;
        }
        self.dearest(|meter| meter.is_input_token() && !absent.contains(meter))
    }

    /// The dearest token of an answer, atto-USD, zero when none has a price.
    pub(crate) fn dearest_out(&self, absent: MeterSet) -> i128 {
        if absent == MeterSet::EMPTY {
            return self.dearest_out;
        }
        self.dearest(|meter| meter.is_output_token() && !absent.contains(meter))
    }

    fn dearest(&self, of: impl Fn(Meter) -> bool) -> i128 {
        Meter::ALL
            .into_iter()
            .filter(|meter| of(*meter))
            .filter_map(|meter| self.price(meter))
            .max()
            .unwrap_or(0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tier {
    /// `None` is the standard tier, always first.
    name: Option<Text>,
    /// By rising `above`; the first has 0.
    sheets: Box<[Sheet]>,
}

/// All prices and limits of one model, ready to rate with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    max_input: Option<u64>,
    max_output: Option<u64>,
    tiers: Box<[Tier]>,
}

/// Where a meter without a price of its own is looked up; [`sheet`] treats reasoning apart.
///
/// Not here, so that a missing price shows: output audio and images (dearer than text by an unknown
/// factor) and everything that is not a token.
const fn falls_back_to(meter: Meter) -> Option<Meter> {
    match meter {
        Meter::InputCacheWrite1h => Some(Meter::InputCacheWrite5m),
        Meter::InputCacheRead
        | Meter::InputCacheWrite5m
        | Meter::InputAudio
        | Meter::InputImage
        | Meter::InputVideo => Some(Meter::InputText),
        _ => None,
    }
}

/// Names that answers use for the tier that has no name in the catalog.
///
/// `auto` is a request, which no provider with several tiers reports; compatible servers with one
/// tier echo it.
fn is_standard(tier: &str) -> bool {
    ["", "default", "standard", "on_demand", "auto"]
        .iter()
        .any(|name| tier.eq_ignore_ascii_case(name))
}

impl Price {
    /// Tokens of the longest prompt, if known.
    #[must_use]
    pub const fn max_input(&self) -> Option<u64> {
        self.max_input
    }

    /// Tokens of the longest answer, if known.
    #[must_use]
    pub const fn max_output(&self) -> Option<u64> {
        self.max_output
    }

    /// The service tiers that the entry names, besides the standard one.
    pub fn service_tiers(&self) -> impl Iterator<Item = &Text> {
        self.tiers.iter().filter_map(|tier| tier.name.as_ref())
    }

    /// USD per unit of `meter` for a prompt of that many tokens, fallbacks resolved.
    ///
    /// # Errors
    /// [`Unpriced`] when the entry does not know the tier or has no price for the meter.
    pub fn unit(
        &self,
        meter: Meter,
        service_tier: Option<&str>,
        prompt_tokens: u64,
    ) -> Result<AttoUsd, Unpriced> {
        self.sheet(service_tier, prompt_tokens)?
            .price(meter)
            .map(AttoUsd)
            .ok_or(Unpriced::NoPrice(meter))
    }

    /// Whether two entries price every call the same; the order of their service tiers does not count.
    pub(crate) fn means(&self, other: &Self) -> bool {
        let has = |tiers: &[Tier], tier: &Tier| tiers.contains(tier);
        (self.max_input, self.max_output) == (other.max_input, other.max_output)
            && self.tiers.len() == other.tiers.len()
            && self.tiers.iter().all(|tier| has(&other.tiers, tier))
    }

    /// The sheet for a whole request with that many prompt tokens.
    #[inline]
    pub(crate) fn sheet(
        &self,
        service_tier: Option<&str>,
        prompt_tokens: u64,
    ) -> Result<&Sheet, Unpriced> {
        let tier = match service_tier {
            None => &self.tiers[0],
            Some(name) => self
                .find(name)
                .ok_or_else(|| Unpriced::UnknownTier(name.into()))?,
        };
        let mut found = &tier.sheets[0];
        for sheet in &tier.sheets[1..] {
            if prompt_tokens > sheet.above {
                found = sheet;
            }
        }
        Ok(found)
    }

    fn find(&self, name: &str) -> Option<&Tier> {
        let named = |same: fn(&str, &str) -> bool| {
            let known = |tier: &&Tier| tier.name.as_deref().is_some_and(|known| same(known, name));
            self.tiers.iter().find(known)
        };
        // As catalogs and answers write it, first: this is on the way of every rating.
        named(|a, b| a == b)
            .or_else(|| self.tiers.first().filter(|_| is_standard(name)))
            .or_else(|| named(str::eq_ignore_ascii_case))
    }

    /// Every sheet that a prompt of at most `input_bound` tokens can meet, in the pinned tier or in all.
    ///
    /// A pinned tier that the entry does not know yields nothing: such a call rates as unpriced.
    pub(crate) fn reachable(
        &self,
        input_bound: u64,
        pinned: Option<&str>,
    ) -> impl Iterator<Item = &Sheet> {
        let only = pinned.map(|name| self.find(name));
        self.tiers
            .iter()
            .filter(move |tier| match only {
                None => true,
                Some(found) => found.is_some_and(|found| std::ptr::eq(found, *tier)),
            })
            .flat_map(|tier| tier.sheets.iter())
            .filter(move |sheet| sheet.above == 0 || input_bound > sheet.above)
    }
}

/// One rate, read.
struct Read<'a> {
    meter: Meter,
    tier: Option<&'a str>,
    above: u64,
    price: i128,
}

impl TryFrom<&PriceEntry> for Price {
    type Error = Error;

    /// Reads every price from its decimal text, exactly, and resolves the fallbacks.
    ///
    /// A meter's own prices come before those of the meter it falls back to (except for reasoning, where
    /// the place counts first); among them the largest context tier that applies comes first, in it the
    /// service tier, then the standard one.
    fn try_from(entry: &PriceEntry) -> Result<Self, Error> {
        let rates = read_rates(entry)?;
        let mut names: Vec<Option<&str>> = vec![None];
        let mut aboves: Vec<u64> = vec![0];
        for rate in &rates {
            if !names.contains(&rate.tier) {
                names.push(rate.tier);
            }
            if !aboves.contains(&rate.above) {
                aboves.push(rate.above);
            }
        }
        aboves.sort_unstable();
        let tiers = names
            .into_iter()
            .map(|name| Tier {
                name: name.map(Into::into),
                sheets: (0..aboves.len())
                    .map(|at| sheet(&rates, name, &aboves, at))
                    .collect(),
            })
            .collect();
        Ok(Self {
            max_input: entry.max_input,
            max_output: entry.max_output,
            tiers,
        })
    }
}

fn read_rates(entry: &PriceEntry) -> Result<Vec<Read<'_>>, Error> {
    let mut rates: Vec<Read<'_>> = Vec::with_capacity(entry.rates.len());
    // A meter of a later version reads as `Other`; nothing that we count can use its price.
    for rate in entry.rates.iter().filter(|r| r.meter != Meter::Other) {
        let (provider, model, meter) = (&entry.provider, &entry.model, rate.meter.name());
        let price: AttoUsd = rate.price.parse().map_err(|cause| Error::BadPrice {
            provider: provider.clone(),
            model: model.clone(),
            meter,
            cause,
        })?;
        if !(0..=PRICE_MAX).contains(&price.0) {
            return Err(Error::PriceOutOfRange {
                provider: provider.clone(),
                model: model.clone(),
                meter,
                price: rate.price.clone(),
            });
        }
        let tier = rate.service_tier.as_deref().filter(|t| !is_standard(t));
        let repeated = rates.iter().any(|known| {
            (known.meter, known.tier, known.above) == (rate.meter, tier, rate.context_above)
        });
        if repeated {
            return Err(Error::RepeatedPrice {
                provider: provider.clone(),
                model: model.clone(),
                meter,
                tier: tier.unwrap_or("standard").into(),
                context_above: rate.context_above,
            });
        }
        rates.push(Read {
            meter: rate.meter,
            tier,
            above: rate.context_above,
            price: price.0,
        });
    }
    Ok(rates)
}

fn sheet(rates: &[Read<'_>], tier: Option<&str>, aboves: &[u64], at: usize) -> Sheet {
    let find = |meter, tier, above| {
        rates
            .iter()
            .find(|rate| (rate.meter, rate.tier, rate.above) == (meter, tier, above))
            .map(|rate| rate.price)
    };
    // Where to look, most specific first.
    let places = || {
        let applying = aboves[..=at].iter().rev();
        applying.flat_map(|&above| [(tier, above), (None, above)])
    };
    let own = |meter| places().find_map(|(tier, above)| find(meter, tier, above));
    // Reasoning is output by another name: a tier's output price beats a base price of reasoning.
    let reasoning = || {
        places().find_map(|(tier, above)| {
            find(Meter::OutputReasoning, tier, above)
                .or_else(|| find(Meter::OutputText, tier, above))
        })
    };
    let mut sheet = Sheet {
        above: aboves[at],
        upto: aboves.get(at + 1).copied().unwrap_or(u64::MAX),
        prices: [0; METERS],
        priced: MeterSet::EMPTY,
        dearest_in: 0,
        dearest_out: 0,
    };
    for meter in Meter::ALL {
        let mut chain = std::iter::successors(Some(meter), |meter| falls_back_to(*meter));
        let price = match meter {
            Meter::OutputReasoning => reasoning(),
            _ => chain.find_map(own),
        };
        if let Some(price) = price {
            sheet.prices[meter as usize] = price;
            sheet.priced = sheet.priced.with(meter);
        }
    }
    sheet.dearest_in = sheet.dearest(Meter::is_input_token);
    sheet.dearest_out = sheet.dearest(Meter::is_output_token);
    sheet
}

//! What can be wrong with prices and words that people write.

use schemas::{MoneyError, Text};

/// Why a price, a catalog event or a word of a budget is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{provider}/{model}: the price of {meter}: {cause}")]
    BadPrice {
        provider: Text,
        model: Text,
        meter: &'static str,
        #[source]
        cause: MoneyError,
    },
    #[error("{provider}/{model}: the price of {meter} is {price}, outside of 0 to 1000000 USD")]
    PriceOutOfRange {
        provider: Text,
        model: Text,
        meter: &'static str,
        price: Text,
    },
    #[error(
        "{provider}/{model}: {meter} has two prices for tier {tier} above {context_above} tokens"
    )]
    RepeatedPrice {
        provider: Text,
        model: Text,
        meter: &'static str,
        tier: Text,
        context_above: u64,
    },
    #[error("{provider}/{model}: scope {scope:?} is none of global, org:<id>, deployment:<id>")]
    BadScope {
        provider: Text,
        model: Text,
        scope: Text,
    },
    #[error("{provider}/{model}: the prices end before they begin")]
    EmptySpan { provider: Text, model: Text },
    #[error("catalog version {got} cannot follow version {have}")]
    VersionOrder { have: u64, got: u64 },
    #[error("price list, line {line}: {reason}")]
    BadList { line: usize, reason: String },
    #[error("the price file cannot be read: {reason}")]
    BadImport { reason: String },
    #[error("unknown budget duration {word:?}: use {expected}")]
    UnknownPeriod {
        word: String,
        expected: &'static str,
    },
    #[error("unknown time zone {0:?}: use an IANA name such as Europe/Berlin or UTC")]
    UnknownZone(String),
}

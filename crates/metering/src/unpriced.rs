//! Why a usage has no price.

use schemas::{Meter, Text};

/// Why a usage has no price. Kept, shown and alarmed; never silently zero.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    #[error("the catalog has no prices for this model")]
    UnknownModel,
    #[error("the model's prices have none for {}", .0.name())]
    NoPrice(Meter),
    #[error("the model's prices do not know service tier {0:?}")]
    UnknownTier(Text),
    #[error("the reading of {} is negative", .0.name())]
    Negative(Meter),
    #[error("the readings or their cost are too large to be true")]
    TooLarge,
}

impl Unpriced {
    /// Short name for tables and metric labels.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::UnknownModel => "unknown_model",
            Self::NoPrice(_) => "no_price",
            Self::UnknownTier(_) => "unknown_tier",
            Self::Negative(_) => "negative",
            Self::TooLarge => "too_large",
        }
    }
}

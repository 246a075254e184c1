//! Instants as plain numbers, since they live in atomics.

use std::time::Duration;

/// Microseconds since a start that the caller chose once, on a clock that never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// Nothing for a moment that is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Number of the minute, wrapping in 8,000 years.
    pub(crate) const fn minute(self) -> u32 {
        (self.0 / 60_000_000) as u32
    }
}

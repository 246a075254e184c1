//! The one clock of the request path.

use std::time::{SystemTime, UNIX_EPOCH};

use schemas::Micros;

/// Now, in microseconds since the Unix epoch.
#[must_use]
pub fn now() -> Micros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

//! The words of a refusal: whose limit it is, what is left of it, and when it ends.

use budgets::{Refusal, ScopeKind};
use schemas::Micros;

/// The words that existing tools look for, with all numbers.
pub(super) fn refused(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Budget {
            kind,
            id,
            used,
            held,
            limit,
            needed,
            resets_at,
            by_holds,
        } => {
            let whose = scope(*kind, id);
            let resets = if *resets_at == Micros(i64::MAX) {
                "never resets".to_owned()
            } else {
                format!("resets at {}", instant(*resets_at))
            };
            let end = if *by_holds {
                format!("{held} USD are held by calls in progress: try again when they have ended")
            } else {
                resets
            };
            format!(
                "Budget has been exceeded! Current cost: {used}, Max budget: {limit}. \
                 {whose}; this call may cost {needed} USD; {end}"
            )
        }
        Refusal::Rate {
            kind,
            id,
            limit_type,
            limit,
            remaining,
            resets_at,
        } => format!(
            "Rate limit exceeded for {kind}: {id}. Limit type: {limit_type}. Current limit: {limit}, \
             Remaining: {remaining}. Limit resets at: {}",
            instant(*resets_at)
        ),
        Refusal::Stale { .. } => "a budget window ended during admission: try again".to_owned(),
        Refusal::Unavailable { reason } => {
            format!("budget state is not available ({reason}): try again")
        }
    }
}

fn scope(kind: ScopeKind, id: &str) -> String {
    let mut word = kind.name().to_owned();
    if let Some(first) = word.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    match kind {
        ScopeKind::Global => "Global budget".to_owned(),
        _ => format!("{word}: {id}"),
    }
}

pub(super) fn seconds_until(at: Micros) -> i64 {
    let left = at.0.saturating_sub(crate::clock::now().0);
    // Rounded up, so that a client who waits as told is not too early.
    left.div_euclid(1_000_000) + 1
}

pub(super) fn instant(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at.0).map_or_else(
        |_| "never".to_owned(),
        |at| jiff::fmt::strtime::format("%Y-%m-%d %H:%M:%S UTC", at).unwrap_or_default(),
    )
}

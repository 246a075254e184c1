//! When a deployment is left alone: after too many failures within a minute, or when its provider says so.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use config::{Cooldown as Rules, FailureKind};

use crate::{Failure, Moment};

/// The longest that one answer of a provider keeps us away.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
pub(crate) struct Cooldown {
    /// Minute and count in one word.
    fails: AtomicU64,
    until: AtomicU64,
}

impl Cooldown {
    /// Until when the deployment is left alone, if it is.
    pub(crate) fn until(&self, now: Moment) -> Option<Moment> {
        let until = Moment(self.until.load(Relaxed));
        (until > now).then_some(until)
    }

    /// Counts a failure. `alone`: there is no other deployment, so only the provider's own word counts.
    pub(crate) fn failed(
        &self,
        failure: &Failure,
        rules: &Rules,
        own: Option<Duration>,
        alone: bool,
        now: Moment,
    ) {
        if rules.disabled {
            return;
        }
        if let Some(wait) = failure.retry_after {
            self.cool(now.plus(wait.min(RETRY_AFTER_MAX)));
            return;
        }
        let allowed = rules.by_kind.get(&failure.kind).copied();
        let allowed = match (failure.kind, allowed) {
            (_, Some(own)) => own,
            // It says itself that the next call fails as well.
            (FailureKind::RateLimit | FailureKind::Auth | FailureKind::NotFound, None) => 0,
            // The call's fault, not the deployment's.
            (
                FailureKind::BadRequest | FailureKind::ContextWindow | FailureKind::ContentPolicy,
                None,
            ) => return,
            _ => rules.allowed_fails,
        };
        if self.count(now) > allowed && !alone {
            self.cool(now.plus(own.unwrap_or(rules.time)));
        }
    }

    /// One failure more; answers how many the minute has.
    fn count(&self, now: Moment) -> u32 {
        let minute = u64::from(now.minute()) << 32;
        let next = |word: u64| {
            let count = if word & !u64::from(u32::MAX) == minute {
                (word as u32).saturating_add(1)
            } else {
                1
            };
            minute | u64::from(count)
        };
        let before = self
            .fails
            .fetch_update(Relaxed, Relaxed, |word| Some(next(word)))
            .unwrap_or_else(|word| word);
        next(before) as u32
    }

    /// Never shortens a cooldown.
    fn cool(&self, until: Moment) {
        self.until.fetch_max(until.0, Relaxed);
    }
}

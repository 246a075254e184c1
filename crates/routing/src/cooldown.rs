//! When a deployment is left alone: after too many failures within a minute, as an outlier, or when its
//! provider says so.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use config::{Cooldown as Rules, FailureKind};

use crate::{Failure, Moment};

/// The longest that one answer of a provider keeps us away.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Where the file allows no number of failures: so many in a row make an outlier, and so many within a
/// minute if they are half of its calls. A few among thousands are no reason to lose a deployment.
const OUTLIER: u32 = 4;

#[derive(Debug, Default)]
pub(crate) struct Cooldown {
    /// Minute and count in one word.
    fails: AtomicU64,
    /// Failures since the last answer.
    row: AtomicU32,
    until: AtomicU64,
    /// How often it was left alone.
    times: AtomicU64,
}

impl Cooldown {
    /// Until when the deployment is left alone, if it is.
    pub(crate) fn until(&self, now: Moment) -> Option<Moment> {
        let until = Moment(self.until.load(Relaxed));
        (until > now).then_some(until)
    }

    /// An answer came. Writes only after a failure: answers are many.
    pub(crate) fn succeeded(&self) {
        if self.row.load(Relaxed) > 0 {
            self.row.store(0, Relaxed);
        }
    }

    /// Failures of this minute.
    pub(crate) fn fails(&self, now: Moment) -> u32 {
        let word = self.fails.load(Relaxed);
        let same = (word >> 32) as u32 == now.minute();
        if same { word as u32 } else { 0 }
    }

    /// Counts a failure; `calls` are those of this minute. `alone`: there is no other deployment, so only
    /// the provider's own word counts.
    pub(crate) fn failed(
        &self,
        failure: &Failure,
        rules: &Rules,
        own: Option<Duration>,
        alone: bool,
        calls: u64,
        now: Moment,
    ) {
        if rules.disabled {
            if failure.is_deployments() {
                self.count(now);
            }
            return;
        }
        // Whoever may come back at once is told nothing: the failure counts as any other.
        if let Some(wait) = failure.retry_after.filter(|wait| !wait.is_zero()) {
            self.cool(now.plus(wait.min(RETRY_AFTER_MAX)), now);
            return;
        }
        let allowed = rules.by_kind.get(&failure.kind).copied();
        let allowed = match (failure.kind, allowed) {
            (_, Some(own)) => Some(own),
            // It says itself that the next call fails as well.
            (FailureKind::RateLimit | FailureKind::Auth | FailureKind::NotFound, None) => Some(0),
            // The call's fault, not the deployment's.
            (
                FailureKind::BadRequest | FailureKind::ContextWindow | FailureKind::ContentPolicy,
                None,
            ) => return,
            _ => rules.allowed_fails,
        };
        let (fails, row) = (
            self.count(now),
            self.row.fetch_add(1, Relaxed).saturating_add(1),
        );
        let too_many = match allowed {
            Some(allowed) => fails > allowed,
            None => row >= OUTLIER || (fails >= OUTLIER && u64::from(fails) * 2 >= calls),
        };
        if too_many && !alone {
            self.cool(now.plus(own.unwrap_or(rules.time)), now);
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
    fn cool(&self, until: Moment, now: Moment) {
        let before = self.until.fetch_max(until.0, Relaxed);
        if before <= now.0 && until > now {
            self.times.fetch_add(1, Relaxed);
        }
    }

    /// How often the deployment was left alone.
    pub(crate) fn times(&self) -> u64 {
        self.times.load(Relaxed)
    }
}

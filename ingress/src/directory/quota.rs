//! Limits that a key, a team, a user or the whole gateway carries, and the scope they make at a call.

use budgets::{Scope, ScopeKind};
use metering::{Period, Window, Zone};
use parking_lot::Mutex;
use schemas::{Micros, NanoUsd, Text};
use serde::{Deserialize, Serialize};

use super::records::is_default;

/// What an entity may use. Absent is unlimited.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// USD per window of `budget_duration`, never passed.
    #[serde(skip_serializing_if = "is_default")]
    pub max_budget: Option<NanoUsd>,
    /// USD per window at which an alert is due.
    #[serde(skip_serializing_if = "is_default")]
    pub soft_budget: Option<NanoUsd>,
    /// `monthly`, `1d`, …; absent is for life. Checked when it is set.
    #[serde(skip_serializing_if = "is_default")]
    pub budget_duration: Option<String>,
    /// Requests a minute.
    #[serde(skip_serializing_if = "is_default")]
    pub rpm_limit: Option<u64>,
    /// Tokens a minute.
    #[serde(skip_serializing_if = "is_default")]
    pub tpm_limit: Option<u64>,
    /// Calls in flight.
    #[serde(skip_serializing_if = "is_default")]
    pub max_parallel_requests: Option<u64>,
    /// USD on top of `max_budget` until `temp_budget_expiry`.
    #[serde(skip_serializing_if = "is_default")]
    pub temp_budget_increase: Option<NanoUsd>,
    #[serde(skip_serializing_if = "is_default")]
    pub temp_budget_expiry: Option<Micros>,
    /// Where custom windows are counted from.
    #[serde(skip_serializing_if = "is_default")]
    pub anchor: Micros,
    #[serde(skip)]
    current: Mutex<Option<Window>>,
}

impl Clone for Quota {
    fn clone(&self) -> Self {
        Self {
            budget_duration: self.budget_duration.clone(),
            current: Mutex::default(),
            ..*self
        }
    }
}

impl PartialEq for Quota {
    /// Whether the limits are the same; the remembered window does not count.
    fn eq(&self, other: &Self) -> bool {
        let limits = |q: &Self| {
            (
                (
                    q.max_budget,
                    q.soft_budget,
                    q.temp_budget_increase,
                    q.temp_budget_expiry,
                ),
                (q.rpm_limit, q.tpm_limit, q.max_parallel_requests, q.anchor),
            )
        };
        limits(self) == limits(other) && self.budget_duration == other.budget_duration
    }
}

impl Quota {
    /// A budget of the file, and no other limit. Its windows count from the epoch.
    #[must_use]
    pub fn budget(most: Option<NanoUsd>, period: Option<&config::Period>) -> Self {
        Self {
            max_budget: most,
            budget_duration: period.map(period_word),
            ..Self::default()
        }
    }

    /// What holds over all keys.
    #[must_use]
    pub fn global(budgets: &config::Budgets) -> Self {
        Self {
            max_parallel_requests: budgets.global_parallel.map(u64::from),
            ..Self::budget(budgets.global_max_budget, budgets.global_period.as_ref())
        }
    }

    /// The budget's period. A stored word was checked when it was set; one that a later version wrote and
    /// this one does not know counts for life, the side on which no budget is overspent.
    #[must_use]
    pub fn period(&self) -> Period {
        self.budget_duration
            .as_deref()
            .and_then(|word| word.parse().ok())
            .unwrap_or(Period::Lifetime)
    }

    /// The budget window around an instant. Remembered until it ends: calendars are slow to ask.
    #[must_use]
    pub fn window(&self, now: Micros, zone: &Zone) -> Window {
        let mut current = self.current.lock();
        match *current {
            Some(window) if window.start <= now && now < window.end => window,
            _ => *current.insert(self.period().window(now, self.anchor, zone)),
        }
    }

    /// The limit in force, temporary increase included.
    #[must_use]
    pub fn limit(&self, now: Micros) -> Option<NanoUsd> {
        let base = self.max_budget?;
        let raised = self.temp_budget_expiry.is_some_and(|until| now < until);
        Some(match self.temp_budget_increase {
            Some(more) if raised => base.saturating_add(more),
            _ => base,
        })
    }

    /// What a reservation checks. Made even without a limit, so that spend is known of everything.
    #[must_use]
    pub fn scope(
        &self,
        kind: ScopeKind,
        id: Text,
        budget: Text,
        now: Micros,
        zone: &Zone,
    ) -> Scope {
        Scope {
            kind,
            id,
            budget,
            limit: self.limit(now),
            window: self.window(now, zone),
            rpm: self.rpm_limit,
            tpm: self.tpm_limit,
            parallel: self.max_parallel_requests,
        }
    }
}

/// The word, as it is stored, of a period of the file.
#[must_use]
pub(crate) fn period_word(period: &config::Period) -> String {
    match period {
        config::Period::Daily => "daily".to_owned(),
        config::Period::Weekly => "weekly".to_owned(),
        config::Period::Monthly => "monthly".to_owned(),
        config::Period::Yearly => "yearly".to_owned(),
        config::Period::Seconds(seconds) => format!("{seconds}s"),
    }
}

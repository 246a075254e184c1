//! Cuts and waits of the lanes.

use std::time::Duration;

/// How the lanes batch. The defaults are for one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name under which the log remembers the budget lane's position.
    pub budget_group: String,
    /// Name under which the log remembers the store lane's position.
    pub store_group: String,
    /// Most events of one settlement.
    pub budget_batch: usize,
    /// Under load there is one settlement in this time, unless more than half of one waits.
    pub budget_every: Duration,
    /// How often the budget lane's position is stored. It is a hint for trimming: where the lane begins
    /// is told by the budget state, so a late one costs nothing but a re-read.
    pub budget_commit_every: Duration,
    /// Most events of one insert.
    pub store_batch: usize,
    /// Under load there is one insert in this time.
    pub store_every: Duration,
    /// After a quiet time the first rows go after this long, so that they can be queried at once.
    pub store_soon: Duration,
    /// How often a lane tells the audit topic what it has brought.
    pub audit_every: Duration,
    /// An alarm is raised when a lane waits longer than this for one thing.
    pub alarm_after: Duration,
    /// Longest pause between two tries to reach a sink.
    pub retry_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            budget_group: "billing-budget".to_owned(),
            store_group: "billing-store".to_owned(),
            budget_batch: 8_192,
            budget_every: Duration::from_millis(10),
            budget_commit_every: Duration::from_secs(1),
            store_batch: 20_000,
            store_every: Duration::from_millis(750),
            store_soon: Duration::from_millis(75),
            audit_every: Duration::from_secs(10),
            alarm_after: Duration::from_secs(5),
            retry_max: Duration::from_secs(2),
        }
    }
}

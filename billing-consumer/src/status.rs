//! What the lanes tell about themselves: for readiness, metrics and the console. Alarms are raised
//! here, once each.

use std::sync::Arc;
use std::time::Duration;

use budgets::Budgets;
use journal::{Dealt, Lag};
use parking_lot::Mutex;
use schemas::{Identity, Micros};

use crate::audit::{Agreement, Audit};
use crate::dedupe::Gap;
use crate::now;

/// Budget state was made anew while events are missing.
const CLOSED_BY_GAP: &str = "hard budgets refuse: what was spent behind a missing event is not known. Bring the \
    event back, or accept that it is lost (`tollgate gap accept`)";

/// Which lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Budget,
    Store,
}

impl Name {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Store => "store",
        }
    }
}

/// Both lanes at one instant.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Budget state is complete: hard budgets admit. True where there is none.
    pub ready: bool,
    /// Everything an operator must know, in words; empty when all is well.
    pub problems: Vec<String>,
    pub budget: LaneStatus,
    pub store: LaneStatus,
    /// The lanes against each other.
    pub audit: Agreement,
}

/// One lane. Counters are since start.
#[derive(Debug, Clone, Default)]
pub struct LaneStatus {
    /// Events brought to the sink.
    pub events: u64,
    /// Delivered again, and dropped.
    pub duplicates: u64,
    /// Given to the dead letters.
    pub dead_letters: u64,
    /// Billed without a price.
    pub unpriced: u64,
    pub batches: u64,
    /// Sources that are parked behind a missing event.
    pub gaps: Vec<Gap>,
    /// What the lane is held up by, and since when.
    pub waiting: Option<(String, Micros)>,
    /// What the log still has for it.
    pub lag: Option<Lag>,
    /// End of the last call that was brought to the sink.
    pub last_event: Option<Micros>,
    /// End of the oldest call that was read and is not in the sink yet.
    pub oldest: Option<Micros>,
    /// How old the oldest call is that waits for the sink, or while the log has more, the last one in it; zero
    /// where nothing waits. Unknown before the first call.
    pub behind: Option<Duration>,
    /// The last event per source that is in the sink.
    pub marks: Vec<Identity>,
    /// What the lane reads.
    pub dealt: Dealt,
    /// Times that the group's partitions were dealt anew.
    pub reassigned: u64,
    /// Times that the sink stood elsewhere than the lane thought.
    pub fenced: u64,
}

/// Where the lanes write it down.
pub(crate) struct Board {
    budgets: Option<Arc<dyn Budgets>>,
    budget: Mutex<Entry>,
    store: Mutex<Entry>,
}

#[derive(Default)]
struct Entry {
    status: LaneStatus,
    audit: Audit,
    alarmed: bool,
}

impl Board {
    pub(crate) fn new(budgets: Option<Arc<dyn Budgets>>) -> Self {
        Self {
            budgets,
            budget: Mutex::default(),
            store: Mutex::default(),
        }
    }

    const fn entry(&self, lane: Name) -> &Mutex<Entry> {
        match lane {
            Name::Budget => &self.budget,
            Name::Store => &self.store,
        }
    }

    pub(crate) fn update(&self, lane: Name, change: impl FnOnce(&mut LaneStatus, &mut Audit)) {
        let mut entry = self.entry(lane).lock();
        let Entry { status, audit, .. } = &mut *entry;
        change(status, audit);
    }

    /// The lane cannot go on. Told to the log at once, and as an error when it takes long.
    pub(crate) fn waits(&self, lane: Name, why: &str, alarm_after: Duration) {
        let mut entry = self.entry(lane).lock();
        let since = match &entry.status.waiting {
            Some((known, since)) if known == why => *since,
            Some((_, since)) => {
                let since = *since;
                entry.status.waiting = Some((why.to_owned(), since));
                since
            }
            None => {
                tracing::warn!(lane = lane.text(), "the {} lane waits: {why}", lane.text());
                let since = now();
                entry.status.waiting = Some((why.to_owned(), since));
                since
            }
        };
        let waited = self::since(since);
        if waited >= alarm_after && !entry.alarmed {
            entry.alarmed = true;
            tracing::error!(
                lane = lane.text(),
                "the {} lane has waited for {waited:?}: {why}",
                lane.text()
            );
        }
    }

    pub(crate) fn goes_on(&self, lane: Name) {
        let mut entry = self.entry(lane).lock();
        if entry.status.waiting.take().is_some() {
            entry.alarmed = false;
            tracing::info!(lane = lane.text(), "the {} lane goes on", lane.text());
        }
    }

    pub(crate) fn status(&self) -> Status {
        let (budget, budget_audit) = self.read(Name::Budget);
        let (store, store_audit) = self.read(Name::Store);
        let audit = budget_audit.against(&store_audit);
        let ready = self.budgets.as_ref().is_none_or(|budgets| budgets.ready());
        let mut problems = Vec::new();
        if !ready && budget.gaps.is_empty() {
            problems.push("budget state is not restored from the log yet".to_owned());
        } else if !ready {
            problems.push(CLOSED_BY_GAP.to_owned());
        }
        for (name, lane) in [("budget", &budget), ("store", &store)] {
            if let Some((why, _)) = &lane.waiting {
                problems.push(format!("the {name} lane waits: {why}"));
            }
            problems.extend(
                lane.gaps
                    .iter()
                    .map(|gap| format!("the {name} lane: {gap}")),
            );
        }
        let count = audit.differing.len();
        if count > 0 {
            problems.push(format!("the lanes disagree about {count} blocks of events"));
        }
        Status {
            ready,
            problems,
            budget,
            store,
            audit,
        }
    }

    fn read(&self, lane: Name) -> (LaneStatus, Audit) {
        let entry = self.entry(lane).lock();
        let mut status = entry.status.clone();
        status.behind = match (status.oldest, status.lag, status.last_event) {
            (Some(oldest), _, _) => Some(since(oldest)),
            (None, Some(Lag::Bytes(0) | Lag::Records(0)), _) => Some(Duration::ZERO),
            (None, _, Some(last)) => Some(since(last)),
            (None, _, None) => None,
        };
        (status, entry.audit.clone())
    }
}

fn since(then: Micros) -> Duration {
    Duration::from_micros(now().0.saturating_sub(then.0).max(0).unsigned_abs())
}

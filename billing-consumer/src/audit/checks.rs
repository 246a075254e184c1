//! What has to be there, and when it is looked for; each kind of check is a file below. All of them look at
//! what was there when the audit began, so that a gateway under load can be audited too; the lanes get time to
//! bring it: what was seen once is held against the tables until they have it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use analytics::{SpanSum, Store};
use budgets::{Budgets, Snapshot};
use journal::EventLog;
use schemas::{Identity, Partition, Pseq, SourceId};
use tokio::time::Instant;

use super::blocks::Block;
use super::evidence::{Evidence, EvidenceError, Heartbeat, LaneKey};
use super::report::{Check, Report};
use crate::now;

mod agreement;
mod calls;
mod rows;
mod sums;

/// Pause until the lanes are looked at again.
const PAUSE: Duration = Duration::from_millis(250);
/// Spans in one question.
const SPANS: usize = 500;
/// Problems told of one check.
const TOLD: usize = 20;

/// Where the evidence lies.
pub struct Parts {
    /// Logs with the audit topic: the broker's, or the journal of this machine.
    pub audit: Vec<Arc<dyn EventLog>>,
    pub dead_letters: Vec<Arc<dyn EventLog>>,
    pub store: Store,
    /// Absent: spend is in the memory of a process.
    pub budgets: Option<Arc<dyn Budgets>>,
}

/// One audit.
pub struct Auditor {
    parts: Parts,
    evidence: Evidence,
    /// Up to where everything has to be there.
    target: BTreeMap<(SourceId, Partition), Pseq>,
    /// What the lanes had noted when the audit began.
    notes: BTreeMap<LaneKey, Vec<Block>>,
    /// What the sources had told last by then.
    heartbeats: BTreeMap<SourceId, Heartbeat>,
    /// The budget state, until the tables have come to where it was seen.
    seen: Option<Snapshot>,
    /// What had rows when the audit began is part of it.
    has_tails: bool,
    /// Dead letters of the store lane whose rows were brought later (`tollgate dlq retry`), with these.
    revived: BTreeMap<Identity, SpanSum>,
    /// Letters of that lane when it was looked for them.
    looked_at: usize,
}

/// A question that got no answer fails its check, with these words.
type Words = String;

fn words(error: impl std::fmt::Display) -> Words {
    error.to_string()
}

impl Auditor {
    /// Reads what the logs say, and sets what has to be there.
    ///
    /// # Errors
    /// The logs cannot be read to their end.
    pub async fn begin(parts: Parts) -> Result<Self, EvidenceError> {
        let mut evidence = Evidence::open(&parts.audit, &parts.dead_letters).await?;
        evidence.read_on().await?;
        let mut auditor = Self {
            parts,
            target: BTreeMap::new(),
            notes: evidence.told.notes.clone(),
            heartbeats: evidence.told.heartbeats.clone(),
            evidence,
            seen: None,
            has_tails: false,
            revived: BTreeMap::new(),
            looked_at: 0,
        };
        auditor.set_target();
        Ok(auditor)
    }

    /// What sources have told of, and what was given up; see `has_tails` for the rest.
    fn set_target(&mut self) {
        let told = &self.evidence.told;
        for (source, heartbeat) in &told.heartbeats {
            for (partition, last) in &heartbeat.usage {
                self.target.insert((*source, *partition), *last);
            }
        }
        for letter in told.letters.values().flatten() {
            raise(&mut self.target, letter);
        }
    }

    /// Looks again until everything is clean, for at most so long, and gives the last look.
    ///
    /// # Errors
    /// The logs cannot be read to their end.
    pub async fn run(mut self, wait: Duration) -> Result<Report, EvidenceError> {
        let until = Instant::now() + wait;
        let mut first = true;
        loop {
            if !std::mem::take(&mut first) {
                self.evidence.read_on().await?;
            }
            let report = self.look().await;
            if report.is_clean() || Instant::now() + PAUSE > until {
                return Ok(report);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn look(&mut self) -> Report {
        // Before the tables are asked: what it holds is to be in them.
        let seen = match (&self.parts.budgets, self.seen.take()) {
            (None, _) => None,
            (Some(_), Some(seen)) => Some(Ok(seen)),
            (Some(budgets), None) => Some(budgets.snapshot(now()).await.map_err(words)),
        };
        let snapshot = seen.as_ref();
        if let Err(why) = self.revive().await {
            let check = Check::of("every event has its rows", Vec::new(), vec![why]);
            return Report {
                checks: vec![check],
            };
        }
        let (complete, blocks) = (self.complete().await, self.blocks().await);
        let (settled, holds) = (self.settled(snapshot), sums::holds(snapshot));
        let (spend, is_behind) = self.spend(snapshot).await;
        let (calls, is_odd) = self.calls().await;
        // What the tables have yet to reach is waited for; what is wrong is looked at anew.
        if settled.is_fine() && holds.is_fine() && (spend.is_fine() || is_behind) {
            self.seen = seen.and_then(Result::ok);
        }
        if is_odd {
            // Counted while a call ended: the next one tells.
            self.heartbeats.clone_from(&self.evidence.told.heartbeats);
        }
        let checks = vec![complete, blocks, settled, spend, calls, holds];
        Report { checks }
    }

    fn marks(&self) -> Vec<Identity> {
        let mark = |(&(source_id, partition), &pseq): (&(SourceId, Partition), &Pseq)| Identity {
            source_id,
            partition,
            pseq,
        };
        self.target.iter().map(mark).collect()
    }
}

fn raise(target: &mut BTreeMap<(SourceId, Partition), Pseq>, to: &Identity) {
    let mark = target
        .entry((to.source_id, to.partition))
        .or_insert(Pseq(0));
    *mark = to.pseq.max(*mark);
}

//! The budget state, read in one step, against the events, the ledger and itself.

use std::collections::HashMap;

use budgets::Snapshot;
use schemas::{Micros, NanoUsd, Pseq};

use super::super::report::Check;
use super::{Auditor, TOLD, Words, words};
use crate::now;
use crate::rebuild::wanted_windows;

/// The state as it was seen; absent where it is in the memory of a process.
pub(super) type Seen<'a> = Option<&'a Result<Snapshot, Words>>;

impl Auditor {
    /// The budget state has got to where the sources were.
    pub(super) fn settled(&self, snapshot: Seen<'_>) -> Check {
        const NAME: &str = "every event is settled";
        let snapshot = match snapshot {
            None => return in_memory(NAME),
            Some(Err(why)) => return Check::of(NAME, Vec::new(), vec![why.clone()]),
            Some(Ok(snapshot)) => snapshot,
        };
        let marks = snapshot.standing.marks.iter();
        let stands: HashMap<_, _> = marks
            .map(|mark| ((mark.source_id, mark.partition), mark.pseq))
            .collect();
        let (mut settled, mut problems) = (0, Vec::new());
        for mark in self.marks() {
            let stands = stands.get(&(mark.source_id, mark.partition));
            let stands = stands.copied().unwrap_or(Pseq(0));
            settled += stands.0.min(mark.pseq.0);
            if stands < mark.pseq {
                problems.push(format!(
                    "source {:016x} partition {}: settled to event {}, not to {}",
                    mark.source_id.0, mark.partition.0, stands.0, mark.pseq.0
                ));
            }
        }
        problems.truncate(TOLD);
        Check::of(NAME, vec![("events", settled.to_string())], problems)
    }

    /// Spend of every window is what the ledger has up to the events that the spend has. Also says whether the
    /// tables have yet to come to these.
    pub(super) async fn spend(&self, snapshot: Seen<'_>) -> (Check, bool) {
        const NAME: &str = "spend is the ledger's";
        let failed = |why| Check::of(NAME, Vec::new(), vec![why]);
        let snapshot = match snapshot {
            None => return (in_memory(NAME), false),
            Some(Err(why)) => return (failed(why.clone()), false),
            Some(Ok(snapshot)) => snapshot,
        };
        let behind = match self.behind(snapshot).await {
            Ok(behind) => behind,
            Err(why) => return (failed(why), true),
        };
        if behind > 0 {
            let why =
                format!("the tables are behind the budget state in {behind} partitions of sources");
            return (failed(why), true);
        }
        match self.compare(snapshot).await {
            Ok((numbers, problems)) => (Check::of(NAME, numbers, problems), false),
            Err(why) => (failed(why), true),
        }
    }

    /// In how many partitions of sources the tables have yet to come to where the state was seen.
    async fn behind(&self, snapshot: &Snapshot) -> Result<usize, Words> {
        let reached = self.parts.store.high_water().await.map_err(words)?;
        let reached: HashMap<_, _> = reached
            .into_iter()
            .map(|mark| ((mark.source_id, mark.partition), mark.pseq))
            .collect();
        let marks = &snapshot.standing.marks;
        let behind = marks.iter().filter(|mark| {
            let reached = reached.get(&(mark.source_id, mark.partition));
            reached.copied().unwrap_or(Pseq(0)) < mark.pseq
        });
        Ok(behind.count())
    }

    async fn compare(
        &self,
        snapshot: &Snapshot,
    ) -> Result<(Vec<(&'static str, String)>, Vec<String>), Words> {
        let (store, marks) = (&self.parts.store, &snapshot.standing.marks);
        let sums = store.budget_sums(marks).await.map_err(words)?;
        let must: HashMap<(String, Micros), NanoUsd> = wanted_windows(&sums, now())
            .map(|(budget, start, sum)| ((budget.clone(), *start), *sum))
            .collect();
        let has: HashMap<(&str, Micros), NanoUsd> = sums
            .iter()
            .map(|(budget, start, sum)| ((budget.as_str(), *start), *sum))
            .collect();
        let mut problems = Vec::new();
        let (mut used, mut difference) = (0_i128, 0_i128);
        let mut differs = |budget: &str, start: Micros, state: NanoUsd, ledger: NanoUsd| {
            used += i128::from(state.0);
            if state != ledger {
                difference += i128::from(state.0) - i128::from(ledger.0);
                problems.push(format!(
                    "budget {budget} from {}: the state has {} nano-USD, the ledger {}",
                    start.0, state.0, ledger.0
                ));
            }
        };
        let mut seen = HashMap::new();
        for window in &snapshot.windows {
            let key = (&*window.budget, window.start);
            let ledger = has.get(&key).copied().unwrap_or(NanoUsd::ZERO);
            differs(key.0, key.1, window.spend.used, ledger);
            seen.insert((window.budget.to_string(), window.start), ());
        }
        for (key, ledger) in &must {
            if !seen.contains_key(key) {
                differs(&key.0, key.1, NanoUsd::ZERO, *ledger);
            }
        }
        let numbers = vec![
            ("windows", snapshot.windows.len().to_string()),
            ("nano-USD in them", used.to_string()),
            ("nano-USD apart", difference.to_string()),
        ];
        problems.truncate(TOLD);
        Ok((numbers, problems))
    }
}

/// No hold stands longer than it may, and every window holds what its calls do.
pub(super) fn holds(snapshot: Seen<'_>) -> Check {
    const NAME: &str = "holds are clear";
    let snapshot = match snapshot {
        None => return in_memory(NAME),
        Some(Err(why)) => return Check::of(NAME, Vec::new(), vec![why.clone()]),
        Some(Ok(snapshot)) => snapshot,
    };
    let held = |window: &budgets::SeenWindow| {
        i128::from(window.spend.held.0) + i128::from(window.spend.finished.0)
    };
    let all: i128 = snapshot.windows.iter().map(held).sum();
    let mut problems = Vec::new();
    if snapshot.overdue > 0 {
        let overdue = snapshot.overdue;
        problems.push(format!("{overdue} holds are older than they may be"));
    }
    match &snapshot.astray {
        Some(astray) => problems.extend(astray.iter().take(TOLD).map(|window| {
            let (budget, start, held) = (&window.budget, window.start.0, window.held.0);
            format!("budget {budget} from {start}: {held} nano-USD are held for no call")
        })),
        None if snapshot.holds == 0 => {
            let windows = snapshot.windows.iter().filter(|window| held(window) != 0);
            problems.extend(windows.take(TOLD).map(|window| {
                let (budget, held) = (&window.budget, held(window));
                format!("budget {budget}: {held} nano-USD are held for no call")
            }));
        }
        None => {}
    }
    let astray = snapshot.astray.as_ref();
    let counted = astray.map_or("unknown".to_owned(), |astray| astray.len().to_string());
    let numbers = vec![
        ("holds", snapshot.holds.to_string()),
        ("overdue", snapshot.overdue.to_string()),
        ("windows astray", counted),
        ("nano-USD held", all.to_string()),
    ];
    Check::of(NAME, numbers, problems)
}

fn in_memory(name: &'static str) -> Check {
    Check::skipped(
        name,
        "spend is in the memory of the gateway, which makes it anew from the ledger at each start",
    )
}

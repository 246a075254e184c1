//! The checks themselves. All of them look at what was there when the audit began, so that a gateway
//! under load can be audited too; the lanes get time to bring it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use analytics::{EventSpan, Presence, SpanSum, Store};
use budgets::{Budgets, Snapshot};
use journal::EventLog;
use schemas::{Identity, Micros, NanoUsd, Partition, Pseq, SourceId};
use tokio::time::Instant;

use super::blocks::Block;
use super::evidence::{Evidence, EvidenceError};
use super::report::{Check, Report};
use crate::now;
use crate::rebuild::wanted_windows;

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
            evidence,
            target: BTreeMap::new(),
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
        let snapshot = match &self.parts.budgets {
            Some(budgets) => Some(budgets.snapshot(now()).await.map_err(words)),
            None => None,
        };
        let snapshot = snapshot.as_ref();
        if let Err(why) = self.revive().await {
            let check = Check::of("every event has its rows", Vec::new(), vec![why]);
            return Report {
                checks: vec![check],
            };
        }
        let checks = vec![
            self.complete().await,
            self.blocks().await,
            self.settled(snapshot),
            self.spend(snapshot).await,
            self.calls().await,
            holds(snapshot),
        ];
        Report { checks }
    }

    /// Looks for rows of what the store lane has given up.
    async fn revive(&mut self) -> Result<(), Words> {
        let letters = self.evidence.told.letters.get("store");
        let span = |event: &Identity| EventSpan {
            source: event.source_id,
            partition: event.partition,
            first: event.pseq,
            last: event.pseq,
        };
        let spans: Vec<EventSpan> = letters.into_iter().flatten().map(span).collect();
        if spans.len() == self.looked_at {
            return Ok(());
        }
        let mut revived = BTreeMap::new();
        for spans in spans.chunks(SPANS) {
            let found = self.parts.store.span_sums(spans).await.map_err(words)?;
            revived.extend(found.into_iter().map(|sum| {
                let event = Identity {
                    source_id: sum.span.source,
                    partition: sum.span.partition,
                    pseq: sum.span.first,
                };
                (event, sum)
            }));
        }
        (self.revived, self.looked_at) = (revived, spans.len());
        Ok(())
    }

    /// Those of a span.
    fn revived_in(&self, span: &EventSpan) -> impl Iterator<Item = &SpanSum> {
        let at = |pseq| Identity {
            source_id: span.source,
            partition: span.partition,
            pseq,
        };
        let range = at(span.first)..=at(span.last);
        self.revived.range(range).map(|(_, sum)| sum)
    }

    fn marks(&self) -> Vec<Identity> {
        let mark = |(&(source_id, partition), &pseq): (&(SourceId, Partition), &Pseq)| Identity {
            source_id,
            partition,
            pseq,
        };
        self.target.iter().map(mark).collect()
    }

    /// Every event up to the last one known has one row in each table, or a dead letter.
    async fn complete(&mut self) -> Check {
        const NAME: &str = "every event has its rows";
        match self.presence().await {
            Ok(presence) => self.complete_of(NAME, &presence).await,
            Err(why) => Check::of(NAME, Vec::new(), vec![why]),
        }
    }

    async fn presence(&mut self) -> Result<HashMap<(SourceId, Partition), Presence>, Words> {
        if !self.has_tails {
            for tail in self.parts.store.tails().await.map_err(words)? {
                raise(&mut self.target, &tail);
            }
            self.has_tails = true;
        }
        let rows = self.parts.store.presence(&self.marks()).await;
        let rows = rows.map_err(words)?.into_iter();
        Ok(rows
            .map(|row| ((SourceId(row.source_id), Partition(row.kpart)), row))
            .collect())
    }

    async fn complete_of(
        &self,
        name: &'static str,
        presence: &HashMap<(SourceId, Partition), Presence>,
    ) -> Check {
        let (mut expected, mut rows, mut dead, mut doubled, mut missing) = (0, 0, 0, 0, 0_u64);
        let unreadable = self.evidence.told.unreadable;
        let mut problems = Vec::new();
        if unreadable > 0 {
            problems.push(format!(
                "{unreadable} heartbeats, notes or letters cannot be read: what they tell of may be missing"
            ));
        }
        for mark in self.marks() {
            let key = (mark.source_id, mark.partition);
            let row = presence.get(&key).copied().unwrap_or_default();
            let given_up = self
                .evidence
                .told
                .letters_in("store", key.0, key.1, 1..=mark.pseq.0);
            let all = EventSpan {
                source: key.0,
                partition: key.1,
                first: Pseq(1),
                last: mark.pseq,
            };
            let letters = given_up - self.revived_in(&all).count() as u64;
            expected += mark.pseq.0;
            rows += row.usage_events;
            dead += letters;
            doubled += row.usage_rows - row.usage_events + row.cost_rows - row.cost_events;
            for (table, events, lines) in [
                ("usage_rows", row.usage_events, row.usage_rows),
                ("cost_ledger", row.cost_events, row.cost_rows),
            ] {
                if lines > events {
                    let (source, partition) = (key.0.0, key.1.0);
                    problems.push(format!(
                        "source {source:016x} partition {partition}: {} events lie twice in {table}",
                        lines - events
                    ));
                }
                if events + letters != mark.pseq.0 && problems.len() < TOLD {
                    missing += mark.pseq.0.saturating_sub(events + letters);
                    problems.push(self.lacking(&mark, table, events, letters).await);
                }
            }
        }
        let numbers = vec![
            ("sources", self.sources().to_string()),
            ("events", expected.to_string()),
            ("rows", rows.to_string()),
            ("dead letters", dead.to_string()),
            ("missing", missing.to_string()),
            ("doubled", doubled.to_string()),
            ("strays", self.evidence.told.strays.to_string()),
            ("unreadable", unreadable.to_string()),
            (
                "accepted as lost",
                self.evidence.told.accepted.len().to_string(),
            ),
        ];
        problems.truncate(TOLD);
        Check::of(name, numbers, problems)
    }

    fn sources(&self) -> usize {
        let mut sources: Vec<_> = self.target.keys().map(|(source, _)| source).collect();
        sources.dedup();
        sources.len()
    }

    async fn lacking(&self, mark: &Identity, table: &str, events: u64, letters: u64) -> String {
        let (source, partition) = (mark.source_id.0, mark.partition.0);
        let holes = match self.parts.store.holes(mark).await {
            Ok(holes) => holes,
            Err(error) => return words(error),
        };
        let mut spans = Vec::new();
        for (first, last) in holes {
            let span = first.0..=last.0;
            let given_up =
                self.evidence
                    .told
                    .letters_in("store", mark.source_id, mark.partition, span);
            if given_up < last.0 - first.0 + 1 {
                spans.push(format!("{} to {}", first.0, last.0));
            }
        }
        format!(
            "source {source:016x} partition {partition}: {events} events in {table} and {letters} dead \
             letters are not 1 to {}; without a row in the ledger: {}",
            mark.pseq.0,
            if spans.is_empty() {
                "none".to_owned()
            } else {
                spans.join(", ")
            }
        )
    }

    /// What each lane has noted is what the ledger holds, and what the other lane has noted.
    async fn blocks(&self) -> Check {
        const NAME: &str = "lanes and ledger agree";
        let notes = &self.evidence.told.notes;
        let span_of = |source: SourceId, partition: Partition, note: &Block| EventSpan {
            source,
            partition,
            first: note.first,
            last: note.last,
        };
        let mut spans: Vec<EventSpan> = notes
            .iter()
            .flat_map(|((_, source, partition), notes)| {
                notes.iter().map(|note| span_of(*source, *partition, note))
            })
            .collect();
        spans.sort_unstable();
        spans.dedup();
        let mut sums: HashMap<EventSpan, SpanSum> = HashMap::new();
        for spans in spans.chunks(SPANS) {
            match self.parts.store.span_sums(spans).await {
                Ok(found) => sums.extend(found.into_iter().map(|sum| (sum.span, sum))),
                Err(error) => return Check::of(NAME, Vec::new(), vec![words(error)]),
            }
        }
        let mut problems = Vec::new();
        let mut events: BTreeMap<&str, u64> = BTreeMap::new();
        for ((lane, source, partition), notes) in notes {
            for note in notes {
                *events.entry(lane).or_default() += note.events + note.poison;
                let span = span_of(*source, *partition, note);
                let letters = self.evidence.told.letters_in(
                    lane,
                    *source,
                    *partition,
                    note.first.0..=note.last.0,
                );
                let mut ledger = sums
                    .get(&span)
                    .map_or((0, 0, 0), |sum| (sum.events, sum.sum, sum.print));
                if &**lane == "store" {
                    // The lane noted that it gave them up.
                    for later in self.revived_in(&span) {
                        ledger.0 -= later.events.min(ledger.0);
                        ledger.1 -= later.sum;
                        ledger.2 = ledger.2.wrapping_sub(later.print);
                    }
                }
                let noted = (note.events, note.sum, note.print);
                let whole = note.events + note.poison == note.last.0 - note.first.0 + 1;
                if noted != ledger || letters != note.poison || !whole {
                    problems.push(format!(
                        "source {:016x} partition {} events {} to {}: the {lane} lane brought {} and gave up {} \
                         ({} nano-USD, {:016x}), the ledger has {} with {letters} dead letters ({} nano-USD, {:016x})",
                        source.0, partition.0, note.first.0, note.last.0, note.events, note.poison,
                        note.sum, note.print, ledger.0, ledger.1, ledger.2
                    ));
                }
            }
        }
        // Where both lanes have noted the same span, the two comparisons above have compared the lanes.
        let both = notes
            .iter()
            .filter(|((lane, ..), _)| &**lane == "budget")
            .map(|((_, source, partition), of_budget)| {
                let key = ("store".into(), *source, *partition);
                let of_store = notes.get(&key).map_or(&[][..], Vec::as_slice);
                overlap(of_budget, of_store)
            })
            .sum::<u64>();
        let noted = |lane| events.get(lane).copied().unwrap_or(0).to_string();
        let numbers = vec![
            ("events noted by the budget lane", noted("budget")),
            ("by the store lane", noted("store")),
            ("by both", both.to_string()),
            ("spans", spans.len().to_string()),
        ];
        problems.truncate(TOLD);
        Check::of(NAME, numbers, problems)
    }

    /// The budget state has got to where the sources were.
    fn settled(&self, snapshot: Option<&Result<Snapshot, Words>>) -> Check {
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

    /// Spend of every window is what the ledger has up to the events that the spend has.
    async fn spend(&self, snapshot: Option<&Result<Snapshot, Words>>) -> Check {
        const NAME: &str = "spend is the ledger's";
        let snapshot = match snapshot {
            None => return in_memory(NAME),
            Some(Err(why)) => return Check::of(NAME, Vec::new(), vec![why.clone()]),
            Some(Ok(snapshot)) => snapshot,
        };
        match self.compare(snapshot).await {
            Ok((numbers, problems)) => Check::of(NAME, numbers, problems),
            Err(why) => Check::of(NAME, Vec::new(), vec![why]),
        }
    }

    async fn compare(
        &self,
        snapshot: &Snapshot,
    ) -> Result<(Vec<(&'static str, String)>, Vec<String>), Words> {
        let store = &self.parts.store;
        let reached = store.high_water().await.map_err(words)?;
        let reached: HashMap<_, _> = reached
            .into_iter()
            .map(|mark| ((mark.source_id, mark.partition), mark.pseq))
            .collect();
        let marks = &snapshot.standing.marks;
        let behind = marks.iter().filter(|mark| {
            let reached = reached.get(&(mark.source_id, mark.partition));
            reached.copied().unwrap_or(Pseq(0)) < mark.pseq
        });
        let behind = behind.count();
        if behind > 0 {
            return Err(format!(
                "the tables are behind the budget state in {behind} partitions of sources"
            ));
        }
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

    /// Every admitted call has its last record, or is in progress.
    async fn calls(&self) -> Check {
        const NAME: &str = "every call ends once";
        let heartbeats = &self.evidence.told.heartbeats;
        let mut marks = Vec::new();
        for (source_id, heartbeat) in heartbeats {
            marks.extend(heartbeat.usage.iter().map(|(&partition, &pseq)| Identity {
                source_id: *source_id,
                partition,
                pseq,
            }));
        }
        let presence = match self.parts.store.presence(&marks).await {
            Ok(presence) => presence,
            Err(error) => return Check::of(NAME, Vec::new(), vec![words(error)]),
        };
        let (mut opened, mut ended, mut open, mut problems) = (0, 0, 0, Vec::new());
        for (source, heartbeat) in heartbeats {
            let rows = presence.iter().filter(|row| row.source_id == source.0);
            let with_row: u64 = rows.map(|row| row.ended).sum();
            // Whether a dead letter ended its call cannot be read any more.
            let lost: u64 = heartbeat
                .usage
                .iter()
                .map(|(partition, last)| {
                    let told = &self.evidence.told;
                    told.letters_in("store", *source, *partition, 1..=last.0)
                })
                .sum();
            let must = heartbeat.opened.saturating_sub(heartbeat.open);
            if with_row > must || with_row + lost < must {
                problems.push(format!(
                    "source {:016x}: of {} calls {with_row} have ended and {} are open",
                    source.0, heartbeat.opened, heartbeat.open
                ));
            }
            opened += heartbeat.opened;
            ended += with_row;
            open += heartbeat.open;
        }
        let numbers = vec![
            ("opened", opened.to_string()),
            ("ended", ended.to_string()),
            ("open", open.to_string()),
        ];
        problems.truncate(TOLD);
        Check::of(NAME, numbers, problems)
    }
}

/// No hold stands longer than it may, and every window holds what its calls do.
fn holds(snapshot: Option<&Result<Snapshot, Words>>) -> Check {
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

fn raise(target: &mut BTreeMap<(SourceId, Partition), Pseq>, to: &Identity) {
    let mark = target
        .entry((to.source_id, to.partition))
        .or_insert(Pseq(0));
    *mark = to.pseq.max(*mark);
}

/// Events that lie in notes of both.
fn overlap(one: &[Block], other: &[Block]) -> u64 {
    let shared = |a: &Block, b: &Block| {
        let (first, last) = (a.first.max(b.first), a.last.min(b.last));
        (last.0 + 1).saturating_sub(first.0)
    };
    one.iter()
        .flat_map(|a| other.iter().map(move |b| shared(a, b)))
        .sum()
}

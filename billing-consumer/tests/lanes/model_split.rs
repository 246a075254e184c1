//! The protocol in many processes, as a model: sources whose relays repeat themselves, a topic of two
//! partitions, two members of each lane between whom the partitions are dealt anew at any moment (and who may
//! be the last to know), batches cut anywhere and brought late, crashes between any two steps, budget state
//! that is rolled back or flushed, and tables that get rows without marks.
//!
//! The lanes' own rules are in it (dedupe, fold, progress, the fence of budget state); the tables are a map
//! that replaces by key. No IO. A life that goes wrong is cut down to the shortest that does.

use std::collections::BTreeMap;

use billing_consumer::dedupe::{Dedupe, Judged};
use billing_consumer::fold::Fold;
use billing_consumer::progress::Progress;
use billing_consumer::rated::{Billed, Rated, rate};
use budgets::{Budgets, Error, Memory, Restored, RestoredWindow, Settled};
use metering::Catalog;
use proptest::prelude::*;
use schemas::{Event, Identity, Micros, NanoUsd, Offset, Partition, Pseq, SourceId, Standing};

use crate::model::now;
use crate::world::{catalog, lifetime, usage};

const PARTITIONS: usize = 2;
const SOURCES: usize = 2;
const MEMBERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Budget,
    Store,
}

/// What happens next.
#[derive(Debug, Clone)]
enum Act {
    /// A source writes an event into its journal.
    Call {
        source: usize,
        partition: usize,
        cost: i64,
    },
    /// A relay dies after it has sent so many and before it knows of `again` of them; then it sends on.
    Relay {
        source: usize,
        again: usize,
        most: usize,
    },
    /// The partitions of a lane are dealt anew.
    Deal {
        lane: Kind,
        owners: [usize; PARTITIONS],
    },
    /// A member reads on. Where it does not notice what happened meanwhile, it goes on as it was.
    Read {
        lane: Kind,
        member: usize,
        cut: usize,
        notices: bool,
    },
    /// A member brings what it has read, however long ago that was.
    Bring {
        lane: Kind,
        member: usize,
        crash: Crash,
    },
    /// Budget state loses its last steps, sums and marks together.
    RollBack { steps: usize },
    /// Budget state is gone, and made again from the tables.
    Flush,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    Before,
    /// Of the store lane: some rows are in, the marks are not.
    Between,
    After,
    None,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let lane = || prop_oneof![Just(Kind::Budget), Just(Kind::Store)];
    let crash = prop_oneof![
        1 => Just(Crash::Before),
        1 => Just(Crash::Between),
        1 => Just(Crash::After),
        5 => Just(Crash::None)
    ];
    let act = prop_oneof![
        6 => (0..SOURCES, 0..PARTITIONS, 0..400_i64)
            .prop_map(|(source, partition, cost)| Act::Call { source, partition, cost }),
        4 => (0..SOURCES, 0..4_usize, 1..6_usize)
            .prop_map(|(source, again, most)| Act::Relay { source, again, most }),
        1 => (lane(), [0..MEMBERS, 0..MEMBERS]).prop_map(|(lane, owners)| Act::Deal { lane, owners }),
        6 => (lane(), 0..MEMBERS, 1..6_usize, prop::bool::weighted(0.7))
            .prop_map(|(lane, member, cut, notices)| Act::Read { lane, member, cut, notices }),
        6 => (lane(), 0..MEMBERS, crash).prop_map(|(lane, member, crash)| Act::Bring { lane, member, crash }),
        1 => (0..6_usize).prop_map(|steps| Act::RollBack { steps }),
        1 => Just(Act::Flush),
    ];
    prop::collection::vec(act, 1..160)
}

/// One member of a lane: what it was dealt, as far as it knows, and how far it has come there.
#[derive(Default)]
struct Member {
    /// Of deals and losses: behind the lane's, it has not noticed one.
    epoch: u64,
    mine: Vec<usize>,
    at: [usize; PARTITIONS],
    dedupe: Dedupe,
    progress: Progress,
    /// Read, not yet brought.
    batch: Vec<(Identity, Vec<u8>)>,
}

#[derive(Default)]
struct Lane {
    epoch: u64,
    owners: [usize; PARTITIONS],
    members: [Member; MEMBERS],
}

/// A journal and its relay.
#[derive(Default)]
struct Source {
    written: [Vec<(Identity, Vec<u8>)>; PARTITIONS],
    sent: [usize; PARTITIONS],
}

/// A replacing table; marks and offsets written after its rows, where the highest counts.
#[derive(Default)]
struct Tables {
    /// What each row says that its event cost, in nano-dollars.
    rows: BTreeMap<Identity, i64>,
    marks: BTreeMap<(SourceId, Partition), Pseq>,
    next: BTreeMap<Partition, Offset>,
}

/// What a lane makes of a record.
fn billed<R>(body: &[u8], catalog: &Catalog, take: impl FnOnce(&Billed<'_>) -> R) -> R {
    let mut older = Vec::new();
    match rate(body, &mut older, catalog) {
        Ok(Rated::Billed(billed)) => take(&billed),
        other => panic!("{other:?}"),
    }
}

struct Model {
    catalog: Catalog,
    sources: [Source; SOURCES],
    topic: [Vec<(Identity, Vec<u8>)>; PARTITIONS],
    costs: BTreeMap<Identity, i64>,
    budget: Lane,
    store: Lane,
    budgets: Memory,
    /// Budget state after each step, as a file keeps it.
    kept: Vec<Restored>,
    tables: Tables,
}

const fn partition(at: usize) -> Partition {
    // As many as a digit counts.
    Partition(at as u16)
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            catalog: catalog(),
            sources: Default::default(),
            topic: Default::default(),
            costs: BTreeMap::new(),
            budget: Lane::default(),
            store: Lane::default(),
            budgets: Memory::new(),
            kept: vec![Restored::default()],
            tables: Tables::default(),
        };
        for kind in [Kind::Budget, Kind::Store] {
            model.deal(kind, [0, 1]);
        }
        model
    }

    const fn lane(&mut self, kind: Kind) -> &mut Lane {
        match kind {
            Kind::Budget => &mut self.budget,
            Kind::Store => &mut self.store,
        }
    }

    fn deal(&mut self, kind: Kind, owners: [usize; PARTITIONS]) {
        let lane = self.lane(kind);
        lane.owners = owners;
        lane.epoch += 1;
    }

    fn call(&mut self, source: usize, at: usize, cost: i64) {
        let written = &mut self.sources[source].written[at];
        let identity = Identity {
            source_id: SourceId(source as u64 + 1),
            partition: partition(at),
            pseq: Pseq(written.len() as u64 + 1),
        };
        self.costs.insert(identity, cost);
        let mut event = usage(self.costs.len() as u64, cost);
        event.budgets = vec![lifetime("key:k")];
        written.push((identity, event.body()));
    }

    fn relay(&mut self, source: usize, again: usize, most: usize) {
        let Source { written, sent } = &mut self.sources[source];
        for at in 0..PARTITIONS {
            let from = sent[at].saturating_sub(again);
            let to = (sent[at] + most).min(written[at].len());
            self.topic[at].extend_from_slice(&written[at][from..to]);
            sent[at] = to;
        }
    }

    /// Where the sink of a lane stands.
    fn standing(&self, kind: Kind) -> Standing {
        if kind == Kind::Budget {
            return now(self.budgets.standing()).unwrap();
        }
        let mark = |(&(source_id, partition), &pseq): (&(SourceId, Partition), &Pseq)| Identity {
            source_id,
            partition,
            pseq,
        };
        let next = self.tables.next.iter();
        Standing {
            marks: self.tables.marks.iter().map(mark).collect(),
            next: next.map(|(&partition, &next)| (partition, next)).collect(),
        }
    }

    /// As a lane does when it starts, when it was dealt other partitions, and at a fence.
    fn restart(&mut self, kind: Kind, member: usize, standing: &Standing) {
        let lane = self.lane(kind);
        let mut at = [0; PARTITIONS];
        for (partition, next) in &standing.next {
            at[usize::from(partition.0)] = usize::try_from(next.0).unwrap();
        }
        let mine = (0..PARTITIONS).filter(|&at| lane.owners[at] == member);
        lane.members[member] = Member {
            epoch: lane.epoch,
            mine: mine.collect(),
            at,
            dedupe: Dedupe::after(&standing.marks),
            progress: Progress::after(standing),
            batch: Vec::new(),
        };
    }

    fn anew(&mut self, kind: Kind, member: usize) {
        let standing = self.standing(kind);
        self.restart(kind, member, &standing);
    }

    fn read(&mut self, kind: Kind, at: usize, cut: usize, notices: bool) {
        let lane = self.lane(kind);
        if notices && lane.members[at].epoch < lane.epoch {
            self.anew(kind, at);
        }
        let member = match kind {
            Kind::Budget => &mut self.budget.members[at],
            Kind::Store => &mut self.store.members[at],
        };
        let most = member.batch.len() + cut;
        for &number in &member.mine {
            while member.batch.len() < most && member.at[number] < self.topic[number].len() {
                let (identity, body) = &self.topic[number][member.at[number]];
                match member.dedupe.judge(identity) {
                    Judged::Apply => {
                        member.dedupe.raise(identity);
                        member.batch.push((*identity, body.clone()));
                    }
                    Judged::Duplicate => {}
                    Judged::Gap(_) | Judged::Parked | Judged::Heals => panic!("{identity}: a gap"),
                }
                member.at[number] += 1;
                let next = Offset(member.at[number] as u64);
                member.progress.pass(identity.partition, next);
            }
        }
    }

    fn bring(&mut self, kind: Kind, at: usize, crash: Crash) {
        let batch = std::mem::take(&mut self.lane(kind).members[at].batch);
        if batch.is_empty() {
            return;
        }
        if crash == Crash::Before {
            return self.anew(kind, at);
        }
        match kind {
            Kind::Budget => self.settle(at, &batch),
            Kind::Store => self.insert(at, batch, crash),
        }
        if crash != Crash::None {
            self.anew(kind, at);
        }
    }

    fn settle(&mut self, at: usize, batch: &[(Identity, Vec<u8>)]) {
        let mut fold = Fold::default();
        for (identity, body) in batch {
            billed(body, &self.catalog, |billed| fold.add(identity, billed));
        }
        let onward = self.budget.members[at].progress.onward().collect();
        match now(self.budgets.settle(&fold.settlement(onward))) {
            Ok(Settled::Applied) => {
                self.budget.members[at].progress.stored();
                let kept = Restored {
                    windows: vec![RestoredWindow {
                        budget: lifetime("key:k"),
                        used: self.used(),
                    }],
                    standing: self.standing(Kind::Budget),
                };
                self.kept.push(kept);
            }
            Ok(Settled::Repeated) => self.anew(Kind::Budget, at),
            Err(Error::Fence { standing }) => self.restart(Kind::Budget, at, &standing),
            Err(error) => panic!("{error}"),
        }
    }

    fn insert(&mut self, at: usize, batch: Vec<(Identity, Vec<u8>)>, crash: Crash) {
        let whole = batch.len();
        for (number, (identity, body)) in batch.into_iter().enumerate() {
            if crash != Crash::Between || number % 2 == 0 || whole == 1 {
                let cost = billed(&body, &self.catalog, |billed| billed.charge.amount.0);
                self.tables.rows.insert(identity, cost);
            }
        }
        if crash == Crash::Between {
            return;
        }
        let member = &mut self.store.members[at];
        for mark in member.dedupe.marks() {
            let source = (mark.source_id, mark.partition);
            let highest = self.tables.marks.entry(source).or_insert(mark.pseq);
            *highest = mark.pseq.max(*highest);
        }
        for (partition, next) in member.progress.next() {
            let highest = self.tables.next.entry(partition).or_insert(next);
            *highest = next.max(*highest);
        }
        member.progress.stored();
    }

    fn roll_back(&mut self, steps: usize) {
        let left = self.kept.len().saturating_sub(steps).max(1);
        self.kept.truncate(left);
        self.lose(self.kept[left - 1].clone());
    }

    /// Sums of the rows below the marks; without marks a row does not count.
    fn flush(&mut self) {
        let marks = &self.tables.marks;
        let counted = self.tables.rows.iter().filter(|(identity, _)| {
            let mark = marks.get(&(identity.source_id, identity.partition));
            mark.is_some_and(|mark| identity.pseq <= *mark)
        });
        let used = NanoUsd(counted.map(|(_, cost)| cost).sum());
        let budget = lifetime("key:k");
        self.kept = vec![Restored {
            windows: vec![RestoredWindow { budget, used }],
            standing: self.standing(Kind::Store),
        }];
        self.lose(self.kept[0].clone());
    }

    /// Each member learns it when it looks, or from the fence.
    fn lose(&mut self, restored: Restored) {
        self.budgets = Memory::new();
        now(self.budgets.restore(&restored)).unwrap();
        self.budget.epoch += 1;
    }

    fn run(&mut self, act: Act) {
        match act {
            Act::Call {
                source,
                partition,
                cost,
            } => self.call(source, partition, cost),
            Act::Relay {
                source,
                again,
                most,
            } => self.relay(source, again, most),
            Act::Deal { lane, owners } => self.deal(lane, owners),
            Act::Read {
                lane,
                member,
                cut,
                notices,
            } => self.read(lane, member, cut, notices),
            Act::Bring {
                lane,
                member,
                crash,
            } => self.bring(lane, member, crash),
            Act::RollBack { steps } => self.roll_back(steps),
            Act::Flush => self.flush(),
        }
    }

    fn used(&self) -> NanoUsd {
        now(self.budgets.spend(&[("key:k".into(), Micros(0))])).unwrap()[0].used
    }

    /// What a sink says that it has, by its marks, and whether its offsets pass only that.
    fn told(&self, standing: &Standing) -> Vec<Identity> {
        let has = |identity: &Identity| {
            standing.marks.iter().any(|mark| {
                (mark.source_id, mark.partition) == (identity.source_id, identity.partition)
                    && identity.pseq <= mark.pseq
            })
        };
        for (partition, next) in &standing.next {
            let passed = &self.topic[usize::from(partition.0)][..usize::try_from(next.0).unwrap()];
            assert!(
                passed.iter().all(|(identity, _)| has(identity)),
                "an offset passes an event that is not applied"
            );
        }
        self.costs.keys().copied().filter(has).collect()
    }

    fn check(&self) {
        let told = self.told(&self.standing(Kind::Budget));
        let sum: i64 = told.iter().map(|identity| self.costs[identity]).sum();
        assert_eq!(self.used(), NanoUsd(sum), "sums and marks differ");
        for identity in self.told(&self.standing(Kind::Store)) {
            let row = self
                .tables
                .rows
                .get(&identity)
                .expect("a row below its mark");
            assert_eq!(*row, self.costs[&identity]);
        }
    }

    /// Whatever is left is sent, read and brought, by those who hold the partitions.
    fn end(&mut self) {
        for source in 0..SOURCES {
            self.relay(source, 0, usize::MAX / 2);
        }
        for kind in [Kind::Budget, Kind::Store] {
            // A zombie brings its own last; those who know better have the last word.
            for member in 0..MEMBERS {
                self.bring(kind, member, Crash::None);
            }
            self.deal(kind, [1, 0]);
            for member in 0..MEMBERS {
                self.read(kind, member, usize::MAX / 2, true);
                self.bring(kind, member, Crash::None);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whoever_stalls_repeats_or_forgets_both_sinks_end_at_the_truth(acts in acts()) {
        let mut model = Model::new();
        for act in acts {
            model.run(act);
            model.check();
        }
        model.end();
        model.check();
        let truth: i64 = model.costs.values().sum();
        prop_assert_eq!(model.used(), NanoUsd(truth));
        prop_assert_eq!(model.tables.rows.len(), model.costs.len());
    }
}

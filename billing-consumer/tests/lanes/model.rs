//! The protocol as a model: a log, a relay that repeats, two sinks, batches cut anywhere, and crashes
//! between any two steps. The lanes' own rules are in it (dedupe, fold, audit, budget state); the
//! tables are a map that replaces by key. No IO, so thousands of lives run in seconds.

use std::collections::BTreeMap;

use billing_consumer::Audit;
use billing_consumer::dedupe::{Dedupe, Judged};
use billing_consumer::fold::Fold;
use billing_consumer::rated::{Rated, rate};
use budgets::{Budgets, Memory, Reserve, Restored, RestoredWindow, Scope, ScopeKind};
use metering::{Catalog, Window};
use proptest::prelude::*;
use schemas::{Event, Identity, Micros, NanoUsd, Partition, Pseq, SourceId};

use crate::world::{catalog, id, lifetime, usage};

const LIMIT: i64 = 1_000;
const PARTITIONS: u16 = 3;

/// What happens next.
#[derive(Debug, Clone)]
enum Act {
    /// A call is admitted, worst case as given.
    Admit {
        hold: i64,
    },
    /// The oldest open call ends at this share of its hold, percent, in one or two attempts.
    End {
        cost: i64,
        attempts: u32,
        finish_first: bool,
    },
    /// The budget lane takes so many records, and dies before or after settling, or does not.
    Budget {
        cut: usize,
        crash: Crash,
    },
    Store {
        cut: usize,
        crash: Crash,
    },
    /// A relay resumes so many records before: they come again.
    Rewind {
        lane: bool,
        by: usize,
    },
    /// The process dies: budget state in memory is gone, open calls are abandoned.
    Die,
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
    let crash = || {
        prop_oneof![
            1 => Just(Crash::Before),
            1 => Just(Crash::Between),
            1 => Just(Crash::After),
            3 => Just(Crash::None)
        ]
    };
    let act = prop_oneof![
        3 => (1..400_i64).prop_map(|hold| Act::Admit { hold }),
        3 => (0..=100_i64, 1..=2_u32, any::<bool>())
            .prop_map(|(cost, attempts, finish_first)| Act::End { cost, attempts, finish_first }),
        3 => (1..8_usize, crash()).prop_map(|(cut, crash)| Act::Budget { cut, crash }),
        3 => (1..8_usize, crash()).prop_map(|(cut, crash)| Act::Store { cut, crash }),
        1 => (any::<bool>(), 1..20_usize).prop_map(|(lane, by)| Act::Rewind { lane, by }),
        1 => Just(Act::Die),
    ];
    prop::collection::vec(act, 1..120)
}

/// One lane: where it reads, what it has applied.
#[derive(Default)]
struct Lane {
    at: usize,
    dedupe: Dedupe,
    audit: Audit,
}

/// A replacing table, and the marks written after its rows.
#[derive(Default)]
struct Tables {
    /// What each was charged.
    rows: BTreeMap<Identity, NanoUsd>,
    marks: BTreeMap<Partition, u64>,
}

struct Model {
    log: Vec<(Identity, Vec<u8>)>,
    last: [u64; PARTITIONS as usize],
    catalog: Catalog,
    tables: Tables,
    budgets: Memory,
    budget: Lane,
    store: Lane,
    /// Admitted and not ended: call and hold.
    open: Vec<(u64, i64)>,
    /// Ended, to be finished later: the lane may be faster.
    unfinished: Vec<(u64, i64)>,
    calls: u64,
    truth: i64,
}

impl Model {
    fn new() -> Self {
        let model = Self {
            log: Vec::new(),
            last: [0; PARTITIONS as usize],
            catalog: catalog(),
            tables: Tables::default(),
            budgets: Memory::new(),
            budget: Lane::default(),
            store: Lane::default(),
            open: Vec::new(),
            unfinished: Vec::new(),
            calls: 0,
            truth: 0,
        };
        now(model.budgets.open()).unwrap();
        model
    }

    fn admit(&mut self, hold: i64) {
        self.calls += 1;
        let scope = Scope {
            kind: ScopeKind::Key,
            id: "k".into(),
            budget: "key:k".into(),
            limit: Some(NanoUsd(LIMIT)),
            window: Window::LIFETIME,
            rpm: None,
            tpm: None,
            parallel: None,
        };
        let request = Reserve {
            hold: id(self.calls),
            amount: NanoUsd(hold),
            least: NanoUsd(hold),
            tokens: 0,
            scopes: &[scope],
            now: Micros(0),
            expires: Micros(i64::MAX),
        };
        if now(self.budgets.reserve(&request)).is_ok() {
            self.open.push((self.calls, hold));
        }
    }

    fn end(&mut self, call: u64, cost: i64, attempts: u32, finish_first: bool) {
        if finish_first {
            now(self
                .budgets
                .finish(id(call), NanoUsd(cost), 0, Micros(0), None));
        } else {
            self.unfinished.push((call, cost));
        }
        let first = if attempts == 2 { cost / 2 } else { 0 };
        if attempts == 2 {
            self.append(call, first, false);
        }
        self.append(call, cost - first, true);
        self.truth += cost;
    }

    fn append(&mut self, call: u64, cost: i64, last: bool) {
        let mut event = usage(call, cost);
        (event.last, event.budgets) = (last, vec![lifetime("key:k")]);
        let partition = u16::try_from(call % u64::from(PARTITIONS)).unwrap();
        let pseq = &mut self.last[usize::from(partition)];
        *pseq += 1;
        let identity = Identity {
            source_id: SourceId(1),
            partition: Partition(partition),
            pseq: Pseq(*pseq),
        };
        self.log.push((identity, event.body()));
    }

    /// The next events of a lane that it must apply. Reading on is part of it.
    fn take(&mut self, of_budget: bool, cut: usize) -> Vec<(Identity, Vec<u8>)> {
        let lane = if of_budget {
            &mut self.budget
        } else {
            &mut self.store
        };
        let mut taken = Vec::new();
        while taken.len() < cut && lane.at < self.log.len() {
            let (identity, body) = &self.log[lane.at];
            lane.at += 1;
            match lane.dedupe.judge(identity) {
                Judged::Apply => {
                    lane.dedupe.raise(identity);
                    taken.push((*identity, body.clone()));
                }
                Judged::Duplicate => {}
                Judged::Gap(_) | Judged::Parked | Judged::Heals => panic!("nothing is missing"),
            }
        }
        taken
    }

    fn budget_step(&mut self, cut: usize, crash: Crash) {
        let batch = self.take(true, cut);
        if batch.is_empty() {
            return;
        }
        if crash == Crash::Before {
            return self.die();
        }
        let (mut fold, mut audit) = (Fold::default(), Audit::default());
        let mut older = Vec::new();
        for (identity, body) in &batch {
            let Ok(Rated::Billed(billed)) = rate(body, &mut older, &self.catalog) else {
                unreachable!()
            };
            fold.add(identity, &billed);
            audit.billed(identity, billed.charge.amount);
        }
        now(self.budgets.settle(&fold.settlement(Vec::new()))).unwrap();
        self.budget.audit.merge(audit);
        if crash != Crash::None {
            self.die();
        }
    }

    fn store_step(&mut self, cut: usize, crash: Crash) {
        let batch = self.take(false, cut);
        if batch.is_empty() {
            return;
        }
        if crash == Crash::Before {
            return self.die();
        }
        let mut audit = Audit::default();
        let whole = batch.len();
        let mut older = Vec::new();
        for (at, (identity, body)) in batch.into_iter().enumerate() {
            let Ok(Rated::Billed(billed)) = rate(&body, &mut older, &self.catalog) else {
                unreachable!()
            };
            let amount = billed.charge.amount;
            audit.billed(&identity, amount);
            if crash != Crash::Between || at % 2 == 0 || whole == 1 {
                self.tables.rows.insert(identity, amount);
            }
        }
        if crash == Crash::Between {
            return self.die();
        }
        for mark in self.store.dedupe.marks() {
            self.tables.marks.insert(mark.partition, mark.pseq.0);
        }
        self.store.audit.merge(audit);
        if crash == Crash::After {
            self.die();
        }
    }

    /// Memory goes; the log and the tables stay. Then the start as the lanes do it.
    fn die(&mut self) {
        for (call, hold) in std::mem::take(&mut self.open) {
            self.append(call, hold / 2, true);
            self.truth += hold / 2;
        }
        self.unfinished.clear();
        let marks: Vec<Identity> = (0..PARTITIONS)
            .map(|partition| {
                let mut pseq = self
                    .tables
                    .marks
                    .get(&Partition(partition))
                    .copied()
                    .unwrap_or(0);
                let at = |pseq| Identity {
                    source_id: SourceId(1),
                    partition: Partition(partition),
                    pseq: Pseq(pseq),
                };
                // Rows without marks count as long as none is missing.
                while self.tables.rows.contains_key(&at(pseq + 1)) {
                    pseq += 1;
                }
                at(pseq)
            })
            .collect();
        let counted = |identity: &Identity| {
            marks
                .iter()
                .any(|mark| mark.partition == identity.partition && identity.pseq <= mark.pseq)
        };
        let sum = self
            .tables
            .rows
            .iter()
            .filter(|(identity, _)| counted(identity));
        let used = NanoUsd(sum.map(|(_, amount)| amount.0).sum());
        self.budgets = Memory::new();
        let windows = vec![RestoredWindow {
            budget: lifetime("key:k"),
            used,
        }];
        now(self.budgets.restore(&Restored {
            windows,
            standing: marks.clone().into(),
        }))
        .unwrap();
        for lane in [&mut self.budget, &mut self.store] {
            *lane = Lane {
                dedupe: Dedupe::after(&marks),
                ..Lane::default()
            };
        }
        // The log after the tables, then hard budgets admit.
        self.budget_step(usize::MAX, Crash::None);
        now(self.budgets.open()).unwrap();
    }

    fn run(&mut self, act: Act) {
        match act {
            Act::Admit { hold } => self.admit(hold),
            Act::End {
                cost,
                attempts,
                finish_first,
            } => {
                if !self.open.is_empty() {
                    let (call, hold) = self.open.remove(0);
                    self.end(call, hold * cost / 100, attempts, finish_first);
                } else if let Some((call, cost)) = self.unfinished.pop() {
                    now(self
                        .budgets
                        .finish(id(call), NanoUsd(cost), 0, Micros(0), None));
                }
            }
            Act::Budget { cut, crash } => self.budget_step(cut, crash),
            Act::Store { cut, crash } => self.store_step(cut, crash),
            Act::Rewind { lane, by } => {
                let lane = if lane {
                    &mut self.budget
                } else {
                    &mut self.store
                };
                lane.at = lane.at.saturating_sub(by);
            }
            Act::Die => self.die(),
        }
    }

    fn spend(&self) -> budgets::Spend {
        now(self.budgets.spend(&[("key:k".into(), Micros(0))])).unwrap()[0]
    }
}

/// Memory never waits, so the first look at its future is the last.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("budget state in memory never waits"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_crashes_and_repeats_both_sinks_end_at_the_truth(acts in acts()) {
        let mut model = Model::new();
        for act in acts {
            model.run(act);
            let spend = model.spend();
            let taken = spend.used.0 + spend.held.0 + spend.finished.0;
            prop_assert!(taken <= LIMIT, "{} of {} are taken", taken, LIMIT);
        }
        while let Some((call, hold)) = model.open.pop() {
            model.end(call, hold, 1, true);
        }
        while let Some((call, cost)) = model.unfinished.pop() {
            now(model.budgets.finish(id(call), NanoUsd(cost), 0, Micros(0), None));
        }
        model.budget_step(usize::MAX, Crash::None);
        model.store_step(usize::MAX, Crash::None);
        let truth = NanoUsd(model.truth);
        prop_assert_eq!(model.spend(), budgets::Spend { used: truth, ..Default::default() });
        let rows: i64 = model.tables.rows.values().map(|amount| amount.0).sum();
        prop_assert_eq!(rows, truth.0);
        prop_assert_eq!(model.tables.rows.len(), model.log.len());
        prop_assert_eq!(model.budgets.stats().open + model.budgets.stats().finished, 0);
        prop_assert!(model.budget.audit.against(&model.store.audit).differing.is_empty());
    }
}

//! Several billing processes over one broker and one budget state: partitions move, processes die or
//! sleep, the state is flushed or rolled back, and every sum stays true.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use analytics::Store;
use async_trait::async_trait;
use billing_consumer::Billing;
use budgets::{
    Beginning, Budgets, CaughtUp, Error, Granted, Memory, Portion, Refusal, Reserve, Restored,
    RestoredWindow, Settled, Settlement, Spend, Stats,
};
use schemas::{Identity, Micros, NanoUsd, Offset, Partition, RequestId, Standing, Text};
use tokio::sync::Mutex;

use crate::broker::{Broker, PARTITIONS};
use crate::engine;
use crate::world::{World, lifetime, until};

const BUDGET: &str = "billing-budget";

/// Budget state of several processes: it opens when every partition is settled, whoever did it.
struct Shared {
    memory: Arc<Memory>,
    covered: Arc<Mutex<BTreeSet<Partition>>>,
    /// What processes have restored.
    restored: Arc<Mutex<Vec<Restored>>>,
    /// It does not open.
    away: Arc<AtomicBool>,
}

#[async_trait]
impl Budgets for Shared {
    async fn reserve(&self, request: &Reserve<'_>) -> Result<Granted, Refusal> {
        self.memory.reserve(request).await
    }

    async fn raise(&self, request: &Reserve<'_>) -> Result<NanoUsd, Refusal> {
        self.memory.raise(request).await
    }

    async fn finish(
        &self,
        hold: RequestId,
        actual: NanoUsd,
        tokens: u64,
        now: Micros,
        event: Option<Identity>,
    ) -> Vec<NanoUsd> {
        self.memory.finish(hold, actual, tokens, now, event).await
    }

    async fn release(&self, hold: RequestId) {
        self.memory.release(hold).await;
    }

    async fn settle(&self, batch: &Settlement) -> Result<Settled, Error> {
        self.memory.settle(batch).await
    }

    async fn spend(&self, windows: &[(Text, Micros)]) -> Result<Vec<Spend>, Error> {
        self.memory.spend(windows).await
    }

    async fn standing(&self) -> Result<Standing, Error> {
        self.memory.standing().await
    }

    async fn begin(&self) -> Result<Beginning, Error> {
        self.memory.begin().await
    }

    async fn restore(&self, state: &Restored) -> Result<(), Error> {
        let mut covered = self.covered.lock().await;
        covered.clear();
        self.restored.lock().await.push(state.clone());
        self.memory.restore(state).await
    }

    async fn caught_up(&self, at: &CaughtUp) -> Result<bool, Error> {
        if self.away.load(Ordering::Relaxed) {
            return Err(Error::Unavailable("nobody answers".to_owned()));
        }
        let mut covered = self.covered.lock().await;
        let standing = self.memory.standing().await?;
        let stands = |mark: &Identity| {
            let mut marks = standing.marks.iter();
            marks.any(|stands| {
                (stands.source_id, stands.partition) == (mark.source_id, mark.partition)
                    && stands.pseq >= mark.pseq
            })
        };
        if !at.marks.iter().all(stands) {
            return Err(Error::Fence { standing });
        }
        let Portion::Some { partitions, of } = &at.portion else {
            panic!("the broker deals out partitions")
        };
        covered.extend(partitions);
        if covered.len() < usize::from(*of) {
            return Ok(false);
        }
        self.memory.caught_up(&CaughtUp::default()).await
    }

    async fn sweep(&self, now: Micros) -> u64 {
        self.memory.sweep(now).await
    }

    fn ready(&self) -> bool {
        self.memory.ready()
    }

    fn stats(&self) -> Stats {
        self.memory.stats()
    }
}

/// As many processes as are wanted share one state.
struct Group {
    world: World,
    broker: Broker,
    covered: Arc<Mutex<BTreeSet<Partition>>>,
    restored: Arc<Mutex<Vec<Restored>>>,
    away: Arc<AtomicBool>,
}

impl Group {
    fn new(store: Option<Store>) -> Self {
        let mut world = World::new(store);
        world.settings.budget_every = Duration::ZERO;
        world.settings.budget_commit_every = Duration::ZERO;
        world.settings.budget_batch = 7;
        Self {
            world,
            broker: Broker::default(),
            covered: Arc::default(),
            restored: Arc::default(),
            away: Arc::default(),
        }
    }

    fn process(&self) -> Billing {
        let shared = Shared {
            memory: Arc::clone(&self.world.budgets),
            covered: Arc::clone(&self.covered),
            restored: Arc::clone(&self.restored),
            away: Arc::clone(&self.away),
        };
        let parts = billing_consumer::Parts {
            log: Arc::new(self.broker.clone()),
            budgets: Some(Arc::new(shared)),
            ..self.world.parts()
        };
        billing_consumer::start(self.world.settings.clone(), parts)
    }

    async fn used(&self) -> NanoUsd {
        self.world.spend().await.used
    }

    /// Until that much is spent, never more, and hard budgets admit.
    async fn spends(&self, nano: i64) {
        self.uses(nano).await;
        self.world.ready().await;
        assert_eq!(self.used().await, NanoUsd(nano));
    }

    /// Until that much is spent; never more.
    async fn uses(&self, nano: i64) {
        let began = std::time::Instant::now();
        loop {
            let used = self.used().await;
            if used == NanoUsd(nano) {
                return;
            }
            assert!(
                used <= NanoUsd(nano),
                "{used} are more than {nano} nano-USD"
            );
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{used}, not {nano} nano-USD"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything that the state holds.
    async fn state(&self) -> Restored {
        Restored {
            windows: vec![RestoredWindow {
                budget: lifetime("key:k"),
                used: self.used().await,
            }],
            standing: self.world.budgets.standing().await.unwrap(),
        }
    }

    /// The state is gone: hard budgets refuse.
    async fn flush(&self) {
        self.covered.lock().await.clear();
        self.world
            .budgets
            .restore(&Restored::default())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn processes_share_the_partitions_and_take_over_from_each_other() {
    let group = Group::new(None);
    group.broker.deliver_all(1, 1, 1);
    let one = group.process();
    group.spends(40).await;
    let two = group.process();
    until("each has some", || {
        let dealt = |billing: &Billing| match billing.status().budget.dealt {
            journal::Dealt::Partitions { mine, .. } => mine.len(),
            journal::Dealt::All => 0,
        };
        dealt(&one) == 2 && dealt(&two) == 2
    })
    .await;
    group.broker.deliver_all(2, 1, 1);
    group.spends(80).await;
    for _ in 0..10 {
        group.broker.rebalance();
        tokio::task::yield_now().await;
    }
    group.broker.deliver_all(1, 11, 1);
    group.spends(120).await;
    // One dies without a word.
    drop(one);
    group.broker.deliver_all(2, 11, 1);
    group.spends(160).await;
    let ends = group.broker.ends().into_iter().zip(0..);
    let ends: Vec<_> = ends.map(|(end, at)| (Partition(at), Offset(end))).collect();
    until("every partition is settled to its end", || {
        two.status().budget.behind == Some(Duration::ZERO)
    })
    .await;
    assert_eq!(group.world.budgets.standing().await.unwrap().next, ends);
    two.drain(Duration::from_secs(60)).await.unwrap();
    assert!(group.broker.commits() > 0);
    assert_eq!(group.used().await, NanoUsd(160));
}

#[tokio::test]
async fn a_process_that_slept_through_a_rebalance_does_nothing() {
    let group = Group::new(None);
    group.broker.deliver_all(1, 1, 1);
    let sleeper = group.process();
    group.spends(40).await;
    group.broker.freeze(BUDGET);
    let other = group.process();
    group.broker.deliver_all(1, 11, 1);
    group.broker.deliver_all(2, 1, 1);
    // Both read all of it; whoever settles an event second is told where the state stands.
    group.spends(120).await;
    group.broker.thaw();
    group.broker.deliver_all(2, 11, 1);
    group.spends(160).await;
    let brought = sleeper.status().budget.events + other.status().budget.events;
    assert_eq!(brought, 160, "no event was brought twice");
}

#[tokio::test]
async fn lost_state_is_restored_by_many_at_once() {
    let group = Group::new(None);
    let lanes = [group.process(), group.process()];
    group.broker.deliver_all(1, 1, 1);
    group.spends(40).await;
    for round in 1..=5_u64 {
        group.flush().await;
        group.broker.deliver_all(1, round * 10 + 1, 1);
        group.spends(40 + 40 * i64::try_from(round).unwrap()).await;
    }
    for lanes in lanes {
        lanes.drain(Duration::from_secs(60)).await.unwrap();
    }
    assert_eq!(group.used().await, NanoUsd(240));
}

/// Whether an event comes to tell or not.
#[tokio::test]
async fn state_that_answers_again_is_not_waited_for_any_more() {
    let group = Group::new(None);
    let lanes = group.process();
    group.broker.deliver_all(1, 1, 1);
    group.spends(40).await;
    group.away.store(true, Ordering::Relaxed);
    group.flush().await;
    until("the lane waits for it", || {
        let waiting = lanes.status().budget.waiting;
        waiting.is_some_and(|(why, _)| why.contains("nobody answers"))
    })
    .await;
    group.away.store(false, Ordering::Relaxed);
    until("nothing is wrong", || lanes.status().problems.is_empty()).await;
    group.spends(40).await;
}

#[tokio::test]
async fn state_that_was_rolled_back_is_brought_up_again() {
    let group = Group::new(None);
    let lanes = group.process();
    group.broker.deliver_all(1, 1, 1);
    group.spends(40).await;
    let old = group.state().await;
    group.broker.deliver_all(1, 11, 1);
    group.broker.deliver_all(2, 1, 1);
    group.spends(120).await;
    // A crash that lost the newest: the state says that it is open, and nobody is told.
    group.world.budgets.restore(&old).await.unwrap();
    group.world.budgets.open().await.unwrap();
    // A source that the old state never heard of must not carry the offsets past what was lost.
    group.broker.deliver_all(3, 1, 1);
    group.spends(160).await;
    assert!(lanes.status().budget.fenced > 0);
    assert!(lanes.status().budget.gaps.is_empty());
}

#[tokio::test]
async fn a_parked_source_holds_the_offset_of_its_partition_alone() {
    let group = Group::new(None);
    group.broker.deliver(1, 0, 1, 1);
    group.broker.deliver(1, 0, 3, 1);
    group.broker.deliver(2, 0, 1, 1);
    group.broker.deliver(1, 1, 1, 1);
    let lanes = group.process();
    group.uses(3).await;
    let next = group.world.budgets.standing().await.unwrap().next;
    assert_eq!(next, [(Partition(0), Offset(1)), (Partition(1), Offset(1))]);
    // Another process meets the same gap, and bills nothing twice.
    drop(lanes);
    let lanes = group.process();
    until("the gap is told", || !lanes.status().budget.gaps.is_empty()).await;
    until("the rest is settled", || {
        lanes.status().budget.behind == Some(Duration::ZERO)
    })
    .await;
    assert!(
        !group.world.budgets.ready(),
        "what is behind the gap is in no sum"
    );
    group.broker.deliver(1, 0, 2, 1);
    group.spends(5).await;
    until("nothing is left", || lanes.status().problems.is_empty()).await;
    group.broker.deliver(2, 0, 2, 1);
    group.spends(6).await;
    let next = group.world.budgets.standing().await.unwrap().next;
    assert_eq!(next, [(Partition(0), Offset(5)), (Partition(1), Offset(1))]);
}

/// Spend comes from the tables' sums at their own standing, whatever is in them beyond it; tables and
/// spend deleted, both come again from the topic, the same.
#[tokio::test]
async fn projections_are_rebuilt_from_tables_and_topic() {
    const LEDGER: &str = "SELECT count(), toInt64(sum(amount) * 1000000000) FROM cost_ledger FINAL";
    let (_, store) = engine::database().await;
    let mut group = Group::new(Some(store.clone()));
    group.world.settings.store_every = Duration::ZERO;
    group.world.settings.store_batch = 30;
    let lanes = [group.process(), group.process()];
    for source in [1, 2] {
        group.broker.deliver_all(source, 1, 7);
    }
    group.spends(560).await;
    let rows = async |wanted: &str| {
        let began = std::time::Instant::now();
        group.broker.rebalance();
        while engine::ask(&store, LEDGER).await != wanted {
            assert!(began.elapsed() < Duration::from_secs(60), "{wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    rows("80\t560").await;
    // They follow the rows.
    let began = std::time::Instant::now();
    while store.standing().await.unwrap().next.len() < usize::from(PARTITIONS) {
        assert!(began.elapsed() < Duration::from_secs(60), "offsets");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    group.flush().await;
    group.broker.deliver_all(1, 11, 7);
    group.spends(840).await;
    rows("120\t840").await;
    let restored = group.restored.lock().await.pop().unwrap();
    let key = restored
        .windows
        .iter()
        .find(|window| window.budget == lifetime("key:k"));
    assert!(
        key.unwrap().used >= NanoUsd(560),
        "the tables' sums were used"
    );
    assert_eq!(restored.standing.next.len(), usize::from(PARTITIONS));
    for lanes in lanes {
        lanes.drain(Duration::from_secs(60)).await.unwrap();
    }
    let standing = store.standing().await.unwrap();
    assert_eq!(standing.next.len(), usize::from(PARTITIONS));
    assert!(standing.next.iter().all(|(_, next)| *next <= Offset(30)));

    // Everything deleted.
    let (_, store) = engine::database().await;
    group.world.store = Some(store.clone());
    group.world.budgets = Arc::new(budgets::Memory::new());
    let lanes = group.process();
    group.spends(840).await;
    lanes.drain(Duration::from_secs(60)).await.unwrap();
    assert_eq!(engine::ask(&store, LEDGER).await, "120\t840");
    let sums = store.budget_sums(&store.high_water().await.unwrap()).await;
    let global = ("global".to_owned(), Micros(0), NanoUsd(840));
    assert!(sums.unwrap().contains(&global));
}

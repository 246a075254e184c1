//! Random orders of everything that can be done to budget state, done to memory and to Redis alike: they
//! answer the same, no budget is passed by what is true of the calls, and in the end every sum is that of
//! the log. Zombie settlements, lost state and calls that nobody ended are among it.

use std::collections::BTreeMap;
use std::sync::Arc;

use budgets::redis::{Clock, Settings};
use budgets::{Budgets, Error, Memory, Redis, Refusal, Reserve, Restored, Scope, Settled, Spend};
use proptest::prelude::*;
use proptest::sample::Index;
use schemas::{Identity, Micros, NanoUsd};
use test_servers::Redis as Server;

use crate::world::{Lane, Log, flush, id, now, opened, scope, server, settings, until};

#[derive(Debug, Clone)]
enum Step {
    /// A call asks for up to so much, on so many of the scopes.
    Reserve {
        amount: i64,
        least: i64,
        scopes: usize,
    },
    /// The answer was lost: it asks again.
    Again(Index),
    Raise {
        call: Index,
        amount: i64,
        least: i64,
    },
    /// An attempt has cost a share of what is left of the hold; another follows.
    Attempt {
        call: Index,
        permille: i64,
    },
    Finish {
        call: Index,
        permille: i64,
    },
    /// Its process dies; the next one writes what it has cost.
    Abandon {
        call: Index,
        permille: i64,
    },
    Release(Index),
    Settle(u64),
    /// A consumer that slept brings what it had, from further back.
    Zombie {
        back: u64,
        events: u64,
    },
    /// All of the state is gone, and made again from the log.
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    let call = any::<Index>;
    let amount = || 0..4_000_i64;
    let share = || 0..=1_000_i64;
    prop_oneof![
        8 => (amount(), amount(), 1..=3_usize).prop_map(|(one, other, scopes)| Step::Reserve {
            amount: one.max(other),
            least: one.min(other),
            scopes,
        }),
        1 => call().prop_map(Step::Again),
        2 => (call(), amount(), amount()).prop_map(|(call, one, other)| Step::Raise {
            call,
            amount: one.max(other),
            least: one.min(other),
        }),
        2 => (call(), share()).prop_map(|(call, permille)| Step::Attempt { call, permille }),
        5 => (call(), share()).prop_map(|(call, permille)| Step::Finish { call, permille }),
        1 => (call(), share()).prop_map(|(call, permille)| Step::Abandon { call, permille }),
        1 => call().prop_map(Step::Release),
        5 => (1..6_u64).prop_map(Step::Settle),
        2 => (1..6_u64, 1..6_u64).prop_map(|(back, events)| Step::Zombie { back, events }),
        1 => Just(Step::Lose),
    ]
}

/// A call in progress.
#[derive(Debug)]
struct Open {
    /// Held, and not spent by its attempts.
    left: NanoUsd,
    spent: NanoUsd,
    scopes: usize,
}

struct Both<'a> {
    memory: Arc<Memory>,
    redis: Redis,
    server: &'a Server,
    scopes: [Scope; 3],
    log: Log,
    /// So much of the log is settled.
    mark: u64,
    open: BTreeMap<u64, Open>,
    abandoned: Vec<(u64, NanoUsd, Identity)>,
    calls: u64,
    now: Micros,
}

/// What a refusal says, but for the words of each backend.
fn told<T>(answer: Result<T, Refusal>) -> Result<T, Refusal> {
    answer.map_err(|refusal| match refusal {
        Refusal::Unavailable { .. } => Refusal::Unavailable { reason: "" },
        other => other,
    })
}

impl<'a> Both<'a> {
    async fn start(server: &'a Server) -> Self {
        let settings = Settings {
            clock: Clock::Caller,
            ..settings(server)
        };
        let memory = Memory::new();
        memory.open().await.expect("open");
        Self {
            memory: Arc::new(memory),
            redis: opened(&settings).await,
            server,
            scopes: [
                scope("key:k", Some(NanoUsd(9_000))),
                scope("team:t", Some(NanoUsd(12_000))),
                scope("global", None),
            ],
            log: Log::default(),
            mark: 0,
            open: BTreeMap::new(),
            abandoned: Vec::new(),
            calls: 0,
            now: now(),
        }
    }

    fn pick(&self, call: Index) -> Option<u64> {
        let open: Vec<u64> = self.open.keys().copied().collect();
        (!open.is_empty()).then(|| *call.get(&open))
    }

    fn asks(&self, call: u64, amount: i64, least: i64, scopes: usize) -> Reserve<'_> {
        Reserve {
            hold: id(call),
            amount: NanoUsd(amount),
            least: NanoUsd(least),
            tokens: 1,
            scopes: &self.scopes[..scopes],
            now: self.now,
            expires: self.now.plus_secs(600),
        }
    }

    async fn reserve(&mut self, call: u64, amount: i64, least: i64, scopes: usize) {
        let request = self.asks(call, amount, least, scopes);
        let one = told(self.memory.reserve(&request).await);
        let other = told(self.redis.reserve(&request).await);
        assert_eq!(one, other);
        if let Ok(granted) = one {
            self.open.entry(call).or_insert(Open {
                left: granted.amount,
                spent: NanoUsd(0),
                scopes,
            });
        }
    }

    async fn raise(&mut self, call: u64, amount: i64, least: i64) {
        let scopes = self.open[&call].scopes;
        let request = self.asks(call, amount, least, scopes);
        let one = told(self.memory.raise(&request).await);
        let other = told(self.redis.raise(&request).await);
        assert_eq!(one, other);
        if let (Ok(added), Some(open)) = (one, self.open.get_mut(&call)) {
            open.left = open.left.saturating_add(added);
        }
    }

    /// Writes an event that costs such a share of what is left. Answers all that the call has cost.
    fn write(&mut self, call: u64, permille: i64, last: bool) -> (NanoUsd, Identity) {
        let open = self.open.get_mut(&call).expect("it is open");
        let cost = NanoUsd(open.left.0 * permille / 1_000);
        open.left = open.left.saturating_sub(cost);
        open.spent = open.spent.saturating_add(cost);
        let (spent, scopes) = (open.spent, open.scopes);
        let event = self
            .log
            .append_attempt(id(call), cost, last, &self.scopes[..scopes]);
        (spent, event)
    }

    async fn end(&mut self, call: u64, permille: i64, is_told: bool) {
        let (spent, event) = self.write(call, permille, true);
        self.open.remove(&call);
        if is_told {
            self.finish(call, spent, event).await;
        } else {
            self.abandoned.push((call, spent, event));
        }
    }

    async fn finish(&self, call: u64, spent: NanoUsd, event: Identity) {
        let event = Some(event);
        let one = self.memory.finish(id(call), spent, 1, self.now, event);
        let other = self.redis.finish(id(call), spent, 1, self.now, event);
        assert_eq!(one.await, other.await);
    }

    async fn settle(&mut self, events: u64) {
        let to = self.log.len().min(self.mark + events);
        if to == self.mark {
            return;
        }
        let batch = self.log.batch(self.mark, to);
        for settled in [
            self.memory.settle(&batch).await,
            self.redis.settle(&batch).await,
        ] {
            assert!(matches!(settled, Ok(Settled::Applied)), "{settled:?}");
        }
        self.mark = to;
    }

    async fn zombie(&self, back: u64, events: u64) {
        let from = self.mark.saturating_sub(back);
        let to = self.log.len().min(from + events);
        if from == self.mark || to == from {
            return;
        }
        let batch = self.log.batch(from, to);
        for settled in [
            self.memory.settle(&batch).await,
            self.redis.settle(&batch).await,
        ] {
            match settled {
                Ok(Settled::Repeated) => assert!(to <= self.mark),
                Err(Error::Fence { .. }) => assert!(to > self.mark),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn lose(&mut self) {
        // What attempts have cost is not told with a call, so more is held for it until it ends; and this
        // process has not really died.
        let open: Vec<u64> = self.open.keys().copied().collect();
        for call in open {
            if self.open[&call].spent > NanoUsd(0) {
                self.end(call, 0, true).await;
            }
        }
        for (call, spent, event) in std::mem::take(&mut self.abandoned) {
            self.finish(call, spent, event).await;
        }
        flush(self.server).await;
        let mut lane = Lane::new(&self.redis, &self.log);
        lane.begin().await;
        lane.catch_up().await;
        let nothing = Restored::default();
        self.memory.restore(&nothing).await.expect("restore");
        self.mark = self.log.len();
        if self.mark > 0 {
            let all = self.log.batch(0, self.mark);
            self.memory.settle(&all).await.expect("settle");
        }
        self.memory.open().await.expect("open");
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Reserve {
                amount,
                least,
                scopes,
            } => {
                self.calls += 1;
                self.reserve(self.calls, amount, least, scopes).await;
            }
            Step::Settle(events) => self.settle(events).await,
            Step::Zombie { back, events } => self.zombie(back, events).await,
            Step::Lose => self.lose().await,
            Step::Again(call)
            | Step::Raise { call, .. }
            | Step::Attempt { call, .. }
            | Step::Finish { call, .. }
            | Step::Abandon { call, .. }
            | Step::Release(call) => {
                if let Some(call) = self.pick(call) {
                    self.go_on(call, step).await;
                }
            }
        }
        self.compare().await;
    }

    async fn go_on(&mut self, call: u64, step: &Step) {
        match *step {
            Step::Again(_) => {
                let scopes = self.open[&call].scopes;
                self.reserve(call, 1, 1, scopes).await;
            }
            Step::Raise { amount, least, .. } => self.raise(call, amount, least).await,
            Step::Attempt { permille, .. } => {
                self.write(call, permille, false);
            }
            Step::Finish { permille, .. } => self.end(call, permille, true).await,
            Step::Abandon { permille, .. } => self.end(call, permille, false).await,
            // One that has cost something is not undone.
            Step::Release(_) if self.open[&call].spent == NanoUsd(0) => {
                self.memory.release(id(call)).await;
                self.redis.release(id(call)).await;
                self.open.remove(&call);
            }
            _ => {}
        }
    }

    async fn compare(&self) {
        let windows: Vec<_> = self
            .scopes
            .iter()
            .map(|scope| (scope.budget.clone(), scope.window.start))
            .collect();
        let one = self.memory.spend(&windows).await.expect("spend");
        let other = self.redis.spend(&windows).await.expect("spend");
        assert_eq!(one, other);
        for (at, scope) in self.scopes.iter().enumerate() {
            let Some(limit) = scope.limit else { continue };
            let open = self.open.values().filter(|open| at < open.scopes);
            let open: i64 = open.map(|open| open.left.0).sum();
            let taken = self.log.sum_of(&scope.budget).0 + open;
            assert!(taken <= limit.0, "{taken} of {limit:?} are taken");
        }
    }

    /// Every call ends, everything is settled.
    async fn come_to_rest(&mut self) {
        while let Some((&call, _)) = self.open.iter().next() {
            self.end(call, 500, true).await;
        }
        for (call, spent, event) in std::mem::take(&mut self.abandoned) {
            self.finish(call, spent, event).await;
        }
        self.settle(u64::MAX / 2).await;
        self.compare().await;
        for scope in &self.scopes {
            let window = [(scope.budget.clone(), scope.window.start)];
            let wanted = Spend {
                used: self.log.sum_of(&scope.budget),
                ..Spend::default()
            };
            assert_eq!(self.redis.spend(&window).await.expect("spend"), [wanted]);
        }
        let stats = self.memory.stats();
        assert_eq!((stats.open, stats.finished), (0, 0));
        until("Redis has no call left", async || {
            let stats = self.redis.stats();
            (stats.open, stats.finished) == (0, 0)
        })
        .await;
    }
}

#[test]
fn memory_and_redis_agree_whatever_is_done_to_them() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let server = runtime.block_on(server());
    let config = ProptestConfig {
        cases: 200,
        max_shrink_iters: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..60))| {
        runtime.block_on(async {
            let mut both = Both::start(&server).await;
            for step in &steps {
                both.step(step).await;
            }
            both.come_to_rest().await;
        });
    });
}

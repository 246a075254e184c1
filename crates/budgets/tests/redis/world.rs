//! A Redis for a test, and processes that share its state.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use budgets::redis::Settings;
use budgets::{
    Advance, Budgets, CaughtUp, Delta, Error, Granted, HoldSettled, Redis, Refusal, Reserve,
    Restored, Scope, ScopeKind, Settled, Settlement, Spend,
};
use metering::Window;
use schemas::{BudgetRef, Identity, Micros, NanoUsd, Partition, Pseq, RequestId, SourceId};
use test_servers::Redis as Server;
use tokio::sync::OnceCell;

/// Longest wait for anything that has to come.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn now() -> Micros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    Micros(i64::try_from(since.as_micros()).expect("before 292000"))
}

pub fn usd(dollars: i32) -> NanoUsd {
    NanoUsd::from_usd(dollars)
}

pub fn id(number: u64) -> RequestId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    RequestId(bytes)
}

/// One server for all tests that do it no harm.
pub async fn shared_server() -> &'static Server {
    static SHARED: OnceCell<Server> = OnceCell::const_new();
    SHARED.get_or_init(server).await
}

pub async fn server() -> Server {
    Server::start(test_servers::redis::BUDGETS).await
}

/// Settings of a world of its own.
pub fn settings(server: &Server) -> Settings {
    static WORLDS: AtomicU64 = AtomicU64::new(0);
    let world = WORLDS.fetch_add(1, Ordering::Relaxed);
    Settings {
        pause: Duration::ZERO,
        // A disk that is busy may keep the server for seconds.
        wait: Duration::from_secs(20),
        ..Settings::new(server.url(), format!("test{world}"))
    }
}

/// One process more.
pub async fn process(settings: &Settings) -> Redis {
    Redis::start(settings.clone())
        .await
        .expect("a usable server")
}

/// One process on empty, open state.
pub async fn opened(settings: &Settings) -> Redis {
    let redis = process(settings).await;
    redis.restore(&Restored::default()).await.expect("restore");
    until("the state opens", async || redis.open().await.is_ok()).await;
    redis
}

/// Waits until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn scope(budget: &str, limit: Option<NanoUsd>) -> Scope {
    Scope {
        kind: ScopeKind::Key,
        id: budget.into(),
        budget: budget.into(),
        limit,
        window: Window::LIFETIME,
        rpm: None,
        tpm: None,
        parallel: None,
    }
}

pub fn window_of(scope: &Scope) -> BudgetRef {
    BudgetRef {
        budget: scope.budget.clone(),
        window_start: scope.window.start,
        window_end: scope.window.end,
    }
}

pub async fn reserve(
    budgets: &Redis,
    hold: u64,
    amount: NanoUsd,
    scopes: &[Scope],
) -> Result<Granted, Refusal> {
    let now = budgets.clock(now());
    budgets
        .reserve(&Reserve {
            hold: id(hold),
            amount,
            least: amount,
            tokens: 10,
            scopes,
            now,
            expires: now.plus_secs(600),
        })
        .await
}

/// More for a hold that stands.
pub async fn more(
    budgets: &Redis,
    hold: u64,
    amount: NanoUsd,
    scopes: &[Scope],
) -> Result<NanoUsd, Refusal> {
    let now = budgets.clock(now());
    budgets
        .raise(&Reserve {
            hold: id(hold),
            amount,
            least: amount,
            tokens: 0,
            scopes,
            now,
            expires: now.plus_secs(600),
        })
        .await
}

/// Asked again where the world's calls do not wait for a slow server.
pub async fn spend(budgets: &Redis, scope: &Scope) -> Spend {
    let window = [(scope.budget.clone(), scope.window.start)];
    let deadline = Instant::now() + PATIENCE;
    loop {
        match budgets.spend(&window).await {
            Ok(spend) => return spend[0],
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

struct Logged {
    hold: RequestId,
    cost: NanoUsd,
    last: bool,
    windows: Vec<BudgetRef>,
}

/// A log of one partition, as a billing process reads it: what is settled can be settled again.
#[derive(Default)]
pub struct Log {
    events: parking_lot::Mutex<Vec<Logged>>,
}

pub const SOURCE: SourceId = SourceId(u64::MAX - 1);
pub const PARTITION: Partition = Partition(3);

impl Log {
    /// Appends the last event of a call.
    pub fn append(&self, hold: RequestId, cost: NanoUsd, scopes: &[Scope]) -> Identity {
        self.append_attempt(hold, cost, true, scopes)
    }

    /// Appends the event of one attempt, the last or not.
    pub fn append_attempt(
        &self,
        hold: RequestId,
        cost: NanoUsd,
        last: bool,
        scopes: &[Scope],
    ) -> Identity {
        let mut events = self.events.lock();
        events.push(Logged {
            hold,
            cost,
            last,
            windows: scopes.iter().map(window_of).collect(),
        });
        identity(events.len() as u64)
    }

    /// What the calls in it cost together.
    pub fn sum(&self) -> NanoUsd {
        let events = self.events.lock();
        NanoUsd(events.iter().map(|event| event.cost.0).sum())
    }

    /// What they cost on one budget.
    pub fn sum_of(&self, budget: &str) -> NanoUsd {
        let events = self.events.lock();
        let on_it = events.iter().filter(|event| {
            let mut windows = event.windows.iter();
            windows.any(|window| *window.budget == *budget)
        });
        NanoUsd(on_it.map(|event| event.cost.0).sum())
    }

    pub fn len(&self) -> u64 {
        self.events.lock().len() as u64
    }

    /// The events `(from, to]`, folded.
    pub fn batch(&self, from: u64, to: u64) -> Settlement {
        let events = self.events.lock();
        let mut batch = Settlement {
            marks: vec![Advance {
                source: SOURCE,
                partition: PARTITION,
                from: Pseq(from),
                to: Pseq(to),
            }],
            ..Settlement::default()
        };
        for event in &events[from as usize..to as usize] {
            let cost = &event.cost;
            batch.holds.push(HoldSettled {
                hold: event.hold,
                amount: *cost,
                last: event.last,
            });
            for budget in &event.windows {
                let known = batch
                    .deltas
                    .iter_mut()
                    .find(|delta| delta.budget == *budget);
                match known {
                    Some(delta) => delta.amount = delta.amount.saturating_add(*cost),
                    None => batch.deltas.push(Delta {
                        budget: budget.clone(),
                        amount: *cost,
                    }),
                }
            }
        }
        batch
    }
}

pub fn identity(pseq: u64) -> Identity {
    Identity {
        source_id: SOURCE,
        partition: PARTITION,
        pseq: Pseq(pseq),
    }
}

/// The budget lane of a billing process, reading a [`Log`].
pub struct Lane<'a> {
    pub budgets: &'a Redis,
    pub log: &'a Log,
    /// What it has settled, as far as it knows.
    pub at: u64,
}

impl<'a> Lane<'a> {
    pub fn new(budgets: &'a Redis, log: &'a Log) -> Self {
        Self {
            budgets,
            log,
            at: 0,
        }
    }

    /// Settles at most so many events; what else the state asks for is done. Answers whether all is
    /// settled and hard budgets admit.
    pub async fn step(&mut self, most: u64) -> bool {
        let end = self.log.len();
        let to = end.min(self.at + most);
        if to > self.at {
            match self.budgets.settle(&self.log.batch(self.at, to)).await {
                Ok(Settled::Applied | Settled::Repeated) => self.at = to,
                Err(error) => self.failed(error).await,
            }
            return false;
        }
        self.budgets.ready() || self.tell().await
    }

    /// Says where it is, at the end of the log. Answers whether hard budgets admit.
    async fn tell(&mut self) -> bool {
        let marks = (self.at > 0).then(|| identity(self.at));
        let caught_up = CaughtUp {
            marks: marks.into_iter().collect(),
            ..CaughtUp::default()
        };
        match self.budgets.caught_up(&caught_up).await {
            Ok(open) => open,
            Err(error) => {
                self.failed(error).await;
                false
            }
        }
    }

    async fn failed(&mut self, error: Error) {
        match error {
            Error::Fence { standing } => self.follow(&standing.marks),
            Error::Lost => self.begin().await,
            Error::Unavailable(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            other => panic!("{other}"),
        }
    }

    fn follow(&mut self, marks: &[Identity]) {
        self.at = marks.first().map_or(0, |mark| mark.pseq.0);
    }

    /// What a lane does at its start. The tables are empty, so what is lost is read anew.
    pub async fn begin(&mut self) {
        match self.budgets.begin().await {
            Ok(budgets::Beginning::Follow(standing)) => self.follow(&standing.marks),
            Ok(budgets::Beginning::Rebuild) => {
                // Another one may have taken over: the next step tells.
                if self.budgets.restore(&Restored::default()).await.is_ok() {
                    self.at = 0;
                }
            }
            Ok(budgets::Beginning::Wait) | Err(_) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Works until everything is settled and hard budgets admit.
    pub async fn catch_up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        // A process may think for a moment that nothing happened: it is asked again.
        while !(self.step(7).await && self.tell().await) {
            assert!(Instant::now() < deadline, "the lane never catches up");
        }
    }
}

/// FLUSHALL.
pub async fn flush(server: &Server) {
    let client = ::redis::Client::open(server.url()).expect("a URL");
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    ::redis::cmd("FLUSHALL")
        .exec_async(&mut connection)
        .await
        .expect("flushed");
}

/// Sums of all holds, next to what their windows say: `window field counted told` where they differ.
const AUDIT: &str = r"
local base, sums = KEYS[1], {}
local epoch = redis.call('HGET', base .. 'state', 'epoch')
if epoch then base = base .. epoch .. ':' end
for _, id in ipairs(redis.call('ZRANGE', base .. 'exp', 0, -1)) do
  local hold = cmsgpack.unpack(redis.call('GET', base .. 'h:' .. id))
  for _, window in ipairs(hold[9]) do
    local sum = sums[window] or {h = 0, f = 0}
    sum.h = sum.h + hold[2]
    if hold[4] == 2 then sum.f = sum.f + hold[2] end
    sums[window] = sum
  end
end
local odd = {}
for _, window in ipairs(redis.call('ZRANGE', base .. 'windows', 0, -1)) do
  local sum = sums[window] or {h = 0, f = 0}
  for field, counted in pairs(sum) do
    local told = redis.call('HGET', base .. 'w:' .. window, field) or '0'
    if tonumber(told) ~= counted then
      odd[#odd + 1] = window .. ' ' .. field .. ' ' .. counted .. ' ' .. told
    end
  end
end
return odd";

/// Every window holds what its calls hold, at this instant.
pub async fn audit(server: &Server, settings: &Settings) {
    let client = ::redis::Client::open(server.url()).expect("a URL");
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    let mut command = ::redis::cmd("EVAL");
    command
        .arg(AUDIT)
        .arg(1)
        .arg(format!("{{{}}}:", settings.prefix));
    let deadline = Instant::now() + PATIENCE;
    let odd: Vec<String> = loop {
        match command.query_async(&mut connection).await {
            Ok(odd) => break odd,
            // It reads its file first.
            Err(error) => assert!(
                error.code() == Some("LOADING") && Instant::now() < deadline,
                "{error}"
            ),
        }
    };
    assert!(odd.is_empty(), "{odd:?}");
}

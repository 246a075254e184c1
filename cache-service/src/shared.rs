//! Answers that several caches share, in Redis.
//!
//! Keys, under one prefix: `e:{id}` an entry (hash of `m` what is known of it, `v` its vector, `a`
//! its answer, compressed), `x:{exact}` the id of the entry that answers a request word for word,
//! `log` a stream of `i {id}` (inserted), `d {id}` (gone) and `c` (all gone) that the other caches
//! follow. Entries and exact keys expire at their absolute time; Redis may evict any key at any
//! moment, the stream included.
//!
//! Redis is the truth and memory a projection of it: an answer is fetched when it is served, so what
//! one cache deletes no other can serve. Nothing here waits longer than its budget, and nothing here
//! is an error to a look-up: what Redis does not say in time is a miss. When it cannot be reached,
//! nobody asks it but the follower (`follow`), which comes back with a connection once it answers.

mod follow;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError, RedisResult, cmd};
use tokio::sync::Notify;

use crate::codec::{self, Meta};
use crate::config::SharedConfig;
use crate::entries::{Entry, EntryId};
use crate::error::Error;
use crate::key::Hash;

pub(crate) use follow::Following;

/// Of what is not on a request's path: storing, deleting.
const WRITE_BUDGET: Duration = Duration::from_secs(1);
/// Unanswered questions in a row after which Redis counts as gone.
const TIMEOUTS_MAX: u32 = 5;
/// Keys looked at and removed at once.
const SCAN: usize = 500;

/// Redis did not answer, or not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Down;

/// The store, as the caches of one process see it.
pub(crate) struct Shared {
    client: Client,
    prefix: String,
    budget: Duration,
    log_max: usize,
    /// Of the vectors that are written and read; `None` without a model.
    model: Option<Hash>,
    /// `None` while it cannot be reached.
    connection: RwLock<Option<MultiplexedConnection>>,
    lost: Notify,
    timeouts: AtomicU32,
    /// All that Redis has is known here.
    warm: AtomicBool,
    pub(crate) counters: Counters,
}

/// What happened with Redis.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub answered: AtomicU64,
    pub timeouts: AtomicU64,
    pub refused: AtomicU64,
    pub skipped: AtomicU64,
    pub micros: AtomicU64,
    /// Entries of others that were taken over.
    pub followed: AtomicU64,
    /// Entries whose answer Redis no longer had.
    pub evicted: AtomicU64,
    /// Comparisons of everything here with everything there.
    pub compared: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: &SharedConfig, model: Option<Hash>) -> Result<Arc<Self>, Error> {
        let client = Client::open(config.url.as_str()).map_err(|_| Error::Config {
            // The address may hold a password, and so may the library's message.
            name: "redis_url",
            problem: "not an address of a Redis (redis://host:port/db)".to_owned(),
        })?;
        Ok(Arc::new(Self {
            client,
            prefix: config.prefix.clone(),
            budget: config.budget,
            log_max: config.log_max,
            model,
            connection: RwLock::default(),
            lost: Notify::new(),
            timeouts: AtomicU32::new(0),
            warm: AtomicBool::new(false),
            counters: Counters::default(),
        }))
    }

    pub(crate) fn is_up(&self) -> bool {
        self.connection.read().is_some()
    }

    /// Whether all that Redis has is known here.
    pub(crate) fn is_warm(&self) -> bool {
        self.warm.load(Relaxed)
    }

    /// An entry with its answer. `None`: Redis does not have it (any more).
    pub(crate) async fn fetch(&self, id: EntryId) -> Result<Option<Entry>, Down> {
        let mut ask = cmd("HMGET");
        ask.arg(self.entry_key(id)).arg(&["m", "a"]);
        let (meta, answer): (Option<Vec<u8>>, Option<Vec<u8>>) = self
            .within(self.budget, async |c| ask.query_async(c).await)
            .await?;
        // What cannot be read is as good as evicted.
        let read = || {
            let entry = Meta::read(&meta?)?.entry(codec::unpack(&answer?)?)?;
            (entry.id == id).then_some(entry)
        };
        Ok(read())
    }

    /// The entry that answers a request word for word, for what is not known here yet.
    pub(crate) async fn find(&self, exact: &Hash) -> Result<Option<Entry>, Down> {
        let mut ask = cmd("GET");
        ask.arg(self.exact_key(exact));
        let id: Option<String> = self
            .within(self.budget, async |c| ask.query_async(c).await)
            .await?;
        match id.as_deref().and_then(EntryId::parse) {
            Some(id) => self.fetch(id).await,
            None => Ok(None),
        }
    }

    /// Keeps an entry in the place of the one that answered the same request, and tells the others.
    pub(crate) async fn keep(&self, entry: &Entry, vector: Option<&[f32]>) -> Result<(), Down> {
        let Ok(answer) = codec::pack(&entry.answer.body) else {
            return Err(Down);
        };
        let meta = Meta::of(entry).encoded_by(self.model).to_json();
        let (key, id) = (self.entry_key(entry.id), entry.id.to_string());
        // Rounded down: an entry must not outlive its time there.
        let expires_ms = entry.expires / 1_000;
        let mut write = redis::pipe();
        write.atomic();
        write
            .cmd("HSET")
            .arg(&key)
            .arg("m")
            .arg(meta)
            .arg("a")
            .arg(answer);
        if let Some(vector) = vector {
            write.arg("v").arg(codec::vector_bytes(vector));
        }
        write.ignore();
        write.cmd("PEXPIREAT").arg(&key).arg(expires_ms).ignore();
        write
            .cmd("SET")
            .arg(self.exact_key(&entry.exact))
            .arg(&id)
            .arg("PXAT")
            .arg(expires_ms)
            .arg("GET");
        self.log(&mut write, &["i", &id]);
        let (old,): (Option<String>,) = self
            .within(WRITE_BUDGET, async |c| write.query_async(c).await)
            .await?;
        if let Some(old) = old.as_deref().and_then(EntryId::parse)
            && old != entry.id
        {
            let mut unlink = cmd("UNLINK");
            unlink.arg(self.entry_key(old));
            // Left behind, it expires; nobody finds it by its request any more.
            let _: Result<(), Down> = self
                .within(WRITE_BUDGET, async |c| unlink.query_async(c).await)
                .await;
        }
        Ok(())
    }

    /// Removes an entry for everyone.
    pub(crate) async fn remove(&self, id: EntryId) -> Result<(), Down> {
        let mut write = redis::pipe();
        write.atomic();
        write.cmd("UNLINK").arg(self.entry_key(id)).ignore();
        self.log(&mut write, &["d", &id.to_string()]);
        self.within(WRITE_BUDGET, async |c| write.query_async(c).await)
            .await
    }

    /// Tells the others that Redis has evicted an entry; whoever hears nothing finds out alone.
    pub(crate) async fn tell_evicted(&self, id: EntryId) {
        self.counters.evicted.fetch_add(1, Relaxed);
        let mut write = redis::pipe();
        self.log(&mut write, &["d", &id.to_string()]);
        let _: Result<(), Down> = self
            .within(self.budget, async |c| write.query_async(c).await)
            .await;
    }

    /// Removes everything under the prefix.
    pub(crate) async fn clear(&self) -> Result<(), Down> {
        for kind in ["x", "e"] {
            let mut cursor = 0u64;
            loop {
                let (next, keys) = self
                    .within(WRITE_BUDGET, async |c| self.scan(c, kind, cursor).await)
                    .await?;
                if !keys.is_empty() {
                    let mut unlink = cmd("UNLINK");
                    unlink.arg(keys);
                    let () = self
                        .within(WRITE_BUDGET, async |c| unlink.query_async(c).await)
                        .await?;
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        let mut write = redis::pipe();
        self.log(&mut write, &["c"]);
        self.within(WRITE_BUDGET, async |c| write.query_async(c).await)
            .await
    }

    /// For the metrics.
    pub(crate) fn prometheus(&self, out: &mut String) {
        let c = &self.counters;
        let mut family = |name: &str, kind: &str, rows: &[(&str, u64)]| {
            // Writing into a string cannot fail.
            let _ = writeln!(out, "# TYPE tollgate_cache_redis_{name} {kind}");
            for (label, value) in rows {
                let _ = writeln!(out, "tollgate_cache_redis_{name}{label} {value}");
            }
        };
        family("up", "gauge", &[("", u64::from(self.is_up()))]);
        family("warm", "gauge", &[("", u64::from(self.is_warm()))]);
        family(
            "commands_total",
            "counter",
            &[
                ("{result=\"answered\"}", c.answered.load(Relaxed)),
                ("{result=\"timeout\"}", c.timeouts.load(Relaxed)),
                ("{result=\"refused\"}", c.refused.load(Relaxed)),
                ("{result=\"skipped\"}", c.skipped.load(Relaxed)),
            ],
        );
        family(
            "command_microseconds_total",
            "counter",
            &[("", c.micros.load(Relaxed))],
        );
        family(
            "followed_total",
            "counter",
            &[("", c.followed.load(Relaxed))],
        );
        family("evicted_total", "counter", &[("", c.evicted.load(Relaxed))]);
        family(
            "comparisons_total",
            "counter",
            &[("", c.compared.load(Relaxed))],
        );
    }

    /// Asks Redis within a budget; without a connection it says so at once.
    async fn within<T>(
        &self,
        budget: Duration,
        ask: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Down> {
        let Some(mut connection) = self.connection.read().clone() else {
            self.counters.skipped.fetch_add(1, Relaxed);
            return Err(Down);
        };
        let started = Instant::now();
        let result = tokio::time::timeout(budget, ask(&mut connection)).await;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.micros.fetch_add(micros, Relaxed);
        match result {
            Ok(Ok(answer)) => {
                self.timeouts.store(0, Relaxed);
                self.counters.answered.fetch_add(1, Relaxed);
                return Ok(answer);
            }
            Ok(Err(error)) => {
                self.counters.refused.fetch_add(1, Relaxed);
                if is_gone(&error) {
                    self.lose();
                }
            }
            Err(_) => {
                self.counters.timeouts.fetch_add(1, Relaxed);
                if self.timeouts.fetch_add(1, Relaxed) + 1 >= TIMEOUTS_MAX {
                    self.lose();
                }
            }
        }
        Err(Down)
    }

    /// Gives the connection up; the follower looks for a new one.
    fn lose(&self) {
        if self.connection.write().take().is_some() {
            tracing::warn!("cache: Redis does not answer, its entries are misses for now");
            self.warm.store(false, Relaxed);
            self.lost.notify_one();
        }
    }

    async fn connect(&self, response: Duration) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(response));
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    async fn scan(
        &self,
        connection: &mut MultiplexedConnection,
        kind: &str,
        cursor: u64,
    ) -> RedisResult<(u64, Vec<String>)> {
        let mut scan = cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(format!("{}:{kind}:*", escaped(&self.prefix)))
            .arg("COUNT")
            .arg(SCAN);
        scan.query_async(connection).await
    }

    fn log(&self, write: &mut Pipeline, record: &[&str]) {
        write
            .cmd("XADD")
            .arg(self.log_key())
            .arg("MAXLEN")
            .arg("~")
            .arg(self.log_max)
            .arg("*")
            .arg("r")
            .arg(record.join(" "))
            .ignore();
    }

    fn log_key(&self) -> String {
        format!("{}:log", self.prefix)
    }

    fn entry_key(&self, id: EntryId) -> String {
        format!("{}:e:{id}", self.prefix)
    }

    fn exact_key(&self, exact: &Hash) -> String {
        let mut key = format!("{}:x:", self.prefix);
        for byte in exact {
            // Writing into a string cannot fail.
            let _ = write!(key, "{byte:02x}");
        }
        key
    }
}

/// Whether a refusal means that this connection is of no more use.
fn is_gone(error: &RedisError) -> bool {
    use redis::ErrorKind;
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(
                redis::ServerErrorKind::BusyLoading | redis::ServerErrorKind::MasterDown
            )
        )
}

/// A name in a pattern, to be taken as it is.
fn escaped(name: &str) -> String {
    name.chars().fold(String::new(), |mut out, c| {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

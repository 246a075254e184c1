//! Keeps memory what Redis is: one task that connects, compares, and then follows the log.
//!
//! The log makes others' entries known within milliseconds; it may be trimmed or evicted, so its last
//! known record is looked for whenever nothing comes, and everything is compared anew where that is
//! gone, after each connect, and now and then. A comparison asks only for what is not known here, so
//! a snapshot on disk makes a start fast. Never deletes in Redis.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, cmd};
use tokio::task::JoinHandle;

use super::Shared;
use crate::codec::{self, Meta};
use crate::entries::{Entry, EntryId};
use crate::persist::Log;
use crate::shelf::Shelf;

/// Waits for the log's next record.
const BLOCK: Duration = Duration::from_secs(1);
/// Of the connection that blocks, and of scans.
const RESPONSE: Duration = Duration::from_secs(10);
/// Pauses between attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Entries asked for at once.
const BATCH: usize = 128;
/// Log records read at once.
const RECORDS: usize = 512;

/// Records of the log: its id and fields.
type Records = Vec<(String, Vec<String>)>;

/// What is known of an entry, and its vector.
type Known = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The task; ends with its handle.
pub(crate) struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Following {
    pub(crate) fn start(
        shared: Arc<Shared>,
        shelf: Arc<Shelf>,
        log: Option<Weak<Log>>,
        compare_every: Duration,
    ) -> Self {
        let follow = Follow {
            shared,
            shelf,
            log,
            compare_every,
        };
        Self(tokio::spawn(follow.run()))
    }
}

struct Follow {
    shared: Arc<Shared>,
    shelf: Arc<Shelf>,
    log: Option<Weak<Log>>,
    compare_every: Duration,
}

impl Follow {
    async fn run(self) {
        let mut pause = PAUSE_MIN;
        let mut told = false;
        loop {
            let began = Instant::now();
            let error = tokio::select! {
                ended = self.connected() => ended.err(),
                () = self.shared.lost.notified() => None,
            };
            self.shared.lose();
            if let Some(error) = error
                && !told
            {
                // The kind only: the rest may hold an address.
                tracing::warn!("cache: cannot follow Redis: {:?}", error.kind());
            }
            // Said once for each time that it goes away.
            told = began.elapsed() < PAUSE_MAX;
            pause = if told {
                (pause * 2).min(PAUSE_MAX)
            } else {
                PAUSE_MIN
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows until the connection breaks.
    async fn connected(&self) -> RedisResult<()> {
        let mut own = self.shared.connect(RESPONSE).await?;
        let () = cmd("PING").query_async(&mut own).await?;
        let asking = self.shared.connect(RESPONSE).await?;
        self.shared.timeouts.store(0, Relaxed);
        *self.shared.connection.write() = Some(asking);
        loop {
            let last = self.compare(&mut own).await?;
            self.shared.warm.store(true, Relaxed);
            self.follow(&mut own, last).await?;
        }
    }

    /// Reads the log on from `last`, until it is time to compare again.
    async fn follow(&self, own: &mut MultiplexedConnection, mut last: String) -> RedisResult<()> {
        let until = Instant::now() + self.compare_every;
        while Instant::now() < until {
            let records = self.records(own, &last).await?;
            if records.is_empty() {
                if last != FIRST && !self.has(own, &last).await? {
                    return Ok(());
                }
                continue;
            }
            let mut inserted = Vec::new();
            for (id, fields) in records {
                last = id;
                let text = fields.get(1).map_or("", String::as_str);
                match text.split_once(' ') {
                    Some(("i", id)) => inserted.extend(EntryId::parse(id)),
                    Some(("d", id)) => {
                        let Some(id) = EntryId::parse(id) else {
                            continue;
                        };
                        inserted.retain(|i| *i != id);
                        self.forget(id);
                    }
                    // What came before it is gone, what comes after it stays.
                    _ if text == "c" => {
                        inserted.clear();
                        return Ok(());
                    }
                    // Of a later version.
                    _ => {}
                }
            }
            self.take_over(own, inserted).await?;
        }
        Ok(())
    }

    /// Makes memory what Redis is. Returns the log's position before that.
    async fn compare(&self, own: &mut MultiplexedConnection) -> RedisResult<String> {
        self.shared.counters.compared.fetch_add(1, Relaxed);
        let last = self.last(own).await?;
        let began = self.shelf.config.clock.now();
        let mut there = HashSet::new();
        let mut cursor = 0;
        loop {
            let (next, keys) = self.shared.scan(own, "e", cursor).await?;
            there.extend(
                keys.iter()
                    .filter_map(|key| EntryId::parse(key.rsplit(':').next()?)),
            );
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        // What was stored meanwhile by this cache may have been missed by the scan.
        for id in self.shelf.older_than(began) {
            if !there.remove(&id) {
                self.forget(id);
            }
        }
        self.take_over(own, there.into_iter().collect()).await?;
        Ok(last)
    }

    /// Loads entries that are not known here, without their answers.
    async fn take_over(
        &self,
        own: &mut MultiplexedConnection,
        mut ids: Vec<EntryId>,
    ) -> RedisResult<()> {
        ids.retain(|id| !self.shelf.knows(*id));
        for ids in ids.chunks(BATCH) {
            if self.shelf.is_nearly_full() {
                return Ok(());
            }
            let mut ask = redis::pipe();
            for id in ids {
                ask.cmd("HMGET")
                    .arg(self.shared.entry_key(*id))
                    .arg(&["m", "v"]);
            }
            let found: Vec<Known> = ask.query_async(own).await?;
            let entries: Vec<_> = ids
                .iter()
                .zip(found)
                .filter_map(|(id, (meta, vector))| self.read(*id, &meta?, vector))
                .collect();
            self.shared
                .counters
                .followed
                .fetch_add(entries.len() as u64, Relaxed);
            let (shelf, log) = (Arc::clone(&self.shelf), self.log());
            // A graph takes milliseconds for each vector.
            let done = tokio::task::spawn_blocking(move || {
                for (entry, vector) in entries {
                    shelf.place(entry, vector, log.as_deref());
                }
            });
            if let Err(error) = done.await {
                tracing::warn!("cache: entries of another cache could not be taken over: {error}");
            }
        }
        Ok(())
    }

    fn forget(&self, id: EntryId) {
        self.shelf.forget_one(id, self.log().as_deref());
    }

    /// Not held for longer than a moment: dropping the cache frees its folder.
    fn log(&self) -> Option<Arc<Log>> {
        self.log.as_ref()?.upgrade()
    }

    fn read(
        &self,
        id: EntryId,
        meta: &[u8],
        vector: Option<Vec<u8>>,
    ) -> Option<(Entry, Option<Vec<f32>>)> {
        let meta = Meta::read(meta)?;
        let vector = vector
            .filter(|_| meta.is_encoded_by(self.shared.model))
            .map(|bytes| codec::vector(&bytes));
        let mut entry = meta.entry(Bytes::new())?;
        entry.remote = true;
        (entry.id == id).then_some((entry, vector))
    }

    async fn records(&self, own: &mut MultiplexedConnection, after: &str) -> RedisResult<Records> {
        let mut read = cmd("XREAD");
        read.arg("COUNT")
            .arg(RECORDS)
            .arg("BLOCK")
            .arg(u64::try_from(BLOCK.as_millis()).unwrap_or(1_000))
            .arg("STREAMS")
            .arg(self.shared.log_key())
            .arg(after);
        let streams: Option<Vec<(String, Records)>> = read.query_async(own).await?;
        Ok(streams
            .into_iter()
            .flatten()
            .flat_map(|(_, records)| records)
            .collect())
    }

    /// The log's newest record.
    async fn last(&self, own: &mut MultiplexedConnection) -> RedisResult<String> {
        let mut read = cmd("XREVRANGE");
        read.arg(self.shared.log_key())
            .arg(&["+", "-", "COUNT", "1"]);
        let records: Records = read.query_async(own).await?;
        Ok(records
            .into_iter()
            .next()
            .map_or_else(|| FIRST.to_owned(), |(id, _)| id))
    }

    async fn has(&self, own: &mut MultiplexedConnection, id: &str) -> Result<bool, RedisError> {
        let mut read = cmd("XRANGE");
        read.arg(self.shared.log_key()).arg(&[id, id]);
        let records: Records = read.query_async(own).await?;
        Ok(!records.is_empty())
    }
}

/// Before every record.
const FIRST: &str = "0-0";

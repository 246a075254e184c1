//! The log in segment files on this machine. Readers in any process; one writer.
//!
//! ```text
//! <dir>/lock                 flock of the one writer, holds its pid
//! <dir>/source               the source id, made once
//! <dir>/0000000001.seg …     records; created and filled by the writer, deleted by `trim`
//! <dir>/synced               how far the log is durable; a hint after a power cut
//! <dir>/positions/<group>    what a consumer group has committed; written by its reader
//! <dir>/low-water            every call admitted before this position is closed; a hint
//! ```
//! An append copies into a mapped, preallocated segment. Afterwards the record survives the death of
//! the process; [`Journal::durable`] says when it survives the death of the machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use schemas::{Identity, Partition, Pseq, SourceId, Topic};

use crate::{Appended, Error, EventLog, Position, Reader, Start};

mod cursor;
mod files;
mod follower;
mod format;
mod groups;
mod lock;
mod options;
mod place;
mod reader;
mod recovery;
mod scan;
mod segment;
mod sequences;
mod shared;
mod sync;
mod synced;
mod trim;
mod writer;

pub use follower::Follower;
pub use options::{Options, Sync};
pub use reader::{LocalReader, ReadTo};
pub use recovery::Recovery;
pub use scan::Scan;
pub use sync::Durable;

use place::Place;
use shared::Shared;
use writer::{Class, Writer};

/// An append that finds the journal full looks for commits of other processes, this often at most.
const REFRESH: Duration = Duration::from_millis(50);

/// The one writer of a directory. Cheap to clone; the last clone that goes syncs and closes.
#[derive(Clone)]
pub struct Journal {
    open: Arc<Open>,
}

struct Open {
    shared: Arc<Shared>,
    source: u64,
    refreshed: Mutex<Option<Instant>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Released when the last handle is gone, after the last sync.
    _lock: lock::DirLock,
}

/// How full the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// Bytes of records that the slowest consumer group has not committed; all bytes without a group.
    pub used_bytes: u64,
    pub cap_bytes: u64,
}

/// Counters since opening, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    pub records: u64,
    /// `fdatasync` calls on segments.
    pub syncs: u64,
    /// Bytes of records since the log began.
    pub bytes: u64,
    /// Number of the segment that is appended to.
    pub segment: u32,
    /// The next segment could not be preallocated: the disk is full, and what is left is kept for
    /// records that end a call.
    pub short: bool,
}

impl Journal {
    /// Opens or creates a journal, and finds out where it ends.
    ///
    /// # Errors
    /// Another process has it open; something durable is damaged or gone (nothing is changed then).
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovery), Error> {
        options.check()?;
        let positions = dir.join("positions");
        std::fs::create_dir_all(&positions).map_err(Error::io("create", &positions))?;
        let lock = lock::DirLock::take(dir)?;
        let found = recovery::recover(dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            segment::sync_dir(parent)?;
        }
        let recovery = Recovery {
            source_id: SourceId(found.source),
            last: found.last.map(),
            cut_bytes: found.cut_bytes,
            records_scanned: found.records_scanned,
        };
        let writer = Writer {
            dir: dir.to_owned(),
            source: found.source,
            segment_bytes: options.segment_bytes,
            active: None,
            tail: found.tail,
            logical: found.logical,
            last: found.last,
            next_number: found.next_number,
            prepared: None,
            short: false,
            full: Vec::new(),
            names_unsynced: false,
            records: 0,
        };
        let low_water = read_low_water(dir);
        let shared = Shared::new(dir, options, writer, found.first_logical, low_water)?;
        let shared = Arc::new(shared);
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("journal-sync".to_owned())
            // It calls the kernel and little else.
            .stack_size(128 * 1024)
            .spawn(move || sync::run(&worker))
            .map_err(Error::io("start the sync thread of", dir))?;
        let open = Open {
            shared,
            source: found.source,
            refreshed: Mutex::new(None),
            thread: Mutex::new(Some(thread)),
            _lock: lock,
        };
        Ok((
            Self {
                open: Arc::new(open),
            },
            recovery,
        ))
    }

    /// This directory's id.
    #[must_use]
    pub fn source_id(&self) -> SourceId {
        SourceId(self.open.source)
    }

    /// Appends a record: in the page cache when this returns, so that it survives `kill -9`. Never
    /// waits for a disk (except with [`Sync::Always`]).
    ///
    /// # Errors
    /// [`Error::Full`] at the cap and [`Error::DiskFull`]: nothing was appended, later appends may
    /// succeed. [`Error::Poisoned`]: never again.
    pub fn append(
        &self,
        topic: Topic,
        partition: Partition,
        body: &[u8],
    ) -> Result<Appended, Error> {
        self.append_as(topic, partition, body, Class::Ordinary)
    }

    /// Like [`append`](Self::append), for records that end a call that was admitted: may use the
    /// reserve above the cap and at the end of a disk, so that an admitted call can be billed.
    ///
    /// # Errors
    /// As for [`append`](Self::append), when the reserve is used up as well.
    pub fn append_final(
        &self,
        topic: Topic,
        partition: Partition,
        body: &[u8],
    ) -> Result<Appended, Error> {
        self.append_as(topic, partition, body, Class::Final)
    }

    fn append_as(
        &self,
        topic: Topic,
        partition: Partition,
        body: &[u8],
        class: Class,
    ) -> Result<Appended, Error> {
        let shared = &*self.open.shared;
        shared.check()?;
        let limit = Writer::body_limit(shared.options.segment_bytes);
        if body.len() > limit {
            return Err(Error::TooLarge {
                bytes: body.len(),
                limit,
            });
        }
        if partition.0 >= shared.options.partitions {
            return Err(Error::Partition {
                partition: partition.0,
                partitions: shared.options.partitions,
            });
        }
        let cap = match class {
            Class::Ordinary => shared.options.cap_bytes,
            Class::Final => shared.options.cap_bytes + shared.options.reserve_bytes(),
        };
        let bytes = format::record_bytes(body.len()) as u64;
        let mut writer = shared.writer.lock();
        let mut used = writer.logical.saturating_sub(shared.acknowledged());
        if used + bytes > cap {
            drop(writer);
            self.refresh()?;
            writer = shared.writer.lock();
            used = writer.logical.saturating_sub(shared.acknowledged());
            if used + bytes > cap {
                return Err(Error::Full {
                    dir: shared.dir.clone(),
                    used_bytes: used,
                    cap_bytes: shared.options.cap_bytes,
                });
            }
        }
        let written = writer.append(topic, partition, body, class)?;
        shared.set_tail(writer.tail);
        drop(writer);
        if shared.options.sync == Sync::Always {
            shared.sync_to_tail()?;
            shared.durable_readers.notify_waiters();
        }
        shared.early_readers.notify_waiters();
        if written.tidy {
            shared.queue.tidy();
        }
        Ok(Appended {
            identity: Identity {
                source_id: SourceId(self.open.source),
                partition,
                pseq: written.pseq,
            },
            position: written.place.position(),
            version: written.pseq.0,
        })
    }

    /// Resolves once the record at `position`, and all before it, survive a power cut. Immediately
    /// with [`Sync::Os`], which does not promise that.
    pub fn durable(&self, position: Position) -> Durable {
        Durable::new(&self.open.shared, position.into())
    }

    /// Starts to sync before anybody waits: within `Options::soon`, by an own sync or another's.
    pub fn sync_soon(&self, position: Position) {
        let shared = &self.open.shared;
        if shared.options.sync == Sync::Group && shared.synced() <= Place::from(position) {
            shared.queue.soon(shared.options.soon);
        }
    }

    /// Nobody else is expected to wait: a group that still gathers is synced now. Cheap, and without effect
    /// where nobody waits.
    pub fn hurry(&self) {
        self.open.shared.queue.hurry();
    }

    /// Blocks until everything appended so far is durable, in any mode.
    ///
    /// # Errors
    /// The sync failed: the journal takes nothing more.
    pub fn sync(&self) -> Result<(), Error> {
        self.open.shared.sync_to_tail()?;
        self.open.shared.durable_readers.notify_waiters();
        Ok(())
    }

    /// How full the journal is: raise an alarm at 80 %, refuse new calls at 100 %.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let shared = &self.open.shared;
        Pressure {
            used_bytes: shared
                .writer
                .lock()
                .logical
                .saturating_sub(shared.acknowledged()),
            cap_bytes: shared.options.cap_bytes,
        }
    }

    /// Whether an ordinary record would be taken now.
    ///
    /// # Errors
    /// Why it would not: [`Error::Poisoned`], [`Error::Full`], [`Error::DiskFull`].
    pub fn takes(&self) -> Result<(), Error> {
        let shared = &self.open.shared;
        shared.check()?;
        let Pressure {
            used_bytes,
            cap_bytes,
        } = self.pressure();
        if used_bytes >= cap_bytes {
            return Err(Error::Full {
                dir: shared.dir.clone(),
                used_bytes,
                cap_bytes,
            });
        }
        if shared.writer.lock().out_of_room() {
            return Err(Error::DiskFull {
                path: shared.dir.clone(),
                source: std::io::ErrorKind::StorageFull.into(),
            });
        }
        Ok(())
    }

    /// Counters for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.open.shared;
        let writer = shared.writer.lock();
        Stats {
            records: writer.records,
            syncs: shared.syncs.load(Ordering::Relaxed),
            bytes: writer.logical,
            segment: writer.tail.segment,
            short: writer.short,
        }
    }

    /// The last sequence number per topic and partition, for heartbeats.
    #[must_use]
    pub fn last(&self) -> BTreeMap<(Topic, Partition), Pseq> {
        self.open.shared.writer.lock().last.map()
    }

    /// The last sequence number of one topic and partition; 0 before the first.
    #[must_use]
    pub fn last_of(&self, topic: Topic, partition: Partition) -> Pseq {
        self.open.shared.writer.lock().last.last(topic, partition)
    }

    /// Walks over the records from a position to the present end. A position before the first kept
    /// record means that one.
    ///
    /// # Errors
    /// The directory cannot be read. Damage comes as an item.
    pub fn scan(&self, topics: &[Topic], from: Position) -> Result<Scan, Error> {
        let shared = &self.open.shared;
        let first = reader::first(&shared.dir)?;
        let from = Place::from(from);
        let cursor = if from <= first.place() {
            first
        } else {
            cursor::Cursor::new(&shared.dir, from, 0)
        };
        Ok(Scan::new(cursor, shared.tail(), topics))
    }

    /// Where the oldest kept record lies.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn first_position(&self) -> Result<Position, Error> {
        Ok(reader::first(&self.open.shared.dir)?.place().position())
    }

    /// Where the next record will lie, or later.
    #[must_use]
    pub fn end_position(&self) -> Position {
        self.open.shared.tail().position()
    }

    /// Says that every call admitted before `position` is closed. Never goes back. A crash may lose
    /// it: the next scan only reads more. Until it is called first, nothing is trimmed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn mark_low_water(&self, position: Position) -> Result<(), Error> {
        let shared = &self.open.shared;
        if shared.low_water.fetch_max(position.0, Ordering::AcqRel) >= position.0 {
            return Ok(());
        }
        files::replace(
            &shared.dir.join("low-water"),
            &format!("low-water 1 {:016x}", position.0),
            false,
        )
    }

    /// What was marked last; the very beginning if nothing was.
    #[must_use]
    pub fn low_water(&self) -> Position {
        self.open.shared.low_water().position()
    }

    /// A reader in this process, with its settings still open. `group` may be empty: it then remembers
    /// nothing and holds nothing back.
    ///
    /// # Errors
    /// The start cannot be found, or the group name is unusable.
    pub fn local_reader(
        &self,
        group: &str,
        topics: &[Topic],
        start: &Start,
    ) -> Result<LocalReader, Error> {
        LocalReader::inside(&self.open.shared, group, topics, start)
    }

    /// Forgets a consumer group that is not coming back: from now on it holds nothing back. One of the same name
    /// begins at the oldest record. To be called before any of its readers is there.
    ///
    /// # Errors
    /// Its position cannot be removed.
    pub fn forget(&self, group: &str) -> Result<(), Error> {
        groups::forget(&self.open.shared.dir, group)?;
        self.open.shared.refresh_groups()
    }

    /// Deletes whole segments that every group has committed past, that lie below the low-water mark
    /// and are older than the retention. Says how many. Without a group, a mark or a retention: none.
    ///
    /// # Errors
    /// The directory cannot be read or changed.
    pub fn trim(&self) -> Result<usize, Error> {
        trim::trim(&self.open.shared)
    }

    fn refresh(&self) -> Result<(), Error> {
        let mut refreshed = self.open.refreshed.lock();
        if refreshed.is_none_or(|at| at.elapsed() >= REFRESH) {
            self.open.shared.refresh_groups()?;
            *refreshed = Some(Instant::now());
        }
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.queue.stop();
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        if thread.thread().id() == std::thread::current().id() {
            // The sync thread woke a task that held the journal last. A thread cannot wait for itself: what it
            // does at its end is done here, before the directory's lock goes.
            self.shared.close();
            return;
        }
        // Where it panicked: what it had synced is synced, and the rest is in the page cache.
        let _ = thread.join();
    }
}

#[async_trait]
impl EventLog for Journal {
    async fn append(
        &self,
        topic: Topic,
        partition: Partition,
        body: Bytes,
    ) -> Result<Appended, Error> {
        let appended = Self::append(self, topic, partition, &body)?;
        self.durable(appended.position).await?;
        Ok(appended)
    }

    async fn reader(
        &self,
        group: &str,
        topics: &[Topic],
        start: Start,
    ) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(self.local_reader(group, topics, &start)?))
    }

    async fn newest(&self, topic: Topic, partition: Partition) -> Result<Option<u64>, Error> {
        Ok(Some(self.last_of(topic, partition).0))
    }
}

/// An unreadable mark is no mark: it is a hint.
fn read_low_water(dir: &Path) -> Place {
    let words = files::read(&dir.join("low-water")).ok().flatten();
    let bits =
        words.and_then(|words| u64::from_str_radix(words.strip_prefix("low-water 1 ")?, 16).ok());
    Place::from_bits(bits.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a failed sync nobody knows what is on disk: everything fails until a restart.
    #[tokio::test]
    async fn a_failed_sync_stops_the_journal() {
        let root = tempfile::tempdir().expect("a directory");
        let (journal, _) = Journal::open(root.path(), Options::default()).expect("opens");
        let append = || journal.append(Topic::Usage, Partition(0), b"body");
        let good = append().expect("takes it").position;
        journal.durable(good).await.expect("durable");
        journal
            .open
            .shared
            .fail_next_sync
            .store(true, Ordering::Relaxed);
        let bad = append().expect("takes it").position;
        let mut waits = Vec::new();
        for _ in 0..3 {
            waits.push(tokio::spawn(journal.durable(bad)));
        }
        for wait in waits {
            let told = wait.await.expect("ends");
            assert!(matches!(told, Err(Error::Poisoned { .. })), "{told:?}");
        }
        // The disk is well again, and still nothing is taken.
        journal
            .open
            .shared
            .fail_next_sync
            .store(false, Ordering::Relaxed);
        assert!(matches!(append(), Err(Error::Poisoned { .. })));
        assert!(matches!(journal.sync(), Err(Error::Poisoned { .. })));
        assert!(matches!(
            journal.durable(bad).await,
            Err(Error::Poisoned { .. })
        ));
        journal
            .durable(good)
            .await
            .expect("what was durable stays so");
        drop(journal);
        let (journal, _) = Journal::open(root.path(), Options::default()).expect("opens");
        journal
            .append(Topic::Usage, Partition(0), b"body")
            .expect("takes it");
    }

    #[tokio::test]
    async fn a_wait_on_a_closed_journal_ends() {
        let root = tempfile::tempdir().expect("a directory");
        let (journal, _) = Journal::open(root.path(), Options::default()).expect("opens");
        let position = journal
            .append(Topic::Usage, Partition(0), b"body")
            .expect("takes it")
            .position;
        let wait = journal.durable(position);
        let never = journal.durable(Position(u64::MAX));
        drop(journal);
        wait.await.expect("closing syncs");
        assert!(matches!(never.await, Err(Error::Closed)));
    }
}

//! What the writer, the sync thread, the waiters and the readers of one open journal share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::groups::{self, Committed};
use super::options::{Options, Sync};
use super::place::Place;
use super::segment::{Segment, sync_dir};
use super::sync::SyncQueue;
use super::synced::SyncedFile;
use super::writer::Writer;
use crate::Error;

/// Shared by all handles of one open journal.
pub struct Shared {
    pub dir: PathBuf,
    pub options: Options,
    pub writer: Mutex<Writer>,
    /// End of the last record ([`Place`] bits), and of the last durable one.
    tail: AtomicU64,
    synced: AtomicU64,
    synced_file: SyncedFile,
    /// One sync at a time. Locked before `writer`.
    syncing: Mutex<()>,
    pub queue: SyncQueue,
    poison: OnceLock<String>,
    closed: AtomicBool,
    pub groups: Mutex<BTreeMap<String, Committed>>,
    /// Bytes of records that every group has committed past.
    acknowledged: AtomicU64,
    /// Wakes readers of durable records, and readers of any record.
    pub durable_readers: Notify,
    pub early_readers: Notify,
    pub syncs: AtomicU64,
    pub low_water: AtomicU64,
    #[cfg(test)]
    pub fail_next_sync: std::sync::atomic::AtomicBool,
}

impl Shared {
    pub fn new(
        dir: &Path,
        options: Options,
        writer: Writer,
        first_logical: u64,
        low_water: Place,
    ) -> Result<Self, Error> {
        let synced_file = SyncedFile::create(dir, options.sync == Sync::Os, writer.tail)?;
        let groups = groups::load_all(dir)?;
        let shared = Self {
            dir: dir.to_owned(),
            options,
            tail: AtomicU64::new(writer.tail.bits()),
            synced: AtomicU64::new(writer.tail.bits()),
            writer: Mutex::new(writer),
            synced_file,
            syncing: Mutex::new(()),
            queue: SyncQueue::default(),
            poison: OnceLock::new(),
            closed: AtomicBool::new(false),
            acknowledged: AtomicU64::new(first_logical),
            groups: Mutex::new(groups),
            durable_readers: Notify::new(),
            early_readers: Notify::new(),
            syncs: AtomicU64::new(0),
            low_water: AtomicU64::new(low_water.bits()),
            #[cfg(test)]
            fail_next_sync: AtomicBool::new(false),
        };
        shared.count_acknowledged(&shared.groups.lock());
        Ok(shared)
    }

    pub fn tail(&self) -> Place {
        Place::from_bits(self.tail.load(Ordering::Acquire))
    }

    /// Called under the writer's lock.
    pub fn set_tail(&self, tail: Place) {
        self.tail.store(tail.bits(), Ordering::Release);
    }

    pub fn synced(&self) -> Place {
        Place::from_bits(self.synced.load(Ordering::Acquire))
    }

    /// How far readers may see: never what a power cut could take back, unless nothing is synced.
    pub fn readable(&self) -> Place {
        match self.options.sync {
            Sync::Os => self.tail(),
            Sync::Group | Sync::Always => self.synced(),
        }
    }

    /// Resolves when there is more to read, from the moment it is made.
    pub fn written(&self, early: bool) -> Notified<'_> {
        if early || self.options.sync == Sync::Os {
            self.early_readers.notified()
        } else {
            self.durable_readers.notified()
        }
    }

    /// An error once a sync has failed.
    pub fn check(&self) -> Result<(), Error> {
        match self.poison.get() {
            None => Ok(()),
            Some(why) => Err(Error::Poisoned { why: why.clone() }),
        }
    }

    /// Makes everything appended so far durable. Wakes nobody.
    pub fn sync_to_tail(&self) -> Result<(), Error> {
        let turn = self.syncing.lock();
        self.check()?;
        let (full, active, tail, names) = {
            let mut writer = self.writer.lock();
            (
                std::mem::take(&mut writer.full),
                writer.active.clone(),
                writer.tail,
                std::mem::take(&mut writer.names_unsynced),
            )
        };
        if tail <= self.synced() {
            return Ok(());
        }
        let sync = |segment: &Segment| {
            #[cfg(test)]
            if self.fail_next_sync.load(Ordering::Relaxed) {
                return Err(std::io::Error::from_raw_os_error(5));
            }
            segment.sync()
        };
        let done = full.iter().chain(&active).try_for_each(|segment| {
            self.syncs.fetch_add(1, Ordering::Relaxed);
            sync(segment).map_err(Error::io("sync segment in", &self.dir))
        });
        let done = done.and_then(|()| if names { sync_dir(&self.dir) } else { Ok(()) });
        if let Err(error) = done {
            // The kernel may have marked the pages clean: a second sync would succeed and mean nothing.
            let why = self.poison.get_or_init(|| error.to_string()).clone();
            tracing::error!(journal.dir = %self.dir.display(), "the journal stopped: {why}");
            return Err(Error::Poisoned { why });
        }
        self.synced.store(tail.bits(), Ordering::Release);
        self.synced_file.set(tail);
        drop(turn);
        if let Some(active) = active
            && active.number == tail.segment
        {
            active.release(tail.offset as usize);
        }
        Ok(())
    }

    /// Without the promise of durability: syncs full segments and gives back memory, so that both
    /// stay bounded where nobody waits.
    pub fn tidy_without_sync(&self) -> Result<(), Error> {
        let (some_full, active, tail) = {
            let writer = self.writer.lock();
            (!writer.full.is_empty(), writer.active.clone(), writer.tail)
        };
        if some_full {
            return self.sync_to_tail();
        }
        if let Some(active) = active
            && active.number == tail.segment
        {
            active.release(tail.offset as usize);
        }
        Ok(())
    }

    /// Makes the next segment ahead of its need, outside of the writer's lock.
    pub fn prepare(&self) {
        let number = {
            let mut writer = self.writer.lock();
            if !writer.wants_prepared() {
                return;
            }
            let number = writer.next_number;
            writer.next_number += 1;
            number
        };
        match Segment::create(&self.dir, number, self.options.segment_bytes) {
            Ok(segment) => {
                let late = self.writer.lock().accept_prepared(segment);
                if let Some(late) = late {
                    let path = self.dir.join(super::segment::file_name(late.number));
                    // Left behind it would only take space until the next start.
                    let _ = std::fs::remove_file(path);
                }
            }
            Err(error) => {
                let mut writer = self.writer.lock();
                if !std::mem::replace(&mut writer.short, true) {
                    tracing::error!("cannot prepare the next journal segment: {error}");
                }
            }
        }
    }

    /// A group has committed.
    pub fn acknowledge(&self, group: &str, committed: Committed) {
        let mut groups = self.groups.lock();
        groups.insert(group.to_owned(), committed);
        self.count_acknowledged(&groups);
    }

    /// Reads what readers in other processes have committed.
    pub fn refresh_groups(&self) -> Result<(), Error> {
        let read = groups::load_all(&self.dir)?;
        let mut groups = self.groups.lock();
        *groups = read;
        self.count_acknowledged(&groups);
        Ok(())
    }

    fn count_acknowledged(&self, groups: &BTreeMap<String, Committed>) {
        if let Some(least) = groups.values().map(|committed| committed.logical).min() {
            self.acknowledged.store(least, Ordering::Release);
        }
    }

    pub fn low_water(&self) -> Place {
        Place::from_bits(self.low_water.load(Ordering::Acquire))
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// At a clean end, once: the directory may be another's after it.
    pub fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let unused = self.writer.lock().prepared.take();
        if let Some(unused) = unused {
            // Its name is ours and nothing is in it; the next start would remove it.
            let _ = std::fs::remove_file(self.dir.join(super::segment::file_name(unused.number)));
        }
        if self.sync_to_tail().is_ok() {
            // Only a hint for the next start: an older one makes it scan more.
            let _ = self.synced_file.sync();
        }
    }
}

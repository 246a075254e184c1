//! A copy of a projection on disk, so that a start takes little and does not need the log.
//!
//! ```text
//! "tgsnap" format:u16 reads:u16 origin:u16+text version:u64 identity:(u64,u16,u64)
//! count:u64 { version:u64 length:u32 body } crc32c:u32          all big-endian
//! ```
//! Written apart and renamed, so that there is a whole one or none; any byte that is wrong makes it none.
//! Its time of modification says when it was last known to be up to date.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use schemas::{Identity, Micros, Partition, Pseq, SourceId};
use tokio::sync::watch::Sender;

use super::run::Place;
use super::{Frozen, Projection, Snapshot, State};

const MAGIC: &[u8; 6] = b"tgsnap";
const FORMAT: u16 = 1;
/// How often a changed state is written, and an unchanged one said to be still right.
const EVERY: Duration = Duration::from_secs(10);

/// Why a snapshot cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot {doing} {path}: {source}")]
    Io {
        doing: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("{path} is damaged: {problem}")]
    Damaged { path: String, problem: String },
    #[error("{path} was made of {found:?}, and this is {wanted:?}")]
    Elsewhere {
        path: String,
        found: String,
        wanted: String,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.display().to_string();
    move |source| SnapshotError::Io {
        doing,
        path,
        source,
    }
}

/// Reads a snapshot and gives each body to `apply`. `None`: there is none, or a program that reads less
/// has made it.
///
/// # Errors
/// It is damaged or of another log, or `apply` refuses a body: what was applied is then to be forgotten.
pub(crate) fn read(
    kept: &Snapshot,
    reads: u16,
    mut apply: impl FnMut(u64, &[u8]) -> Result<(), String>,
) -> Result<Option<(Place, Micros)>, SnapshotError> {
    let bytes = match fs::read(&kept.path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &kept.path)(error)),
    };
    let damaged = |problem: &str| SnapshotError::Damaged {
        path: kept.path.display().to_string(),
        problem: problem.to_owned(),
    };
    let (content, sum) = bytes
        .split_last_chunk::<4>()
        .ok_or_else(|| damaged("too short"))?;
    if crc32c::crc32c(content) != u32::from_be_bytes(*sum) {
        return Err(damaged("its checksum does not fit"));
    }
    let mut rest = Rest(content);
    let short = || damaged("it ends early");
    if rest.take(MAGIC.len()).ok_or_else(short)? != MAGIC {
        return Err(damaged("not a snapshot"));
    }
    let (format, made_by) = (rest.u16().ok_or_else(short)?, rest.u16().ok_or_else(short)?);
    if format != FORMAT || made_by != reads {
        tracing::info!(
            "{} was made by another version: read from the log instead",
            kept.path.display()
        );
        return Ok(None);
    }
    let length = rest.u16().ok_or_else(short)?;
    let origin = String::from_utf8_lossy(rest.take(usize::from(length)).ok_or_else(short)?);
    if origin != kept.origin {
        return Err(SnapshotError::Elsewhere {
            path: kept.path.display().to_string(),
            found: origin.into_owned(),
            wanted: kept.origin.clone(),
        });
    }
    let place = rest.place().ok_or_else(short)?;
    let count = rest.u64().ok_or_else(short)?;
    for _ in 0..count {
        let version = rest.u64().ok_or_else(short)?;
        let length = rest.u32().ok_or_else(short)?;
        let length = usize::try_from(length).map_err(|_| short())?;
        let body = rest.take(length).ok_or_else(short)?;
        apply(version, body).map_err(|why| damaged(&why))?;
    }
    if !rest.0.is_empty() {
        return Err(damaged("it goes on after its end"));
    }
    let changed = fs::metadata(&kept.path).and_then(|about| about.modified());
    let as_of = changed.map_err(failed("look at", &kept.path))?;
    Ok(Some((place, micros(as_of))))
}

/// Writes a snapshot in place of the last one.
///
/// # Errors
/// A file operation failed; the last one is still there.
pub(crate) fn write(
    kept: &Snapshot,
    reads: u16,
    place: &Place,
    frozen: Frozen,
) -> Result<(), SnapshotError> {
    let mut records = Vec::new();
    let mut count = 0_u64;
    frozen(&mut |version, body| {
        // A record is far below 4 GiB: the log would not have taken it.
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        records.extend_from_slice(&version.to_be_bytes());
        records.extend_from_slice(&length.to_be_bytes());
        records.extend_from_slice(body);
        count += 1;
    });
    let mut head = Vec::with_capacity(64 + kept.origin.len());
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&FORMAT.to_be_bytes());
    head.extend_from_slice(&reads.to_be_bytes());
    let origin = &kept.origin.as_bytes()[..kept.origin.len().min(usize::from(u16::MAX))];
    head.extend_from_slice(
        &u16::try_from(origin.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes(),
    );
    head.extend_from_slice(origin);
    head.extend_from_slice(&place.version.to_be_bytes());
    let last = place.last.unwrap_or(NOBODY);
    head.extend_from_slice(&last.source_id.0.to_be_bytes());
    head.extend_from_slice(&last.partition.0.to_be_bytes());
    head.extend_from_slice(&last.pseq.0.to_be_bytes());
    head.extend_from_slice(&count.to_be_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&head), &records);

    let part = kept.path.with_extension("part");
    if let Some(folder) = kept.path.parent() {
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
    }
    let writing = || failed("write", &part);
    let mut file = File::create(&part).map_err(writing())?;
    file.write_all(&head)
        .and_then(|()| file.write_all(&records))
        .and_then(|()| file.write_all(&sum.to_be_bytes()))
        .and_then(|()| file.sync_all())
        .map_err(writing())?;
    drop(file);
    fs::rename(&part, &kept.path).map_err(failed("rename", &part))?;
    if let Some(folder) = kept.path.parent() {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(failed("sync", folder))?;
    }
    Ok(())
}

/// Sequence numbers begin at 1: this is nobody's.
const NOBODY: Identity = Identity {
    source_id: SourceId(0),
    partition: Partition(0),
    pseq: Pseq(0),
};

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_be_bytes)
    }

    fn place(&mut self) -> Option<Place> {
        let version = self.u64()?;
        let last = Identity {
            source_id: SourceId(self.u64()?),
            partition: Partition(self.u16()?),
            pseq: Pseq(self.u64()?),
        };
        Some(Place {
            version,
            last: (last != NOBODY).then_some(last),
        })
    }
}

fn micros(at: SystemTime) -> Micros {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Writes snapshots beside a follower: one at a time, now and then, never in its way.
pub(super) struct Keeper {
    kept: Snapshot,
    /// Of the snapshot on disk.
    written: AtomicU64,
    busy: AtomicBool,
    due: std::sync::Mutex<Instant>,
    place: std::sync::Mutex<Place>,
}

impl Keeper {
    pub fn new(kept: Snapshot, written: u64) -> Self {
        Self {
            kept,
            written: AtomicU64::new(written),
            busy: AtomicBool::new(false),
            // The first one as soon as all is known: the next start may be soon.
            due: std::sync::Mutex::new(Instant::now()),
            place: std::sync::Mutex::default(),
        }
    }

    /// Called by the follower between two batches, when state and place fit together.
    pub fn keep<P: Projection>(
        self: &Arc<Self>,
        projection: &P,
        place: &Place,
        state: &Sender<State>,
    ) {
        self.place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(place);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now < *due || !state.borrow().caught_up || self.busy.swap(true, Relaxed) {
            return;
        }
        *due = now + EVERY;
        drop(due);
        let keeper = self.clone();
        let changed = self.written.load(Relaxed) != place.version;
        let frozen = changed.then(|| projection.freeze());
        let (place, as_of) = (place.clone(), state.borrow().as_of);
        // Ends by itself within a moment; what it leaves behind at the end of the process is whole.
        drop(tokio::task::spawn_blocking(move || {
            keeper.finish::<P>(frozen, &place, as_of);
            keeper.busy.store(false, Relaxed);
        }));
    }

    /// The last one, of a projection that nobody changes any more.
    pub async fn last<P: Projection>(self: &Arc<Self>, projection: &P, state: &Sender<State>) {
        let place = self
            .place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (caught_up, as_of, version) = {
            let state = state.borrow();
            (state.caught_up, state.as_of, state.version)
        };
        // Stopped between applying and telling: the next start reads the rest again.
        if !caught_up || place.version != version {
            return;
        }
        while self.busy.swap(true, Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let changed = self.written.load(Relaxed) != place.version;
        let frozen = changed.then(|| projection.freeze());
        let keeper = self.clone();
        let done = tokio::task::spawn_blocking(move || keeper.finish::<P>(frozen, &place, as_of));
        if let Err(error) = done.await {
            tracing::warn!("the last {} snapshot was not written: {error}", P::NAME);
        }
        self.busy.store(false, Relaxed);
    }

    fn finish<P: Projection>(&self, frozen: Option<Frozen>, place: &Place, as_of: Option<Micros>) {
        let done = match frozen {
            Some(frozen) => write(&self.kept, P::READS, place, frozen)
                .map(|()| self.written.store(place.version, Relaxed)),
            None => Ok(()),
        };
        let dated = done.and_then(|()| self.date(as_of));
        if let Err(error) = dated {
            tracing::warn!("the {} snapshot is late: {error}", P::NAME);
        }
    }

    fn date(&self, as_of: Option<Micros>) -> Result<(), SnapshotError> {
        let Some(as_of) = as_of else { return Ok(()) };
        let since = Duration::from_micros(u64::try_from(as_of.0).unwrap_or_default());
        let path = &self.kept.path;
        match File::options().write(true).open(path) {
            Ok(file) => file
                .set_modified(UNIX_EPOCH + since)
                .map_err(failed("date", path)),
            // Nothing was ever on the log, so nothing was written.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("date", path)(error)),
        }
    }
}

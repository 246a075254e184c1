//! Entries across restarts: one append-only log, compacted into a fresh file now and then.
//!
//! Layout of the folder: `lock` (held while a cache runs on it), `entries.log`, for moments
//! `entries.log.tmp`, and `entries.log.bad` (the last log that could not be read). The log starts
//! with `TGCACHE1`, the SHA-256 of the embedding model and their CRC-32C; then records of
//! `length u32 | crc32c u32 | kind u8 | payload`. Compaction writes a temporary file, syncs and
//! renames it.
//!
//! The cache may forget, so appends are not synced (the page cache survives a killed process);
//! deletions are, since what was deleted must not come back. A torn tail is cut off; anything else
//! that is wrong puts the log aside and starts empty. No fault here ever stops the service.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::codec::{self, Meta};
use crate::entries::{Entry, EntryId};
use crate::error::Error;
use crate::key::Hash;

const MAGIC: &[u8; 8] = b"TGCACHE1";
const HEADER: usize = 8 + 32 + 4;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const CLEAR: u8 = 3;
/// No record is longer; a length beyond is damage.
const RECORD_MAX: u32 = 64 << 20;
/// Answers waiting to be written, in bytes; beyond it new ones are kept in memory only.
const WAITING_MAX: u64 = 64 << 20;
/// A log is compacted when it is twice as long as what lives in it, and this much longer.
const WASTE: u64 = 16 << 20;

/// What a log held, in the order it was written.
pub(crate) enum Replayed {
    Put(Box<Entry>, Option<Vec<f32>>),
    Delete(EntryId),
    Clear,
}

/// What is alive now, for compaction.
pub(crate) trait Living: Send {
    fn entries(&self) -> Vec<Arc<Entry>>;
    fn vector(&self, entry: &Entry) -> Option<Vec<f32>>;
}

enum Op {
    Put(Arc<Entry>, Option<Vec<f32>>),
    Delete(EntryId, oneshot::Sender<()>),
    Clear(oneshot::Sender<()>),
    Flush(oneshot::Sender<()>),
    Close,
}

/// The log of a running cache, with its writing thread.
pub(crate) struct Log {
    ops: mpsc::Sender<Op>,
    waiting: Arc<AtomicU64>,
    broken: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A folder that was opened and read.
pub(crate) struct Opened {
    dir: PathBuf,
    lock: File,
    file: File,
    length: u64,
    model: Hash,
    /// The file must be written anew before it is appended to.
    stale: bool,
    /// What was not as it should be, for the user.
    pub(crate) warnings: Vec<String>,
}

/// Locks and reads a folder; `each` sees the records in order.
///
/// With a `model` other than the log's, vectors are dropped; without one they are kept as they are.
pub(crate) fn open(
    dir: &Path,
    model: Option<Hash>,
    mut each: impl FnMut(Replayed),
) -> Result<Opened, Error> {
    let fault = |path: &Path, e: std::io::Error| Error::Folder {
        path: path.display().to_string(),
        problem: e.to_string(),
    };
    std::fs::create_dir_all(dir).map_err(|e| fault(dir, e))?;
    let lock_path = dir.join("lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(|e| fault(&lock_path, e))?;
    if lock.try_lock().is_err() {
        return Err(Error::Folder {
            path: dir.display().to_string(),
            problem: "in use by another process".to_owned(),
        });
    }
    let path = dir.join("entries.log");
    let mut warnings = Vec::new();
    let mut file = open_log(&path).map_err(|e| fault(&path, e))?;
    let own = model.unwrap_or_default();
    let length = file.metadata().map_err(|e| fault(&path, e))?.len();
    let mut opened = Opened {
        dir: dir.to_owned(),
        lock,
        file: file.try_clone().map_err(|e| fault(&path, e))?,
        length,
        model: own,
        stale: false,
        warnings: Vec::new(),
    };
    if length == 0 {
        opened.stale = true;
        return Ok(opened);
    }
    match read(&mut file, length, model, &mut each) {
        Ok(Contents {
            model: written,
            good,
        }) => {
            if good < length {
                warnings.push(format!(
                    "{}: the last {} bytes were torn and are cut off",
                    path.display(),
                    length - good
                ));
                file.set_len(good).map_err(|e| fault(&path, e))?;
                opened.length = good;
            }
            match model {
                Some(model) if model != written => {
                    if written != Hash::default() {
                        warnings.push(format!(
                            "{}: written with another embedding model; its vectors are dropped",
                            path.display()
                        ));
                    }
                    opened.stale = true;
                }
                _ => opened.model = written,
            }
        }
        Err(problem) => {
            each(Replayed::Clear);
            warnings.push(format!(
                "{}: {problem}; put aside as entries.log.bad, starting empty",
                path.display()
            ));
            let aside = dir.join("entries.log.bad");
            std::fs::rename(&path, &aside).map_err(|e| fault(&aside, e))?;
            opened.file = open_log(&path).map_err(|e| fault(&path, e))?;
            opened.length = 0;
            opened.stale = true;
        }
    }
    opened.warnings = warnings;
    Ok(opened)
}

fn open_log(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
}

struct Contents {
    model: Hash,
    good: u64,
}

/// Reads a log up to its torn tail. An error means that its middle cannot be trusted.
fn read(
    file: &mut File,
    length: u64,
    model: Option<Hash>,
    each: &mut dyn FnMut(Replayed),
) -> Result<Contents, String> {
    let mut from = BufReader::with_capacity(1 << 18, file);
    let mut header = [0u8; HEADER];
    from.read_exact(&mut header)
        .map_err(|_| "shorter than its header".to_owned())?;
    let (head, crc) = header.split_at(HEADER - 4);
    if !head.starts_with(MAGIC) {
        return Err("not a log of this version".to_owned());
    }
    if crc != crc32c::crc32c(head).to_le_bytes() {
        return Err("checksum of the header is wrong".to_owned());
    }
    let mut written = Hash::default();
    written.copy_from_slice(&head[8..]);
    let keep_vectors = model.is_none_or(|model| model == written);
    let mut good = HEADER as u64;
    let mut payload = Vec::new();
    loop {
        let mut head = [0u8; 8];
        if length - good < 8 || from.read_exact(&mut head).is_err() {
            break;
        }
        let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if size == 0 || size > RECORD_MAX {
            return Err(format!("record at {good} is damaged"));
        }
        if u64::from(size) > length - good - 8 {
            break;
        }
        payload.resize(size as usize, 0);
        if from.read_exact(&mut payload).is_err() {
            break;
        }
        if crc32c::crc32c(&payload) != crc {
            return Err(format!("checksum of the record at {good} is wrong"));
        }
        each(
            decode(&payload, keep_vectors)
                .ok_or_else(|| format!("record at {good} cannot be read"))?,
        );
        good += 8 + u64::from(size);
    }
    Ok(Contents {
        model: written,
        good,
    })
}

impl Opened {
    /// Starts the thread that writes.
    pub(crate) fn start(self, living: impl Living + 'static) -> Result<Log, Error> {
        let (ops, rx) = mpsc::channel();
        let waiting = Arc::new(AtomicU64::new(0));
        let broken = Arc::new(AtomicBool::new(false));
        let mut writer = Writer {
            dir: self.dir,
            _lock: self.lock,
            file: self.file,
            length: self.length,
            model: self.model,
            broken: Arc::clone(&broken),
            compact_at: 0,
            living: Box::new(living),
        };
        if self.stale {
            writer.compact();
        }
        let counted = Arc::clone(&waiting);
        let thread = std::thread::Builder::new()
            .name("cache-log".to_owned())
            .spawn(move || writer.run(&rx, &counted))
            .map_err(|e| Error::Folder {
                path: "cache-log".to_owned(),
                problem: e.to_string(),
            })?;
        Ok(Log {
            ops,
            waiting,
            broken,
            thread: Some(thread),
        })
    }
}

impl Log {
    /// Whether the log could not be written; the cache goes on in memory.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Queues an entry; dropped when the disk is far behind, which costs a later miss.
    pub(crate) fn put(&self, entry: &Arc<Entry>, vector: Option<Vec<f32>>) {
        if self.waiting.load(Ordering::Relaxed) < WAITING_MAX {
            self.waiting.fetch_add(entry.bytes(), Ordering::Relaxed);
            // An error means that the thread is gone, which `broken` has told.
            drop(self.ops.send(Op::Put(Arc::clone(entry), vector)));
        }
    }

    /// Queues a deletion; the receiver hears when it is on disk.
    pub(crate) fn delete(&self, id: EntryId) -> oneshot::Receiver<()> {
        self.send(|ack| Op::Delete(id, ack))
    }

    /// Queues the deletion of everything.
    pub(crate) fn clear(&self) -> oneshot::Receiver<()> {
        self.send(Op::Clear)
    }

    /// Asks for everything queued so far to be synced.
    pub(crate) fn flush(&self) -> oneshot::Receiver<()> {
        self.send(Op::Flush)
    }

    fn send(&self, op: impl FnOnce(oneshot::Sender<()>) -> Op) -> oneshot::Receiver<()> {
        let (ack, done) = oneshot::channel();
        drop(self.ops.send(op(ack)));
        done
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.ops.send(Op::Close));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Writer {
    dir: PathBuf,
    _lock: File,
    file: File,
    /// Up to here the file is whole.
    length: u64,
    model: Hash,
    broken: Arc<AtomicBool>,
    /// Length from which compaction is looked at again.
    compact_at: u64,
    living: Box<dyn Living>,
}

impl Writer {
    fn run(&mut self, ops: &mpsc::Receiver<Op>, waiting: &AtomicU64) {
        self.compact_at = self.compact_at.max(WASTE);
        while let Ok(op) = ops.recv() {
            match op {
                Op::Put(entry, vector) => {
                    self.append(&encode(&entry, vector.as_deref()));
                    let bytes = entry.bytes();
                    waiting.fetch_sub(bytes, Ordering::Relaxed);
                }
                Op::Delete(id, ack) => {
                    let mut payload = vec![DELETE];
                    payload.extend_from_slice(&id.as_u128().to_le_bytes());
                    self.append(&payload);
                    self.sync();
                    // Nobody need wait for it.
                    let _ = ack.send(());
                }
                Op::Clear(ack) => {
                    self.append(&[CLEAR]);
                    self.compact();
                    let _ = ack.send(());
                }
                Op::Flush(ack) => {
                    self.sync();
                    let _ = ack.send(());
                }
                Op::Close => break,
            }
            if self.length > self.compact_at {
                let live: u64 = self.living.entries().iter().map(|e| e.bytes()).sum();
                if self.length > 2 * live + WASTE {
                    self.compact();
                }
                self.compact_at = self.length.max(2 * live) + WASTE;
            }
        }
        self.sync();
    }

    fn append(&mut self, payload: &[u8]) {
        if self.broken.load(Ordering::Relaxed) {
            return;
        }
        let written = record(payload).and_then(|record| {
            self.file.seek(SeekFrom::Start(self.length))?;
            self.file.write_all(&record)?;
            Ok(record.len() as u64)
        });
        match written {
            Ok(bytes) => self.length += bytes,
            Err(e) => self.give_up("write", &e),
        }
    }

    fn sync(&mut self) {
        if !self.broken.load(Ordering::Relaxed)
            && let Err(e) = self.file.sync_data()
        {
            self.give_up("sync", &e);
        }
    }

    /// A log that cannot be written is cut back to what is whole; the cache goes on without it.
    fn give_up(&mut self, what: &str, error: &std::io::Error) {
        tracing::warn!(cache.dir = %self.dir.display(), "cannot {what} the cache's log, going on in memory only: {error}");
        self.broken.store(true, Ordering::Relaxed);
        if let Err(e) = self.file.set_len(self.length) {
            tracing::warn!(cache.dir = %self.dir.display(), "cannot cut the cache's log back: {e}");
        }
    }

    fn compact(&mut self) {
        match self.write_anew() {
            Ok((file, length)) => {
                self.file = file;
                self.length = length;
                self.broken.store(false, Ordering::Relaxed);
            }
            Err(e) => self.give_up("compact", &e),
        }
    }

    fn write_anew(&self) -> std::io::Result<(File, u64)> {
        let (path, temporary) = (
            self.dir.join("entries.log"),
            self.dir.join("entries.log.tmp"),
        );
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&temporary)?;
        let mut to = BufWriter::with_capacity(1 << 18, &file);
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&self.model);
        to.write_all(&head)?;
        to.write_all(&crc32c::crc32c(&head).to_le_bytes())?;
        let mut length = HEADER as u64;
        for entry in self.living.entries() {
            let record = record(&encode(&entry, self.living.vector(&entry).as_deref()))?;
            to.write_all(&record)?;
            length += record.len() as u64;
        }
        to.flush()?;
        drop(to);
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(&self.dir)?.sync_all()?;
        Ok((file, length))
    }
}

fn record(payload: &[u8]) -> std::io::Result<Vec<u8>> {
    let size = u32::try_from(payload.len())
        .ok()
        .filter(|size| *size <= RECORD_MAX)
        .ok_or_else(|| std::io::Error::other("an answer is too large for the log"))?;
    let mut record = Vec::with_capacity(payload.len() + 8);
    record.extend_from_slice(&size.to_le_bytes());
    record.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    record.extend_from_slice(payload);
    Ok(record)
}

fn encode(entry: &Entry, vector: Option<&[f32]>) -> Vec<u8> {
    let meta = Meta::of(entry).to_json();
    let vector = vector.unwrap_or_default();
    let mut out = Vec::with_capacity(9 + meta.len() + vector.len() * 4 + entry.answer.body.len());
    out.push(PUT);
    out.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    out.extend_from_slice(&(vector.len() as u32).to_le_bytes());
    out.extend_from_slice(&meta);
    out.extend_from_slice(&codec::vector_bytes(vector));
    out.extend_from_slice(&entry.answer.body);
    out
}

fn decode(payload: &[u8], keep_vector: bool) -> Option<Replayed> {
    let (kind, rest) = payload.split_first()?;
    match *kind {
        CLEAR => Some(Replayed::Clear),
        DELETE => Some(Replayed::Delete(EntryId::from_u128(u128::from_le_bytes(
            rest.try_into().ok()?,
        )))),
        PUT => {
            let (lengths, rest) = rest.split_at_checked(8)?;
            let meta_len = u32::from_le_bytes(lengths[..4].try_into().ok()?) as usize;
            let numbers = u32::from_le_bytes(lengths[4..].try_into().ok()?) as usize;
            let (meta, rest) = rest.split_at_checked(meta_len)?;
            let (vector, body) = rest.split_at_checked(numbers.checked_mul(4)?)?;
            let entry = Meta::read(meta)?.entry(Bytes::copy_from_slice(body))?;
            let vector = (numbers > 0 && keep_vector).then(|| codec::vector(vector));
            Some(Replayed::Put(Box::new(entry), vector))
        }
        _ => None,
    }
}

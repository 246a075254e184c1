//! How far the log is durable, in the file `synced`: for recovery, which must tell a torn tail from
//! damage, and for readers in other processes, which must not see what a power cut could take back.
//!
//! Written through a mapping and not synced itself: after `kill -9` it is exact, after a power cut it
//! may be some seconds old, which only makes recovery look at more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use super::place::Place;
use crate::Error;

/// Two slots of (value, !value), written in turn, so that one of them is whole at any instant; then
/// (readable-to-the-end flag, !flag), and the kernel's boot id in two words.
const WORDS: usize = 8;
const FLAG: usize = 4;
const BOOT: usize = 6;

/// The writer's side.
pub struct SyncedFile {
    map: MmapRaw,
    file: File,
}

impl SyncedFile {
    pub fn create(dir: &Path, everything_readable: bool, synced: Place) -> Result<Self, Error> {
        let path = dir.join("synced");
        let open = || {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            file.set_len(4096)?;
            let map = MmapOptions::new().len(4096).map_raw(&file)?;
            Ok(Self { map, file })
        };
        let this = open().map_err(Error::io::<io::Error>("open", &path))?;
        this.set(synced);
        this.store(FLAG, u64::from(everything_readable));
        let boot = boot_id();
        for (word, value) in boot.into_iter().enumerate() {
            this.cell(BOOT + word)
                .store(value.to_le(), Ordering::Release);
        }
        Ok(this)
    }

    /// Called by one thread at a time.
    pub fn set(&self, place: Place) {
        self.store(0, place.bits());
        self.store(2, place.bits());
    }

    /// For a clean end.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn store(&self, word: usize, value: u64) {
        self.cell(word).store(value.to_le(), Ordering::Release);
        self.cell(word + 1)
            .store((!value).to_le(), Ordering::Release);
    }

    #[expect(unsafe_code, reason = "stores into the shared file mapping")]
    fn cell(&self, word: usize) -> &AtomicU64 {
        assert!(word < WORDS, "no such word");
        // SAFETY: inside the 4096 bytes of the mapping (checked above) and aligned; the bytes are
        // only ever accessed as these atomics, and live as long as `self`.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(word)) }
    }
}

/// The readers' side.
#[derive(Debug, Clone)]
pub struct SyncedView {
    path: PathBuf,
}

impl SyncedView {
    pub fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("synced"),
        }
    }

    /// Everything before this place is durable; the very start if nothing is known.
    pub fn durable(&self) -> Result<Place, Error> {
        Ok(self.words()?.map_or(Place::START, |words| {
            let whole = |slot: usize| (words[slot] == !words[slot + 1]).then_some(words[slot]);
            let best = whole(0).max(whole(2)).unwrap_or(0);
            Place::from_bits(best)
        }))
    }

    /// How far another process may read; no limit where the writer does not sync.
    pub fn readable(&self) -> Result<Place, Error> {
        match self.words()? {
            Some(words) if words[FLAG] == 1 && words[FLAG + 1] == !1 => Ok(Place::MAX),
            _ => self.durable(),
        }
    }

    /// Whether the kernel that the last writer ran on still runs: then its page cache was never lost,
    /// and what the writer had written is all there.
    pub fn same_boot(&self) -> Result<bool, Error> {
        let boot = boot_id();
        Ok(boot != [0, 0] && self.words()?.is_some_and(|words| words[BOOT..] == boot))
    }

    fn words(&self) -> Result<Option<[u64; WORDS]>, Error> {
        let failed = || Error::io("read", &self.path);
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed()(error)),
        };
        let mut bytes = [0; WORDS * 8];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(failed()(error)),
        }
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut whole = [0; 8];
            whole.copy_from_slice(bytes);
            *word = u64::from_le_bytes(whole);
        }
        Ok(Some(words))
    }
}

/// The kernel's boot id; zeros where it has none.
fn boot_id() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    match (digits.get(..16), digits.get(16..32)) {
        (Some(high), Some(low)) => {
            [high, low].map(|half| u64::from_str_radix(half, 16).unwrap_or_default())
        }
        _ => [0, 0],
    }
}

//! Directories, bodies and copies for the stories.

use std::fs;
use std::path::{Path, PathBuf};

use journal::{Error, Journal, LocalReader, Options, Position, Record, Recovery, Start, Sync};
use schemas::{Partition, Topic};

pub const EVERY_TOPIC: [Topic; 8] = Topic::ALL;

/// A directory for stories that open a journal hundreds of times: in memory where there is such a place.
pub fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

/// Small segments, so that stories cross their ends.
pub fn small(sync: Sync) -> Options {
    Options {
        sync,
        segment_bytes: 64 << 10,
        partitions: 4,
        ..Options::default()
    }
}

pub fn open(dir: &Path, sync: Sync) -> (Journal, Recovery) {
    Journal::open(dir, small(sync)).expect("the journal opens")
}

/// A body that tells its number and its length.
pub fn body(n: usize, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (n * 31 + at * 7 + 1).to_le_bytes()[0] | 1)
        .collect()
}

pub fn append(journal: &Journal, body: &[u8]) -> Position {
    journal
        .append(Topic::Usage, Partition(0), body)
        .expect("takes a record")
        .position
}

/// Everything that is in the journal.
pub fn all(journal: &Journal) -> Result<Vec<Record>, Error> {
    journal.scan(&EVERY_TOPIC, Position::default())?.collect()
}

pub fn bodies(records: &[Record]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.body.to_vec()).collect()
}

/// What a reader in another process sees now.
pub fn seen_from_outside(dir: &Path) -> Result<Vec<Record>, Error> {
    LocalReader::open(dir, "", &EVERY_TOPIC, &Start::Beginning)?.read(usize::MAX)
}

/// The files of a journal, as `kill -9` would leave them at this instant.
#[derive(Clone)]
pub struct Image {
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

impl Image {
    pub fn of(dir: &Path) -> Self {
        let mut files = Vec::new();
        for folder in [dir.to_owned(), dir.join("positions")] {
            for entry in fs::read_dir(&folder).expect("lists") {
                let path = entry.expect("an entry").path();
                if path.is_file() {
                    let name = path.strip_prefix(dir).expect("inside").to_owned();
                    files.push((name, fs::read(&path).expect("reads")));
                }
            }
        }
        files.sort();
        Self { files }
    }

    pub fn write(&self, dir: &Path) {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir.join("positions")).expect("creates");
        for (name, bytes) in &self.files {
            fs::write(dir.join(name), bytes).expect("writes");
        }
    }

    pub fn segments(&mut self) -> Vec<&mut Vec<u8>> {
        self.files
            .iter_mut()
            .filter(|(name, _)| name.extension().is_some_and(|end| end == "seg"))
            .map(|(_, bytes)| bytes)
            .collect()
    }

    /// Segment and offset that the log is durable up to.
    pub fn synced(&self) -> (u64, usize) {
        let (_, bytes) = self
            .files
            .iter()
            .find(|(name, _)| name.as_os_str() == "synced")
            .expect("is there");
        let word = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        (
            word >> 32,
            usize::try_from(word & 0xFFFF_FFFF).expect("fits"),
        )
    }

    /// The machine was restarted since: the page cache is gone.
    pub fn restarted(&mut self) {
        for (name, bytes) in &mut self.files {
            if name.as_os_str() == "synced" {
                bytes[48..64].fill(0x5A);
            }
        }
    }
}

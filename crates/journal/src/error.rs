//! What can go wrong with the durable log. Messages name the file and what to do; they never
//! contain a record's body.

use std::io;
use std::path::{Path, PathBuf};

/// Errors of the journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A second writer tried to open the directory.
    #[error("journal {} is already open in process {pid}: one directory has one writer", dir.display())]
    Locked { dir: PathBuf, pid: String },
    /// An option that cannot work.
    #[error("journal option {name}: {problem}")]
    Option { name: &'static str, problem: String },
    /// The body is larger than a segment can hold in good order.
    #[error("a record of {bytes} bytes is over the journal's limit of {limit} bytes")]
    TooLarge { bytes: usize, limit: usize },
    /// The partition is not one of the journal's.
    #[error("partition {partition} is out of range: the journal has {partitions}")]
    Partition { partition: u16, partitions: u16 },
    /// Consumers are too far behind: the byte cap is reached. Nothing was dropped.
    #[error("journal {} is full: {used_bytes} of {cap_bytes} bytes wait for consumers", dir.display())]
    Full {
        dir: PathBuf,
        used_bytes: u64,
        cap_bytes: u64,
    },
    /// No space for the next segment. Tried again at the next append.
    #[error("no disk space for the next journal segment {}: {source}", path.display())]
    DiskFull { path: PathBuf, source: io::Error },
    /// A synchronisation failed. What the kernel did with the dirty pages is unknown, so the
    /// journal takes nothing more until it is opened again.
    #[error("the journal stopped after a failed sync ({why}): restart to recover what is on disk")]
    Poisoned { why: String },
    /// The journal was closed while somebody waited.
    #[error("the journal was closed")]
    Closed,
    /// Bytes that were once good are not any more.
    #[error(
        "journal segment {} is damaged at byte {offset}: {problem}. Nothing was changed or skipped. \
         Restore the file from a copy, or move the whole directory aside: the journal then starts with \
         a new source id and the audit reports what the old one still held",
        path.display()
    )]
    Corrupt {
        path: PathBuf,
        offset: u64,
        problem: String,
    },
    /// The journal ends before what a consumer has already applied (power loss with `sync: os`, or
    /// an older copy was restored). Going on would give used identities to new events.
    #[error(
        "journal {} ends before what consumer group {group:?} has committed: events were lost. Move the \
         directory aside, so that a new source id is created",
        dir.display()
    )]
    Lost { dir: PathBuf, group: String },
    /// A reader asks for what was trimmed.
    #[error("journal {}: position {position:#x} was trimmed away", dir.display())]
    Trimmed { dir: PathBuf, position: u64 },
    /// Other members of the group came or went: what this one reads has changed. What it knew of its sink
    /// may be old: ask the sink where it stands, then seek there.
    #[error("the partitions of consumer group {group:?} were dealt anew")]
    Reassigned { group: String },
    /// A broker could not be reached, or refused. The message holds no secret.
    #[error("{0}")]
    Broker(String),
    /// A journal is the only source of its records.
    #[error("a journal gives its records their names itself")]
    Named,
    /// The group name cannot be a file name.
    #[error("consumer group {group:?}: use 1 to 100 of a-z 0-9 - _ .")]
    Group { group: String },
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl Error {
    /// What is wrong in words that anybody may read: no path, no number.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Full { .. } => "the journal is full, its consumers are too far behind",
            Self::DiskFull { .. } => "the journal has no disk space left",
            Self::Poisoned { .. } => "the journal stopped after a failed write to its disk",
            Self::TooLarge { .. } => "its record is larger than the journal takes",
            Self::Broker(_) => "the log's broker did not take it",
            _ => "the journal does not take records",
        }
    }
}

impl Error {
    /// For `map_err`: says what was being done to which file.
    pub(crate) fn io<E: Into<io::Error>>(
        doing: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, problem: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            problem: problem.into(),
        }
    }
}

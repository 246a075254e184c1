//! The durable log: every event is appended here first, and every table, counter and index is
//! built from it.
//!
//! [`local`] keeps it in segment files on this machine. [`EventLog`] and [`Reader`] are the seam
//! that consumers see; each backend passes [`conformance`]. Bodies are opaque here: this crate never
//! decodes an event, never drops one, and never reads a record whose checksum is wrong.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::{Identity, Offset, Partition, Standing, Topic};

pub mod conformance;
mod error;
pub mod fail_point;
mod high_water;
pub mod local;
pub mod measure;

pub use error::Error;
pub use high_water::{HighWater, Verdict};
pub use local::{Follower, Journal, LocalReader, Options, Pressure, ReadTo, Recovery, Stats, Sync};

/// A place in one log, ordered like the records of the log. Opaque: only compare it, store it, and
/// give it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// What an append gave the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Source, partition and contiguous sequence number: the record's name for ever.
    pub identity: Identity,
    /// Where it lies, for [`Journal::durable`].
    pub position: Position,
    /// See [`Record::version`].
    pub version: u64,
}

/// One record read from a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub topic: Topic,
    pub identity: Identity,
    pub position: Position,
    /// Its number in the order that every reader sees, where the topic has one partition: what a change of
    /// keys or prices is known by. The sequence number locally, the offset + 1 on a broker.
    pub version: u64,
    /// As appended. May share memory with its neighbours: copy what is kept for long.
    pub body: Bytes,
}

/// A high-water mark: everything of this topic, source and partition up to `identity.pseq` is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub topic: Topic,
    pub identity: Identity,
}

/// Where a reader begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// After what the group has committed; at the beginning if it never did.
    Committed,
    /// At the oldest record that is still kept.
    Beginning,
    /// After these marks. A (topic, partition) without a mark starts at its first record. Marks of
    /// sources that this log does not hold are ignored.
    After(Resume),
}

/// Where a consumer of some topics goes on: its [`Standing`] in each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    pub marks: Vec<Mark>,
    /// Short cuts; a backend that finds marks by itself does not look at them.
    pub next: Vec<(Topic, Partition, Offset)>,
}

impl Resume {
    /// Of one topic.
    #[must_use]
    pub fn of(topic: Topic, standing: &Standing) -> Self {
        let mark = |&identity| Mark { topic, identity };
        let next = |&(partition, offset)| (topic, partition, offset);
        Self {
            marks: standing.marks.iter().map(mark).collect(),
            next: standing.next.iter().map(next).collect(),
        }
    }
}

impl From<Vec<Mark>> for Resume {
    fn from(marks: Vec<Mark>) -> Self {
        Self {
            marks,
            next: Vec::new(),
        }
    }
}

/// How far a reader is behind, as its backend counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// Bytes of records, of all topics (segment files).
    Bytes(u64),
    /// Records (a broker's offsets).
    Records(u64),
}

/// Which part of a log a reader reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Dealt {
    /// All of it, from one place to the next: marks alone tell where to go on, and [`Record::version`] is
    /// no offset.
    #[default]
    All,
    /// Some partitions (or all) of a broker's topics: [`Record::version`] is where to read on after the
    /// record in its partition.
    Partitions {
        mine: Vec<Partition>,
        /// How many partitions the usage topic has (the first topic asked for, where it is another).
        of: u16,
    },
}

/// One consumer's view of a log. Records of one (topic, source, partition) come in order of their
/// sequence numbers; a restart repeats what was not committed.
#[async_trait]
pub trait Reader: Send {
    /// Up to `max` records; waits at most `wait` for the first one, so an empty answer means that
    /// there was none. Cancelling it loses nothing.
    ///
    /// # Errors
    /// [`Error::Reassigned`] when the partitions of this member of the group changed: nothing comes before
    /// the next [`seek`](Self::seek). A damaged or trimmed record, or the backend failed: asking again
    /// repeats the error.
    async fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>, Error>;

    /// Remembers durably that the effects of everything handed out so far are done. A crash before
    /// it returns repeats records, never skips them.
    ///
    /// # Errors
    /// The position could not be stored.
    async fn commit(&mut self) -> Result<(), Error>;

    /// As [`commit`](Self::commit), for who has something better to do than to wait: `false` after `patience`,
    /// and then the next call tells what became of it, before it begins another one.
    ///
    /// # Errors
    /// As there.
    async fn commit_within(&mut self, patience: Duration) -> Result<bool, Error> {
        let _ = patience;
        self.commit().await.map(|()| true)
    }

    /// Goes on from another place. What the group has committed stays until the next commit.
    ///
    /// # Errors
    /// The place cannot be found.
    async fn seek(&mut self, start: &Start) -> Result<(), Error>;

    /// Learns where the log ends now: [`lag`](Self::lag) then counts all that was in it at this call. A log
    /// that always knows has nothing to do.
    ///
    /// # Errors
    /// The backend does not say.
    async fn look_at_end(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// How much is still to be handed out.
    fn lag(&self) -> Lag;

    /// Which part of its topics this reader hands out, as of the last [`next`](Self::next) or
    /// [`seek`](Self::seek).
    fn dealt(&self) -> Dealt {
        Dealt::All
    }
}

/// A log that events can be appended to and read from.
#[async_trait]
pub trait EventLog: Send + std::marker::Sync {
    /// Returns once the record survives a crash: synced (local), acknowledged by all in-sync replicas
    /// (Kafka). Sequence numbers are contiguous from 1 per (topic, partition).
    ///
    /// # Errors
    /// Nothing that returned an error may be counted on to be absent: it can still be read later.
    async fn append(
        &self,
        topic: Topic,
        partition: Partition,
        body: Bytes,
    ) -> Result<Appended, Error>;

    /// Appends a record under a name of its own: one that takes the place of a lost event, or brings an event
    /// again. What has that name already is not looked for: readers drop the second.
    ///
    /// # Errors
    /// As [`append`](Self::append); a log that gives names itself takes none.
    async fn append_as(
        &self,
        topic: Topic,
        identity: Identity,
        body: Bytes,
    ) -> Result<Appended, Error> {
        let _ = (topic, identity, body);
        Err(Error::Named)
    }

    /// The body of a message that its reader could not read, where it can be read by now.
    ///
    /// # Errors
    /// Who would know does not answer.
    async fn read_again(&self, message: &[u8]) -> Result<Option<Bytes>, Error> {
        let _ = message;
        Ok(None)
    }

    /// A reader of some topics. `group` names who remembers what is done; an empty name remembers
    /// nothing and holds nothing back from being trimmed.
    ///
    /// # Errors
    /// The start cannot be found, or the group name is unusable.
    async fn reader(
        &self,
        group: &str,
        topics: &[Topic],
        start: Start,
    ) -> Result<Box<dyn Reader>, Error>;

    /// As [`reader`](Self::reader), for one to whom each record may come up to `pause` later, so that more of
    /// them come at once. A log that hands out records at no cost of its own need not heed it.
    ///
    /// # Errors
    /// As there.
    async fn gathering_reader(
        &self,
        group: &str,
        topics: &[Topic],
        start: Start,
        pause: Duration,
    ) -> Result<Box<dyn Reader>, Error> {
        let _ = pause;
        self.reader(group, topics, start).await
    }

    /// [`Record::version`] of the newest record, 0 where there is none: whoever follows a topic from its
    /// start knows by it when it has caught up. `None` where this log cannot tell.
    ///
    /// # Errors
    /// The backend cannot be reached.
    async fn newest(&self, topic: Topic, partition: Partition) -> Result<Option<u64>, Error> {
        let _ = (topic, partition);
        Ok(None)
    }
}

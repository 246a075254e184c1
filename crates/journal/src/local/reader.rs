//! Consumers of the local journal: they tail the segment files, in the writer's process or another.
//!
//! Never hands out a record whose checksum is wrong, nor one that a power cut could still take back
//! (unless asked to): its number would then be given to another event. Reads block the thread for
//! as long as the page cache needs: consumers that replay old segments want their own thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemas::{Identity, Partition, SourceId, Topic};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::cursor::{Cursor, Found, Step, header_of};
use super::groups::{self, Committed};
use super::place::Place;
use super::segment;
use super::shared::Shared;
use super::synced::SyncedView;
use crate::{Error, HighWater, Lag, Mark, Reader, Record, Start};

/// How often a reader looks for what another process has written.
const POLL: Duration = Duration::from_millis(50);

/// A reader of one journal directory.
pub struct LocalReader {
    dir: PathBuf,
    /// Empty: remembers nothing.
    group: String,
    topics: Vec<Topic>,
    end: End,
    cursor: Cursor,
    /// What the caller already knows, after `Start::After`.
    known: HighWater,
    committed: Option<Committed>,
    linger: Duration,
    not_before: Option<Instant>,
}

/// A place between the records that a reader has handed out and those that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadTo(Committed);

/// How far may be read.
enum End {
    InProcess { shared: Arc<Shared>, early: bool },
    OtherProcess(SyncedView),
}

impl LocalReader {
    /// Reads a journal that another process writes, or that nobody writes. A group that is new
    /// begins at the oldest record. Commits of one group from two readers at once overwrite each
    /// other: use one reader per group.
    ///
    /// # Errors
    /// The directory is no journal, or the group name is unusable.
    pub fn open(dir: &Path, group: &str, topics: &[Topic], start: &Start) -> Result<Self, Error> {
        let end = End::OtherProcess(SyncedView::new(dir));
        Self::begin(dir, group, topics, start, end, Duration::from_millis(5))
    }

    pub(super) fn inside(
        shared: &Arc<Shared>,
        group: &str,
        topics: &[Topic],
        start: &Start,
    ) -> Result<Self, Error> {
        let end = End::InProcess {
            shared: Arc::clone(shared),
            early: false,
        };
        Self::begin(
            &shared.dir,
            group,
            topics,
            start,
            end,
            shared.options.linger,
        )
    }

    fn begin(
        dir: &Path,
        group: &str,
        topics: &[Topic],
        start: &Start,
        end: End,
        linger: Duration,
    ) -> Result<Self, Error> {
        let mut committed = None;
        if !group.is_empty() {
            groups::check_name(group)?;
            committed = groups::load(dir, group)?;
        }
        let mut reader = Self {
            dir: dir.to_owned(),
            group: group.to_owned(),
            topics: topics.to_vec(),
            end,
            cursor: Cursor::new(dir, Place::START, 0),
            known: HighWater::default(),
            committed,
            linger,
            not_before: None,
        };
        reader.go_to(start)?;
        if !group.is_empty() && reader.committed.is_none() {
            // From now on trimming waits for this group.
            reader.store(Committed {
                place: reader.cursor.place(),
                logical: reader.cursor.logical(),
            })?;
        }
        Ok(reader)
    }

    /// Also hands out what is not durable yet. Only for effects that a power cut takes with it, such
    /// as counters in memory. No effect in another process than the writer's.
    #[must_use]
    pub fn early(mut self) -> Self {
        if let End::InProcess { early, .. } = &mut self.end {
            *early = true;
        }
        self
    }

    /// How long after a batch that was not full the next one comes at the earliest. Default: the
    /// journal's `linger`, or 5 ms.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Where this reader stands: after everything that it has handed out.
    #[must_use]
    pub fn read_to(&self) -> ReadTo {
        ReadTo(Committed {
            place: self.cursor.place(),
            logical: self.cursor.logical(),
        })
    }

    /// As [`commit`](Reader::commit), for a reader that is ahead of what is done: the effects of
    /// everything handed out before `to` was taken are. Reading goes on meanwhile. When the task has ended well,
    /// [`stored_to`](Self::stored_to) is to be called. None: that much is stored already.
    #[must_use]
    pub fn store_to(&self, to: ReadTo) -> Option<JoinHandle<Result<(), Error>>> {
        let ReadTo(committed) = to;
        let behind = |known: Committed| known.logical >= committed.logical;
        if self.group.is_empty() || self.committed.is_some_and(behind) {
            return None;
        }
        let (dir, group) = (self.dir.clone(), self.group.clone());
        // Two syncs: not on a thread that serves others.
        Some(tokio::task::spawn_blocking(move || {
            groups::store(&dir, &group, committed)
        }))
    }

    /// What [`store_to`](Self::store_to) began is done: segments before it may be trimmed.
    pub fn stored_to(&mut self, to: ReadTo) {
        self.stored(to.0);
    }

    /// Two syncs: not on a thread that serves others.
    async fn store_on_the_side(&mut self, committed: Committed) -> Result<(), Error> {
        let (dir, group) = (self.dir.clone(), self.group.clone());
        tokio::task::spawn_blocking(move || groups::store(&dir, &group, committed))
            .await
            .map_err(|_| Error::Closed)??;
        self.stored(committed);
        Ok(())
    }

    /// Records that are there now, without waiting.
    ///
    /// # Errors
    /// A damaged or trimmed record.
    pub fn read(&mut self, max: usize) -> Result<Vec<Record>, Error> {
        let limit = self.end.limit()?;
        let mut records = Vec::new();
        while records.len() < max {
            match self.cursor.next(limit)? {
                Step::Record(found) => records.extend(self.wanted(found)),
                Step::End => {
                    // Everything before the limit was written once.
                    if self.cursor.place() < limit && limit != Place::MAX {
                        return Err(
                            self.damaged("no record is here, and the log goes on".to_owned())
                        );
                    }
                    break;
                }
                Step::Bad(problem) => {
                    if records.is_empty() {
                        return Err(self.damaged(problem));
                    }
                    // The good ones first; the next call meets it again.
                    break;
                }
            }
        }
        Ok(records)
    }

    fn wanted(&self, found: Found) -> Option<Record> {
        let record = record_of(found);
        (self.topics.contains(&record.topic)
            && record.identity.pseq
                > self.known.get(
                    record.topic,
                    record.identity.source_id,
                    record.identity.partition,
                ))
        .then_some(record)
    }

    fn damaged(&self, problem: String) -> Error {
        let (path, offset) = self.cursor.file_place();
        Error::corrupt(&path, offset, problem)
    }

    fn go_to(&mut self, start: &Start) -> Result<(), Error> {
        self.known = HighWater::default();
        self.cursor = match start {
            Start::Committed => match self.committed {
                Some(committed) => Cursor::new(&self.dir, committed.place, committed.logical),
                None => first(&self.dir)?,
            },
            Start::Beginning => first(&self.dir)?,
            Start::After(resume) => {
                let cursor = after(&self.dir, &resume.marks, &self.topics)?;
                self.known = resume.marks.iter().copied().collect();
                cursor
            }
        };
        Ok(())
    }

    fn store(&mut self, committed: Committed) -> Result<(), Error> {
        groups::store(&self.dir, &self.group, committed)?;
        self.stored(committed);
        Ok(())
    }

    fn stored(&mut self, committed: Committed) {
        self.committed = Some(committed);
        if let End::InProcess { shared, .. } = &self.end {
            shared.acknowledge(&self.group, committed);
        }
    }
}

#[async_trait]
impl Reader for LocalReader {
    async fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>, Error> {
        let deadline = Instant::now() + wait;
        if let Some(at) = self.not_before {
            tokio::time::sleep_until(at.min(deadline)).await;
        }
        let inside = match &self.end {
            End::InProcess { shared, early } => Some((Arc::clone(shared), *early)),
            End::OtherProcess(_) => None,
        };
        loop {
            // Made before looking, so that nothing written after the look goes unnoticed.
            let written = inside
                .as_ref()
                .map(|(shared, early)| shared.written(*early));
            let records = self.read(max)?;
            let now = Instant::now();
            if !records.is_empty() {
                let full = records.len() >= max;
                self.not_before = (!full && !self.linger.is_zero()).then(|| now + self.linger);
                return Ok(records);
            }
            if now >= deadline {
                return Ok(records);
            }
            match written {
                // A timeout: the next round looks once more and returns.
                Some(written) => drop(tokio::time::timeout_at(deadline, written).await),
                None => tokio::time::sleep_until(deadline.min(now + POLL)).await,
            }
        }
    }

    async fn commit(&mut self) -> Result<(), Error> {
        let ReadTo(committed) = self.read_to();
        if self.group.is_empty() || self.committed == Some(committed) {
            return Ok(());
        }
        self.store_on_the_side(committed).await
    }

    async fn seek(&mut self, start: &Start) -> Result<(), Error> {
        self.not_before = None;
        self.go_to(start)
    }

    fn lag(&self) -> Lag {
        Lag::Bytes(match &self.end {
            End::InProcess { shared, .. } => shared
                .writer
                .lock()
                .logical
                .saturating_sub(self.cursor.logical()),
            End::OtherProcess(view) => view
                .readable()
                .map_or(0, |limit| distance(&self.dir, &self.cursor, limit)),
        })
    }
}

impl End {
    fn limit(&self) -> Result<Place, Error> {
        match self {
            Self::InProcess {
                shared,
                early: true,
            } => Ok(shared.tail()),
            Self::InProcess {
                shared,
                early: false,
            } => Ok(shared.readable()),
            Self::OtherProcess(view) => view.readable(),
        }
    }
}

/// A record as consumers see it.
pub fn record_of(found: Found) -> Record {
    Record {
        topic: found.topic,
        identity: Identity {
            source_id: SourceId(found.source),
            partition: found.partition,
            pseq: found.pseq,
        },
        position: found.place.position(),
        version: found.pseq.0,
        body: found.body,
    }
}

/// At the oldest record that is kept.
pub fn first(dir: &Path) -> Result<Cursor, Error> {
    for number in segment::list(dir)? {
        if let Some(header) = header_of(dir, number)? {
            let place = Place {
                segment: number,
                offset: 0,
            };
            return Ok(Cursor::new(dir, place, header.logical));
        }
    }
    Ok(Cursor::new(dir, Place::START, 0))
}

/// At the newest segment that has everything after the marks; at the oldest one if none has, where
/// the consumer's own rule then sees the gap.
fn after(dir: &Path, marks: &[Mark], topics: &[Topic]) -> Result<Cursor, Error> {
    let known: HighWater = marks.iter().copied().collect();
    for number in segment::list(dir)?.into_iter().rev() {
        let Some(header) = header_of(dir, number)? else {
            continue;
        };
        let source = SourceId(header.source);
        let behind = header.last.iter().all(|&(topic, partition, pseq)| {
            Topic::from_u8(topic).is_none_or(|topic| {
                !topics.contains(&topic) || pseq <= known.get(topic, source, Partition(partition)).0
            })
        });
        if behind {
            let place = Place {
                segment: number,
                offset: 0,
            };
            return Ok(Cursor::new(dir, place, header.logical));
        }
    }
    first(dir)
}

/// Bytes of records between a cursor and a place; 0 where the place cannot be looked up.
fn distance(dir: &Path, cursor: &Cursor, limit: Place) -> u64 {
    let Ok(Some(header)) = header_of(dir, limit.segment) else {
        return 0;
    };
    let end = header.logical + u64::from(limit.offset).saturating_sub(u64::from(header.len));
    end.saturating_sub(cursor.logical())
}

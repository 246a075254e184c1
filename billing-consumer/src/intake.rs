//! A lane's end of the log: what it reads, in which order it may be applied, and when its position may
//! move. One per lane and process, over all partitions that the process was dealt: one settlement and one
//! insert cover them all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use budgets::Onward;
use journal::{Dealt, EventLog, Lag, Reader, Record, Resume, Start};
use schemas::{Identity, Micros, Offset, Standing, Topic};
use tokio::sync::watch;

use crate::Settings;
use crate::backoff::Patience;
use crate::dedupe::{Dedupe, Judged};
use crate::progress::Progress;
use crate::status::{Board, Name};

/// With nothing to read but a log that is not at its end (records that are not durable yet), a lane
/// believes that it is done after this long, and twice the time that its log may gather records.
const BELIEF: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(10);

pub(crate) struct Intake {
    lane: Name,
    board: Arc<Board>,
    settings: Settings,
    stop: watch::Receiver<bool>,
    reader: Box<dyn Reader>,
    dedupe: Dedupe,
    progress: Progress,
    /// Records carry offsets: the log is on a broker.
    offsets: bool,
    /// Something was read since the last seek.
    looked: bool,
    /// Read, not yet applied.
    waiting: VecDeque<Record>,
    /// A parked source goes on: what came after its gap must be read again.
    reread: bool,
    /// Something was handed out since the last commit.
    dirty: bool,
    /// A position is on its way to the log.
    committing: bool,
    empty_looks: u32,
    /// So many of them are enough, whatever the log says.
    looks: u32,
    /// The lane is to stop, and has begun to read what is left.
    ending: bool,
    /// It knows how far the log went by then.
    end_known: bool,
    /// The last read has failed.
    unread: bool,
}

/// Empty looks after which a lane believes that it is done.
fn looks(pause: Duration) -> u32 {
    let looks = (BELIEF + pause * 2).as_millis() / LOOK.as_millis();
    u32::try_from(looks).unwrap_or(u32::MAX)
}

/// What became of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Done,
    /// The group's partitions were dealt anew: drop what waits unapplied, ask the sink where it stands,
    /// and [`Intake::restart_after`] that.
    Reassigned,
}

/// What the intake belongs to.
pub(crate) struct Owner<'a> {
    pub lane: Name,
    pub group: &'a str,
    /// A record may come so much later, where more of them come at once then.
    pub pause: Duration,
    pub settings: &'a Settings,
    pub board: &'a Arc<Board>,
    pub stop: &'a watch::Receiver<bool>,
}

impl Intake {
    /// Opens the log where a sink stands; tries until it is there.
    pub(crate) async fn open(owner: Owner<'_>, log: &dyn EventLog, standing: &Standing) -> Self {
        let Owner {
            lane,
            group,
            pause,
            settings,
            board,
            stop,
        } = owner;
        let mut patience = Patience::new(lane, board, settings);
        let reader = loop {
            let start = Start::After(Resume::of(Topic::Usage, standing));
            let opened = log.gathering_reader(group, &[Topic::Usage], start, pause);
            match opened.await {
                Ok(reader) => break reader,
                Err(error) => {
                    patience
                        .failed(format!("the log cannot be read: {error}"))
                        .await
                }
            }
        };
        board.goes_on(lane);
        Self {
            lane,
            board: Arc::clone(board),
            settings: settings.clone(),
            stop: stop.clone(),
            offsets: matches!(reader.dealt(), Dealt::Partitions { .. }),
            reader,
            dedupe: Dedupe::after(&standing.marks),
            progress: Progress::after(standing),
            looked: false,
            waiting: VecDeque::new(),
            reread: false,
            dirty: false,
            committing: false,
            empty_looks: 0,
            looks: looks(pause),
            ending: false,
            end_known: false,
            unread: false,
        }
    }

    /// Everything is to be brought to its sink, and no more is to come.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Reads on if nothing waits to be applied. Waits for a record at most so long, and no longer than
    /// until the lane is to stop.
    pub(crate) async fn fill(&mut self, max: usize, wait: Duration) -> Fill {
        if !self.waiting.is_empty() {
            return Fill::Done;
        }
        match self.read(max, wait).await {
            Ok(Some(records)) => {
                if std::mem::take(&mut self.unread) {
                    self.board.goes_on(self.lane);
                }
                self.looked = true;
                self.offsets = matches!(self.reader.dealt(), Dealt::Partitions { .. });
                self.empty_looks = if records.is_empty() {
                    self.empty_looks + 1
                } else {
                    0
                };
                self.dirty |= !records.is_empty();
                self.waiting.extend(records);
            }
            Ok(None) => {}
            Err(journal::Error::Reassigned { .. }) => {
                tracing::info!(
                    lane = self.lane.text(),
                    "the partitions of the group were dealt anew: reading on from where the sink stands"
                );
                self.board
                    .update(self.lane, |status, _| status.reassigned += 1);
                return Fill::Reassigned;
            }
            Err(error) => {
                let why = format!("the log cannot be read: {error}");
                self.board.waits(self.lane, &why, self.settings.alarm_after);
                self.unread = true;
                // A log that is away does not keep the end waiting.
                self.empty_looks += u32::from(self.is_stopping());
                tokio::time::sleep(self.settings.retry_max.min(Duration::from_millis(200))).await;
            }
        }
        Fill::Done
    }

    async fn read(
        &mut self,
        max: usize,
        wait: Duration,
    ) -> Result<Option<Vec<Record>>, journal::Error> {
        if self.reread {
            let standing = self.standing();
            let start = Start::After(Resume::of(Topic::Usage, &standing));
            self.reader.seek(&start).await?;
            self.progress.release();
            (self.reread, self.looked, self.empty_looks) = (false, false, 0);
        }
        if self.is_stopping() {
            self.begin_to_end().await?;
            if self.empty_looks > 0 {
                tokio::time::sleep(LOOK).await;
            }
            return self.reader.next(max, Duration::ZERO).await.map(Some);
        }
        tokio::select! {
            biased;
            read = self.reader.next(max, wait) => read.map(Some),
            // The sender lives as long as the lanes; gone, the next read is short.
            _ = self.stop.changed() => Ok(None),
        }
    }

    /// The next record to apply. Drops what was applied before, and leaves parked sources alone.
    pub(crate) fn next(&mut self) -> Option<Record> {
        while let Some(record) = self.waiting.pop_front() {
            match self.dedupe.judge(&record.identity) {
                Judged::Apply => return Some(record),
                Judged::Heals => {
                    self.waiting.clear();
                    self.reread = true;
                    self.publish_gaps();
                    return Some(record);
                }
                Judged::Duplicate => {
                    self.passed(&record);
                    self.board
                        .update(self.lane, |status, _| status.duplicates += 1);
                }
                Judged::Gap(gap) => {
                    tracing::error!(lane = self.lane.text(), "{gap}");
                    self.progress.hold(record.identity.partition);
                    self.publish_gaps();
                }
                Judged::Parked => self.progress.hold(record.identity.partition),
            }
        }
        None
    }

    fn publish_gaps(&self) {
        let gaps = self.dedupe.gaps();
        self.board.update(self.lane, |status, _| status.gaps = gaps);
    }

    /// It cannot be applied yet; it comes again first.
    pub(crate) fn put_back(&mut self, record: Record) {
        self.waiting.push_front(record);
    }

    /// It is part of the batch.
    pub(crate) fn taken(&mut self, record: &Record) {
        self.dedupe.raise(&record.identity);
        self.passed(record);
    }

    fn passed(&mut self, record: &Record) {
        if self.offsets {
            self.progress
                .pass(record.identity.partition, Offset(record.version));
        }
    }

    /// How far the batch in the making brings each partition of a broker.
    pub(crate) fn onward(&self) -> Vec<Onward> {
        self.progress.onward().collect()
    }

    /// The sink has the batch.
    pub(crate) fn applied(&mut self) {
        self.progress.stored();
    }

    /// Forgets what was read and goes on from there: the sink is elsewhere than thought.
    pub(crate) fn restart_after(&mut self, standing: &Standing) {
        self.dedupe = Dedupe::after(&standing.marks);
        self.progress = Progress::after(standing);
        self.waiting.clear();
        self.reread = true;
        self.publish_gaps();
    }

    /// What was seen before the lane was to stop says nothing about what has come since.
    async fn begin_to_end(&mut self) -> Result<(), journal::Error> {
        if !self.ending {
            (self.ending, self.empty_looks) = (true, 0);
        }
        if !self.end_known {
            self.reader.look_at_end().await?;
            self.end_known = true;
        }
        Ok(())
    }

    /// Where the lane stands, with the batch in the making.
    fn standing(&self) -> Standing {
        Standing {
            marks: self.marks(),
            next: self.progress.next(),
        }
    }

    /// Nothing is left to apply. True some moments late while records are not durable yet.
    pub(crate) fn is_at_end(&self) -> bool {
        self.waiting.is_empty()
            && !self.reread
            && self.empty_looks > 0
            && (self.none_left() || self.empty_looks >= self.looks)
    }

    /// Everything is applied that was in the log at `since`: now, or at some moment after. `last` is the end
    /// of the last call that was.
    pub(crate) fn has_passed(&self, since: Micros, last: Option<Micros>) -> bool {
        // With partitions a late event of one says nothing about the others.
        let beyond = !self.offsets && last.is_some_and(|last| last > since);
        let at_end = self.offsets && self.looked && self.waiting.is_empty() && !self.reread;
        beyond || (at_end && self.none_left()) || (!self.offsets && self.is_at_end())
    }

    fn none_left(&self) -> bool {
        matches!(self.reader.lag(), Lag::Bytes(0) | Lag::Records(0))
    }

    /// The lane is to stop, and has brought what it was to bring: everything, or where others go on, what
    /// was there when it was told to.
    pub(crate) fn is_ending(&self) -> bool {
        let passed = self.offsets && self.end_known && self.has_passed(Micros(i64::MAX), None);
        self.ending && (self.is_at_end() || passed)
    }

    /// Tells how far the log is read.
    pub(crate) fn publish(&self) {
        let (lag, dealt) = (self.reader.lag(), self.reader.dealt());
        self.board.update(self.lane, |status, _| {
            status.lag = Some(lag);
            status.dealt = dealt;
        });
    }

    pub(crate) fn dealt(&self) -> Dealt {
        self.reader.dealt()
    }

    /// Events of a source wait behind one that is missing.
    pub(crate) fn is_parked(&self) -> bool {
        self.dedupe.is_parked()
    }

    /// The next record cannot be applied yet.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Stores the position, if everything handed out is in the sink. Not while a source is parked: its
    /// events lie behind the position. Says whether it did.
    pub(crate) async fn commit(&mut self) -> bool {
        if !self.may_commit() {
            return false;
        }
        self.committing = false;
        let stored = self.reader.commit().await;
        self.stored(stored.map(|()| true))
    }

    /// As [`commit`](Self::commit), without waiting for it: says whether it is done by now, or one that was
    /// begun before.
    pub(crate) async fn commit_aside(&mut self) -> bool {
        if !self.committing {
            if !self.may_commit() {
                return false;
            }
            self.dirty = false;
        }
        let stored = self.reader.commit_within(Duration::ZERO).await;
        self.committing = matches!(stored, Ok(false));
        let dirty = self.dirty;
        let done = self.stored(stored);
        // What was handed out meanwhile is not in it.
        self.dirty |= dirty;
        done
    }

    pub(crate) fn is_committing(&self) -> bool {
        self.committing
    }

    fn may_commit(&self) -> bool {
        self.dirty && self.waiting.is_empty() && !self.reread && !self.dedupe.is_parked()
    }

    fn stored(&mut self, stored: Result<bool, journal::Error>) -> bool {
        match stored {
            Ok(stored) => {
                self.dirty &= !stored;
                return stored;
            }
            // The next read tells.
            Err(journal::Error::Reassigned { .. }) => {}
            // The position is a hint; the sink knows better. The next batch tries again.
            Err(error) => tracing::error!(
                lane = self.lane.text(),
                "the lane's position cannot be stored: {error}"
            ),
        }
        self.dirty = true;
        false
    }

    pub(crate) fn marks(&self) -> Vec<Identity> {
        self.dedupe.marks()
    }
}

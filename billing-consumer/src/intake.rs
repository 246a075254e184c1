//! A lane's end of the log: what it reads, in which order it may be applied, and when its position may
//! move. One intake per lane now; with a partitioned log, one per lane and partition.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use journal::{EventLog, Lag, Reader, Record, Start};
use schemas::{Identity, Topic};
use tokio::sync::watch;

use crate::Settings;
use crate::backoff::Patience;
use crate::dedupe::{Dedupe, Judged};
use crate::status::{Board, Name};

/// With nothing to read but a log that is not at its end (records that are not durable yet), a lane
/// believes that it is done after this many looks.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(10);

pub(crate) struct Intake {
    lane: Name,
    board: Arc<Board>,
    settings: Settings,
    stop: watch::Receiver<bool>,
    reader: Box<dyn Reader>,
    dedupe: Dedupe,
    /// Read, not yet applied.
    waiting: VecDeque<Record>,
    /// A parked source goes on: what came after its gap must be read again.
    reread: bool,
    /// Something was handed out since the last commit.
    dirty: bool,
    empty_looks: u32,
}

/// What the intake belongs to.
pub(crate) struct Owner<'a> {
    pub lane: Name,
    pub group: &'a str,
    pub settings: &'a Settings,
    pub board: &'a Arc<Board>,
    pub stop: &'a watch::Receiver<bool>,
}

impl Intake {
    /// Opens the log after these events; tries until it is there.
    pub(crate) async fn open(owner: Owner<'_>, log: &dyn EventLog, marks: &[Identity]) -> Self {
        let dedupe = Dedupe::after(marks);
        let Owner {
            lane,
            group,
            settings,
            board,
            stop,
        } = owner;
        let mut patience = Patience::new(lane, board, settings);
        let reader = loop {
            let start = Start::After(dedupe.marks().into());
            match log.reader(group, &[Topic::Usage], start).await {
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
            reader,
            dedupe,
            waiting: VecDeque::new(),
            reread: false,
            dirty: false,
            empty_looks: 0,
        }
    }

    /// Everything is to be brought to its sink, and no more is to come.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Reads on if nothing waits to be applied. Waits for a record at most so long, and no longer than
    /// until the lane is to stop.
    pub(crate) async fn fill(&mut self, max: usize, wait: Duration) {
        if !self.waiting.is_empty() {
            return;
        }
        match self.read(max, wait).await {
            Ok(Some(records)) => {
                self.empty_looks = if records.is_empty() {
                    self.empty_looks + 1
                } else {
                    0
                };
                self.dirty |= !records.is_empty();
                self.waiting.extend(records);
            }
            Ok(None) => {}
            Err(error) => {
                let why = format!("the log cannot be read: {error}");
                self.board.waits(self.lane, &why, self.settings.alarm_after);
                tokio::time::sleep(self.settings.retry_max.min(Duration::from_millis(200))).await;
            }
        }
    }

    async fn read(
        &mut self,
        max: usize,
        wait: Duration,
    ) -> Result<Option<Vec<Record>>, journal::Error> {
        if self.reread {
            self.reader
                .seek(&Start::After(self.dedupe.marks().into()))
                .await?;
            self.reread = false;
        }
        if self.is_stopping() {
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
                    self.board
                        .update(self.lane, |status, _| status.duplicates += 1);
                }
                Judged::Gap(gap) => {
                    tracing::error!(lane = self.lane.text(), "{gap}");
                    self.publish_gaps();
                }
                Judged::Parked => {}
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
    }

    /// Forgets what was read and goes on after these events: the sink is elsewhere than thought.
    pub(crate) fn restart_after(&mut self, marks: &[Identity]) {
        self.dedupe = Dedupe::after(marks);
        self.waiting.clear();
        self.reread = true;
        self.publish_gaps();
    }

    /// Nothing is left to apply. True some moments late while records are not durable yet.
    pub(crate) fn is_at_end(&self) -> bool {
        let none_left = matches!(self.reader.lag(), Lag::Bytes(0) | Lag::Records(0));
        self.waiting.is_empty()
            && !self.reread
            && self.empty_looks > 0
            && (none_left || self.empty_looks >= LOOKS)
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
        if !self.dirty || !self.waiting.is_empty() || self.reread || self.dedupe.is_parked() {
            return false;
        }
        match self.reader.commit().await {
            Ok(()) => {
                self.dirty = false;
                true
            }
            Err(error) => {
                // The position is a hint; the sink knows better. The next batch tries again.
                tracing::error!(
                    lane = self.lane.text(),
                    "the lane's position cannot be stored: {error}"
                );
                false
            }
        }
    }

    pub(crate) fn marks(&self) -> Vec<journal::Mark> {
        self.dedupe.marks()
    }

    pub(crate) fn lag(&self) -> Lag {
        self.reader.lag()
    }
}

//! A topic whose records have one order for everybody: read from a version on to its end, then tailed.

use std::sync::Arc;
use std::time::Duration;

use journal::{Error as LogError, Reader as _, Record, Resume, Start};
use schemas::{Offset, Partition, Topic};

use crate::Error;
use crate::log::Inner;
use crate::reader::KafkaReader;

/// Follows the first partition of a topic, for oneself: no group, no position on the broker.
pub struct Following {
    reader: KafkaReader,
    /// Where the topic ended when this began; none until the broker has said so.
    goal: Option<u64>,
    version: u64,
}

impl Following {
    pub(crate) async fn open(log: &Arc<Inner>, topic: Topic, after: u64) -> Result<Self, Error> {
        // A record's version is the offset after it.
        let next = vec![(topic, Partition(0), Offset(after))];
        let start = match after {
            0 => Start::Beginning,
            _ => Start::After(Resume {
                marks: Vec::new(),
                next,
            }),
        };
        let mut following = Self {
            reader: KafkaReader::open(log, "", &[topic], start, None).await?,
            goal: None,
            version: after,
        };
        following.look();
        Ok(following)
    }

    /// Up to `max` records in the order of their versions; waits at most `wait` for the first one.
    /// Cancelling it loses nothing.
    ///
    /// # Errors
    /// The broker failed (asking again goes on), or the topic no longer holds what comes after the
    /// version that this began with (asking again repeats the error).
    pub async fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>, LogError> {
        let records = self.reader.next(max, wait).await;
        self.look();
        let records = records?;
        if let Some(last) = records.last() {
            self.version = last.version;
        }
        Ok(records)
    }

    /// Everything that was in the topic when this began has been handed out.
    #[must_use]
    pub fn is_caught_up(&mut self) -> bool {
        self.look();
        match (self.goal, self.reader.stands()) {
            (Some(goal), Some((handed, _))) => handed >= goal,
            _ => false,
        }
    }

    /// The version of the last record that was handed out, or that this began after.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    fn look(&mut self) {
        if self.goal.is_none() {
            self.goal = self.reader.stands().map(|(_, end)| end);
        }
    }
}

//! Events that can never be billed: kept whole, with the reason, in a log of their own.
//!
//! Written, and durable, before the lane's position moves past the event. A crash in between meets the
//! event again; what this log already has is not written twice, since it is read at the first use.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use journal::{EventLog, Lag, Reader, Record, Start};
use schemas::codec::Blob;
use schemas::events::DeadLetter;
use schemas::{Event, Identity, Micros, Partition, Pseq, SourceId, Text, Topic};
use tokio::sync::Mutex;

use crate::backoff::Patience;
use crate::status::Name;

/// All letters lie in one partition: there are few.
const PARTITION: Partition = Partition(0);
/// Records read at once.
const READ: usize = 1_000;
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: u32 = 40;

/// The dead-letter log of both lanes.
pub struct DeadLetters {
    log: Arc<dyn EventLog>,
    /// Lane and event of every letter; `None` until the log has been read.
    known: Mutex<Option<HashSet<(Text, Identity)>>>,
}

impl DeadLetters {
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self {
            log,
            known: Mutex::new(None),
        }
    }

    /// Puts a record there, unless it is there already. Durable when it returns.
    ///
    /// # Errors
    /// The log failed; asking again is safe.
    pub async fn put(
        &self,
        lane: &str,
        record: &Record,
        reason: &str,
        now: Micros,
    ) -> Result<(), journal::Error> {
        let mut known = self.known.lock().await;
        let known = match &mut *known {
            Some(known) => known,
            none => none.insert(self.read().await?),
        };
        let key = (Text::from(lane), record.identity);
        if known.contains(&key) {
            return Ok(());
        }
        let letter = DeadLetter {
            event_time: now,
            topic: u32::from(record.topic as u8),
            of_source: record.identity.source_id.0,
            of_partition: u32::from(record.identity.partition.0),
            of_pseq: record.identity.pseq.0,
            lane: key.0.clone(),
            error: reason.into(),
            original: Blob(record.body.to_vec()),
        };
        self.log
            .append(Topic::Dlq, PARTITION, Bytes::from(letter.body()))
            .await?;
        tracing::error!(
            event.id = %record.identity,
            lane,
            "an event cannot be billed and lies in the dead letters: {reason}"
        );
        known.insert(key);
        Ok(())
    }

    /// As [`put`](Self::put), however long it takes: a lane goes past an event only when it lies here.
    pub(crate) async fn bury(
        &self,
        lane: Name,
        record: &Record,
        reason: &str,
        mut patience: Patience<'_>,
    ) {
        while let Err(error) = self.put(lane.text(), record, reason, crate::now()).await {
            patience
                .failed(format!("the dead letters cannot be written: {error}"))
                .await;
        }
    }

    async fn read(&self) -> Result<HashSet<(Text, Identity)>, journal::Error> {
        let letters = all(&*self.log).await?;
        let known = letters.into_iter().filter_map(|letter| {
            let identity = Identity {
                source_id: SourceId(letter.of_source),
                partition: Partition(u16::try_from(letter.of_partition).ok()?),
                pseq: Pseq(letter.of_pseq),
            };
            Some((letter.lane, identity))
        });
        Ok(known.collect())
    }
}

/// Every letter of a log, in the order of its partitions. One that cannot be read is left out: that is no
/// reason to lose another.
///
/// # Errors
/// The log cannot be read to its end.
pub async fn all(log: &dyn EventLog) -> Result<Vec<DeadLetter>, journal::Error> {
    let mut reader = log.reader("", &[Topic::Dlq], Start::Beginning).await?;
    let mut letters = Vec::new();
    to_end(&mut *reader, |record| {
        letters.extend(DeadLetter::from_body(&record.body).ok());
    })
    .await?;
    Ok(letters)
}

/// Hands out what a log holds from where its reader stands, up to its present end.
pub(crate) async fn to_end(
    reader: &mut dyn Reader,
    mut take: impl FnMut(&Record),
) -> Result<(), journal::Error> {
    let mut looks = 0;
    loop {
        let records = reader.next(READ, LOOK).await?;
        records.iter().for_each(&mut take);
        looks = if records.is_empty() { looks + 1 } else { 0 };
        // A local log may end in records that are not durable yet; brokers may need a moment to answer.
        let local = matches!(reader.lag(), Lag::Bytes(_)) && looks > 0;
        if local || matches!(reader.lag(), Lag::Bytes(0) | Lag::Records(0)) {
            return Ok(());
        }
        if looks >= LOOKS {
            return Err(journal::Error::Broker(
                "the log gives nothing more before its end".to_owned(),
            ));
        }
    }
}

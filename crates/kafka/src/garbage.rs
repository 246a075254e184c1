//! Messages that are no events of ours, and say not even whose they are: kept whole in the dead letters,
//! once per consumer group, before the group's position passes them.
//!
//! A message whose body cannot be read but whose header can is not this file's: it goes to the consumer
//! as a record, and the consumer's own dead letters keep it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use schemas::codec::Blob;
use schemas::{DeadLetter, Event as _, Micros, Partition, Text, Topic};
use tokio::sync::Mutex;

use crate::Error;
use crate::log::Inner;

/// All letters lie in one partition: there are few.
const PARTITION: Partition = Partition(0);

/// Where a message lies, and for whom it was read.
pub struct Stray<'a> {
    pub group: &'a str,
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
    pub why: &'a str,
    pub bytes: &'a [u8],
}

/// Lane, topic, partition and offset of letters that are there.
type Known = HashSet<(Text, u32, u32, u64)>;

#[derive(Default)]
pub struct Strays(Mutex<Option<Known>>);

impl Strays {
    /// Puts a message into the dead letters, unless it is there. Durable when it returns.
    pub async fn put(&self, log: &Arc<Inner>, stray: &Stray<'_>) -> Result<(), Error> {
        let mut known = self.0.lock().await;
        let known = match &mut *known {
            Some(known) => known,
            none => none.insert(read(log).await?),
        };
        let letter = DeadLetter {
            event_time: now(),
            topic: u32::from(stray.topic as u8),
            // No source has this id: it is nobody's event.
            of_source: 0,
            of_partition: u32::try_from(stray.partition).unwrap_or_default(),
            of_pseq: u64::try_from(stray.offset).unwrap_or_default(),
            lane: stray.group.into(),
            error: format!(
                "{}, partition {}, offset {}: {}",
                log.settings.name(stray.topic),
                stray.partition,
                stray.offset,
                stray.why
            )
            .into(),
            original: Blob(stray.bytes.to_vec()),
        };
        if known.contains(&name_of(&letter)) {
            return Ok(());
        }
        let body = Bytes::from(letter.body());
        log.appender.append(Topic::Dlq, PARTITION, &body).await?;
        tracing::error!(
            lane = stray.group,
            "a message that is no event lies in the dead letters: {}",
            letter.error
        );
        known.insert(name_of(&letter));
        Ok(())
    }
}

fn name_of(letter: &DeadLetter) -> (Text, u32, u32, u64) {
    (
        letter.lane.clone(),
        letter.topic,
        letter.of_partition,
        letter.of_pseq,
    )
}

async fn read(log: &Arc<Inner>) -> Result<Known, Error> {
    let mut following = log.following(Topic::Dlq, 0).await?;
    let mut known = Known::new();
    while !following.is_caught_up() {
        for record in following.next(1_000, Duration::from_millis(100)).await? {
            // A letter that cannot be read is no reason to lose another: it is then written again.
            if let Ok(letter) = DeadLetter::from_body(&record.body)
                && letter.of_source == 0
            {
                known.insert(name_of(&letter));
            }
        }
    }
    Ok(known)
}

fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.unwrap_or_default().as_micros();
    Micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

//! What the logs say: the sources' heartbeats, the lanes' notes, and the dead letters. Read once and then
//! read on, so that looking again is cheap.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use journal::{EventLog, Lag, Reader, Record, Start};
use schemas::{
    AuditEvent, AuditKind, DeadLetter, Event, Identity, Partition, Pseq, SourceId, Text, Topic,
};

use super::blocks::Block;

/// Records read at once.
const READ: usize = 10_000;
const LOOK: Duration = Duration::from_millis(500);
/// Looks at a log that is not at its end and gives nothing: records that are not durable yet, or brokers
/// that do not answer.
const LOOKS: u32 = 20;

/// Why the evidence could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error(transparent)]
    Log(#[from] journal::Error),
    #[error("the log of {topic} gives nothing more before its end")]
    Stuck { topic: &'static str },
}

/// The last heartbeat of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its own number: a relay may bring an older one once more.
    pub said: Pseq,
    /// The last usage event of each partition.
    pub usage: BTreeMap<Partition, Pseq>,
    /// Calls admitted, of all partitions together.
    pub opened: u64,
    /// Calls in progress.
    pub open: u64,
}

/// A lane, a source, a partition.
pub type LaneKey = (Text, SourceId, Partition);

/// Everything that the logs said so far.
#[derive(Debug, Default)]
pub struct Told {
    pub heartbeats: BTreeMap<SourceId, Heartbeat>,
    /// Spans of notes that follow on each other, added up.
    pub notes: BTreeMap<LaneKey, Vec<Block>>,
    /// By lane.
    pub letters: HashMap<Text, BTreeSet<Identity>>,
    /// Lost events that an operator has accepted as lost. They are among the letters.
    pub accepted: BTreeSet<Identity>,
    /// Letters of messages that say not whose they are.
    pub strays: u64,
    /// Records that cannot be read.
    pub unreadable: u64,
}

/// The logs, read on from look to look.
pub struct Evidence {
    readers: Vec<(Topic, Box<dyn Reader>)>,
    pub told: Told,
}

impl Evidence {
    /// Opens the logs at their beginning.
    pub async fn open(
        audit: &[Arc<dyn EventLog>],
        dead_letters: &[Arc<dyn EventLog>],
    ) -> Result<Self, EvidenceError> {
        let mut readers = Vec::new();
        for (topic, logs) in [(Topic::Audit, audit), (Topic::Dlq, dead_letters)] {
            for log in logs {
                readers.push((topic, log.reader("", &[topic], Start::Beginning).await?));
            }
        }
        Ok(Self {
            readers,
            told: Told::default(),
        })
    }

    /// Reads on to the present ends.
    pub async fn read_on(&mut self) -> Result<(), EvidenceError> {
        for (topic, reader) in &mut self.readers {
            let mut looks = 0;
            loop {
                let records = reader.next(READ, LOOK).await?;
                for record in &records {
                    self.told.note(record);
                }
                if matches!(reader.lag(), Lag::Bytes(0) | Lag::Records(0)) {
                    break;
                }
                looks = if records.is_empty() { looks + 1 } else { 0 };
                if looks >= LOOKS {
                    let topic = topic.name();
                    return Err(EvidenceError::Stuck { topic });
                }
            }
        }
        Ok(())
    }
}

impl Told {
    fn note(&mut self, record: &Record) {
        let read = match record.topic {
            Topic::Audit => AuditEvent::from_body(&record.body)
                .map(|event| self.note_audit(&record.identity, event)),
            Topic::Dlq => {
                DeadLetter::from_body(&record.body).map(|letter| self.note_letter(letter))
            }
            _ => Ok(()),
        };
        self.unreadable += u64::from(read.is_err());
    }

    fn note_audit(&mut self, identity: &Identity, event: AuditEvent) {
        let known = self.heartbeats.get(&identity.source_id);
        let is_new = known.is_none_or(|known| known.said < identity.pseq);
        if event.kind == AuditKind::Heartbeat && is_new {
            let mut heartbeat = Heartbeat {
                said: identity.pseq,
                usage: BTreeMap::new(),
                opened: 0,
                open: event.open_calls,
            };
            for last in &event.last {
                if last.topic == u32::from(Topic::Requests as u8) {
                    heartbeat.opened += last.last;
                } else if last.topic == u32::from(Topic::Usage as u8)
                    && let Ok(partition) = u16::try_from(last.of_partition)
                {
                    heartbeat
                        .usage
                        .insert(Partition(partition), Pseq(last.last));
                }
            }
            self.heartbeats.insert(identity.source_id, heartbeat);
        }
        // No lane has brought these: the letters in their places tell of them.
        if event.kind == AuditKind::GapAccepted {
            return;
        }
        for told in event.blocks {
            let (Ok(partition), Ok(sum)) = (u16::try_from(told.of_partition), told.sum.parse())
            else {
                self.unreadable += 1;
                continue;
            };
            let key = (told.lane, SourceId(told.of_source), Partition(partition));
            let block = Block {
                first: Pseq(told.first),
                last: Pseq(told.last),
                events: told.events,
                poison: told.poison,
                sum,
                print: told.print,
            };
            add(self.notes.entry(key).or_default(), block);
        }
    }

    fn note_letter(&mut self, letter: DeadLetter) {
        if letter.topic != u32::from(Topic::Usage as u8) {
            return;
        }
        let Some(partition) = u16::try_from(letter.of_partition)
            .ok()
            .filter(|_| letter.of_source != 0)
        else {
            self.strays += 1;
            return;
        };
        let identity = Identity {
            source_id: SourceId(letter.of_source),
            partition: Partition(partition),
            pseq: Pseq(letter.of_pseq),
        };
        if DeadLetter::from_body(&letter.original.0).is_ok() {
            self.accepted.insert(identity);
        }
        self.letters
            .entry(letter.lane)
            .or_default()
            .insert(identity);
    }

    /// How many dead letters of a lane lie in a span.
    pub fn letters_in(
        &self,
        lane: &str,
        source: SourceId,
        partition: Partition,
        span: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let at = |pseq| Identity {
            source_id: source,
            partition,
            pseq: Pseq(pseq),
        };
        let letters = self.letters.get(lane);
        letters.map_or(0, |letters| {
            letters.range(at(*span.start())..=at(*span.end())).count() as u64
        })
    }
}

/// Adds a note to those that it follows on, or keeps it beside them.
fn add(notes: &mut Vec<Block>, block: Block) {
    match notes
        .iter_mut()
        .find(|note| note.last.0.checked_add(1) == Some(block.first.0))
    {
        Some(note) => note.append(&block),
        None => notes.push(block),
    }
    // What was told out of order may now follow on.
    notes.sort_by_key(|note| (note.first, note.last));
    let mut at = 0;
    while at + 1 < notes.len() {
        if notes[at].last.0.checked_add(1) == Some(notes[at + 1].first.0) {
            let next = notes.remove(at + 1);
            notes[at].append(&next);
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first: u64, last: u64) -> Block {
        Block {
            first: Pseq(first),
            last: Pseq(last),
            events: last - first + 1,
            poison: 0,
            sum: 1,
            print: u64::MAX,
        }
    }

    #[test]
    fn notes_add_up_in_any_order_and_overlaps_stay_apart() {
        let mut notes = Vec::new();
        for (first, last) in [(1, 10), (21, 30), (11, 20), (25, 40), (31, 35)] {
            add(&mut notes, block(first, last));
        }
        let spans: Vec<_> = notes.iter().map(|n| (n.first.0, n.last.0, n.sum)).collect();
        assert_eq!(spans, [(1, 35, 4), (25, 40, 1)]);
        assert_eq!(notes[0].print, u64::MAX - 3);
    }
}

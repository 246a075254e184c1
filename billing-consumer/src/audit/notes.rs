//! What a lane has brought and not told yet, for the audit topic. Each note covers a span without a hole,
//! so notes of several processes and lives add up where they follow on each other.

use std::collections::BTreeMap;

use schemas::{AuditBlock, AuditEvent, AuditKind, Event, Micros, Pseq};

use super::blocks::{Audit, Block, BlockId};

/// Blocks in one event.
const AT_ONCE: usize = 500;

/// Events of one source and partition without a hole.
pub type Span = (BlockId, Block);

/// One lane's notes.
#[derive(Debug, Default)]
pub struct Notes {
    open: BTreeMap<BlockId, Block>,
    /// The lane has left these spans: another process went on from there.
    closed: Vec<Span>,
}

impl Notes {
    /// Adds a batch, once its effect is durable.
    pub fn add(&mut self, batch: &Audit) {
        for (id, new) in batch.blocks() {
            match self.open.get_mut(id) {
                Some(block) if new.first == Pseq(block.last.0 + 1) => block.append(new),
                Some(block) => {
                    let left = std::mem::replace(block, *new);
                    self.closed.push((*id, left));
                }
                None => {
                    self.open.insert(*id, *new);
                }
            }
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.closed.is_empty()
    }

    /// All of it as bodies for the audit topic. What is not told in the end has to be
    /// [put back](Self::put_back).
    #[must_use]
    pub fn take(&mut self) -> Vec<Span> {
        let mut all = std::mem::take(&mut self.closed);
        all.extend(std::mem::take(&mut self.open));
        all
    }

    /// They could not be told.
    pub fn put_back(&mut self, blocks: Vec<Span>) {
        self.closed.extend(blocks);
    }
}

/// Events for the audit topic.
pub fn bodies<'a>(
    lane: &'a str,
    blocks: &'a [Span],
    now: Micros,
) -> impl Iterator<Item = Vec<u8>> + 'a {
    blocks.chunks(AT_ONCE).map(move |blocks| {
        let block = |(id, block): &Span| AuditBlock {
            lane: lane.into(),
            of_source: id.source.0,
            of_partition: u32::from(id.partition.0),
            first: block.first.0,
            last: block.last.0,
            events: block.events,
            poison: block.poison,
            sum: block.sum.to_string().into(),
            print: block.print,
        };
        let event = AuditEvent {
            event_time: now,
            kind: AuditKind::Unknown,
            last: Vec::new(),
            depth_bytes: 0,
            open_calls: 0,
            blocks: blocks.iter().map(block).collect(),
        };
        event.body()
    })
}

#[cfg(test)]
mod tests {
    use schemas::{Identity, NanoUsd, Partition, SourceId};

    use super::*;

    fn batch(pseqs: std::ops::RangeInclusive<u64>) -> Audit {
        let mut audit = Audit::default();
        for pseq in pseqs {
            let identity = Identity {
                source_id: SourceId(1),
                partition: Partition(2),
                pseq: Pseq(pseq),
            };
            audit.billed(&identity, NanoUsd(1));
        }
        audit
    }

    #[test]
    fn a_span_that_another_process_went_on_with_is_a_note_of_its_own() {
        let mut notes = Notes::default();
        for span in [1..=3, 4..=9, 20..=30, 5..=6] {
            notes.add(&batch(span));
        }
        let spans: Vec<_> = notes
            .take()
            .into_iter()
            .map(|(_, block)| (block.first.0, block.last.0, block.events))
            .collect();
        assert_eq!(spans, [(1, 9, 9), (20, 30, 11), (5, 6, 2)]);
        assert!(notes.is_empty());
    }

    #[test]
    fn notes_read_back() {
        let mut notes = Notes::default();
        notes.add(&batch(1..=3));
        let taken = notes.take();
        let body = bodies("store", &taken, Micros(5)).next().unwrap();
        let told = AuditEvent::from_body(&body).unwrap();
        assert_eq!((told.event_time, told.blocks[0].events), (Micros(5), 3));
        notes.put_back(taken);
        assert!(!notes.is_empty());
    }
}

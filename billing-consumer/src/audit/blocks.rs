//! What each lane has brought to its sink, in blocks that can be compared: the two lanes are each
//! other's audit, and a query over the tables is a third.
//!
//! The fingerprint is a sum of hashes, so it does not depend on order, and two different sets of
//! events with equal counts and sums still differ.

use std::collections::BTreeMap;

use schemas::{Identity, NanoUsd, Partition, Pseq, SourceId};
use xxhash_rust::xxh3::xxh3_64;

/// Events per block: 2¹⁶.
const BLOCK_BITS: u32 = 16;
/// Blocks kept per (source, partition).
const KEPT: u64 = 16;

/// Which block: events `number << 16` to `(number + 1 << 16) - 1` of one source and partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    pub source: SourceId,
    pub partition: Partition,
    pub number: u64,
}

/// What a lane has seen of a block since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub first: Pseq,
    pub last: Pseq,
    /// Billed.
    pub events: u64,
    /// Given to the dead letters.
    pub poison: u64,
    /// Nano-USD.
    pub sum: i128,
    /// Sum modulo 2⁶⁴ of xxh3 over identity and amount, little-endian.
    pub print: u64,
}

impl Block {
    /// Adds what follows on it.
    pub fn append(&mut self, next: &Self) {
        self.first = self.first.min(next.first);
        self.last = self.last.max(next.last);
        self.events += next.events;
        self.poison += next.poison;
        self.sum += next.sum;
        self.print = self.print.wrapping_add(next.print);
    }
}

/// One lane's blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    blocks: BTreeMap<BlockId, Block>,
}

/// Two lanes against each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Blocks of which both lanes have seen the same span.
    pub compared: u64,
    /// Those of them that differ: money went two ways.
    pub differing: Vec<BlockId>,
}

impl Audit {
    /// Notes a billed event.
    pub fn billed(&mut self, identity: &Identity, amount: NanoUsd) {
        let block = self.block(identity);
        block.events += 1;
        block.sum += i128::from(amount.0);
        block.print = block.print.wrapping_add(print_of(identity, amount));
    }

    /// Notes a dead letter.
    pub fn poison(&mut self, identity: &Identity) {
        self.block(identity).poison += 1;
    }

    fn block(&mut self, identity: &Identity) -> &mut Block {
        let pseq = identity.pseq;
        let id = BlockId {
            source: identity.source_id,
            partition: identity.partition,
            number: pseq.0 >> BLOCK_BITS,
        };
        let block = self.blocks.entry(id).or_insert(Block {
            first: pseq,
            last: pseq,
            events: 0,
            poison: 0,
            sum: 0,
            print: 0,
        });
        block.first = block.first.min(pseq);
        block.last = block.last.max(pseq);
        block
    }

    /// Adds a batch's notes, once its effect is durable, and forgets blocks long past.
    pub fn merge(&mut self, batch: Self) {
        for (id, new) in batch.blocks {
            match self.blocks.get_mut(&id) {
                Some(block) => block.append(&new),
                None => {
                    self.blocks.insert(id, new);
                }
            }
            if let Some(number) = id.number.checked_sub(KEPT) {
                self.blocks.remove(&BlockId { number, ..id });
            }
        }
    }

    /// All blocks kept, in order.
    pub fn blocks(&self) -> impl Iterator<Item = (&BlockId, &Block)> {
        self.blocks.iter()
    }

    /// Compares what both lanes have seen whole.
    #[must_use]
    pub fn against(&self, other: &Self) -> Agreement {
        let mut agreement = Agreement::default();
        for (id, block) in &self.blocks {
            if let Some(theirs) = other.blocks.get(id)
                && (block.first, block.last) == (theirs.first, theirs.last)
            {
                agreement.compared += 1;
                if block != theirs {
                    agreement.differing.push(*id);
                }
            }
        }
        agreement
    }
}

fn print_of(identity: &Identity, amount: NanoUsd) -> u64 {
    let mut bytes = [0; 26];
    bytes[..8].copy_from_slice(&identity.source_id.0.to_le_bytes());
    bytes[8..10].copy_from_slice(&identity.partition.0.to_le_bytes());
    bytes[10..18].copy_from_slice(&identity.pseq.0.to_le_bytes());
    bytes[18..].copy_from_slice(&amount.0.to_le_bytes());
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(events: &[(u64, i64)]) -> Audit {
        let mut audit = Audit::default();
        for &(pseq, amount) in events {
            let identity = Identity {
                source_id: SourceId(1),
                partition: Partition(2),
                pseq: Pseq(pseq),
            };
            audit.billed(&identity, NanoUsd(amount));
        }
        audit
    }

    #[test]
    fn batches_and_order_do_not_matter_but_events_do() {
        let mut parts = Audit::default();
        for part in [noted(&[(3, 30), (2, 20)]), noted(&[(1, 10)])] {
            parts.merge(part);
        }
        let whole = noted(&[(1, 10), (2, 20), (3, 30)]);
        assert_eq!(parts, whole);
        assert_eq!(
            whole.against(&parts),
            Agreement {
                compared: 1,
                differing: Vec::new()
            }
        );
        // The same count and sum, spread otherwise.
        assert_eq!(
            whole
                .against(&noted(&[(1, 20), (2, 10), (3, 30)]))
                .differing
                .len(),
            1
        );
        // Another span says nothing yet.
        assert_eq!(whole.against(&noted(&[(1, 10), (2, 20)])).compared, 0);
    }

    #[test]
    fn old_blocks_are_forgotten() {
        let mut audit = Audit::default();
        for number in 0..100 {
            audit.merge(noted(&[(number << BLOCK_BITS, 1)]));
        }
        assert_eq!(audit.blocks().count() as u64, KEPT);
    }
}

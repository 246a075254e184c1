//! The last sequence number per (topic, partition), for the writer and for recovery.

use std::collections::BTreeMap;

use schemas::{Partition, Pseq, Topic};

/// Indexed by topic number and partition; grows to what is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequences {
    topics: Vec<Vec<u64>>,
}

impl Sequences {
    /// From the entries of a segment header.
    pub fn from_entries(entries: &[(u8, u16, u64)]) -> Self {
        let mut all = Self::default();
        for &(topic, partition, pseq) in entries {
            *all.slot(topic, partition) = pseq;
        }
        all
    }

    /// For a segment header.
    pub fn entries(&self) -> Vec<(u8, u16, u64)> {
        (0u8..)
            .zip(&self.topics)
            .flat_map(|(topic, partitions)| {
                (0u16..)
                    .zip(partitions)
                    .map(move |(partition, &pseq)| (topic, partition, pseq))
            })
            .filter(|&(_, _, pseq)| pseq > 0)
            .collect()
    }

    /// Counts one on, and says the new number.
    pub fn advance(&mut self, topic: Topic, partition: Partition) -> Pseq {
        let slot = self.slot(topic as u8, partition.0);
        *slot += 1;
        Pseq(*slot)
    }

    pub fn last(&self, topic: Topic, partition: Partition) -> Pseq {
        let topics = self.topics.get(usize::from(topic as u8));
        Pseq(
            topics
                .and_then(|p| p.get(usize::from(partition.0)))
                .copied()
                .unwrap_or(0),
        )
    }

    /// As the public map. Numbers of topics that this version does not know are left out.
    pub fn map(&self) -> BTreeMap<(Topic, Partition), Pseq> {
        self.entries()
            .into_iter()
            .filter_map(|(topic, partition, pseq)| {
                Some(((Topic::from_u8(topic)?, Partition(partition)), Pseq(pseq)))
            })
            .collect()
    }

    fn slot(&mut self, topic: u8, partition: u16) -> &mut u64 {
        let topic = usize::from(topic);
        if self.topics.len() <= topic {
            self.topics.resize(topic + 1, Vec::new());
        }
        let partitions = &mut self.topics[topic];
        let partition = usize::from(partition);
        if partitions.len() <= partition {
            partitions.resize(partition + 1, 0);
        }
        &mut partitions[partition]
    }
}

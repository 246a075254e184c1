//! What a worker has read ahead for its reader, and what the two tell each other. Asks nobody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use journal::{Record, Start};
use parking_lot::{Condvar, Mutex};
use rdkafka::consumer::BaseConsumer;
use tokio::sync::{Notify, oneshot};

use crate::member::Calls;

/// Records, and bytes of them, that are read ahead.
const AHEAD: usize = 50_000;
const AHEAD_BYTES: usize = 32 << 20;

/// A place in one partition: index of the topic, partition, offset of the next record.
pub type Place = (usize, i32, i64);

/// What a reader asks of its worker.
pub enum Order {
    Seek(Start, oneshot::Sender<Result<(), String>>),
    /// Where the log ends.
    Look(oneshot::Sender<Result<(), String>>),
}

/// One message of the log.
pub struct Item {
    /// None: nothing to hand out (known, or no event), but the position moves past it.
    pub record: Option<Record>,
    pub after: Place,
}

/// What is known of a partition.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part {
    /// Dealt to this reader.
    pub assigned: bool,
    /// Everything before is handed out.
    pub handed: i64,
    /// Where the log ended at the last look.
    pub end: Option<i64>,
}

/// Shared by a reader and its worker.
pub struct Shared {
    pub state: Mutex<State>,
    /// Something for `next`.
    pub news: Notify,
    /// Room for the worker.
    pub room: Condvar,
    pub stop: Arc<AtomicBool>,
}

impl Shared {
    /// Nothing is read yet of these partitions.
    pub fn of(parts: Vec<Vec<Part>>) -> Self {
        Self {
            state: Mutex::new(State {
                parts,
                ..State::default()
            }),
            news: Notify::new(),
            room: Condvar::new(),
            stop: Arc::default(),
        }
    }
}

#[derive(Default)]
pub struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// By topic and partition.
    pub parts: Vec<Vec<Part>>,
    /// Until a seek.
    pub reassigned: bool,
    /// Repeated until a seek.
    pub fault: Option<String>,
    /// Until the brokers answer again: told at once, and again by every read that brings nothing.
    pub trouble: Option<String>,
    /// It was told.
    told: bool,
    /// Partitions were dealt, be it none.
    pub joined: bool,
    /// For commits, which wait for the broker: not on the worker's thread.
    pub consumer: Option<Arc<BaseConsumer<Calls>>>,
}

impl State {
    pub fn push(&mut self, item: Item) {
        self.bytes += item.record.as_ref().map_or(0, |record| record.body.len());
        self.items.push_back(item);
    }

    pub fn is_full(&self) -> bool {
        self.items.len() >= AHEAD || self.bytes >= AHEAD_BYTES
    }

    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes = 0;
    }

    /// Something stands in the way.
    pub fn trouble(&mut self, why: String) {
        (self.trouble, self.told) = (Some(why), false);
    }

    /// Nothing does any more.
    pub fn well(&mut self) {
        self.trouble = None;
    }

    pub fn assigned(&self) -> impl Iterator<Item = (usize, i32, Part)> + '_ {
        self.parts.iter().enumerate().flat_map(|(topic, parts)| {
            let numbered = (0..).zip(parts.iter().copied());
            numbered
                .filter(|(_, part)| part.assigned)
                .map(move |(partition, part)| (topic, partition, part))
        })
    }

    pub fn part(&mut self, topic: usize, partition: i32) -> Option<&mut Part> {
        let partition = usize::try_from(partition).ok()?;
        self.parts.get_mut(topic)?.get_mut(partition)
    }

    pub fn take(&mut self, max: usize) -> Vec<Record> {
        let mut records = Vec::with_capacity(max.min(self.items.len()));
        while records.len() < max
            && let Some(item) = self.items.pop_front()
        {
            let (topic, partition, next) = item.after;
            if let Some(part) = self.part(topic, partition) {
                part.handed = next;
            }
            if let Some(record) = item.record {
                self.bytes -= record.body.len();
                records.push(record);
            }
        }
        records
    }

    /// What was not told yet.
    pub fn news_of_trouble(&mut self) -> Option<String> {
        let told = std::mem::replace(&mut self.told, true);
        self.trouble.clone().filter(|_| !told)
    }

    pub fn lag(&self) -> u64 {
        if !self.joined || self.reassigned {
            return 1;
        }
        self.assigned()
            .map(|(_, _, part)| match part.end {
                Some(end) => u64::try_from(end - part.handed).unwrap_or(0),
                None => 1,
            })
            .sum()
    }
}

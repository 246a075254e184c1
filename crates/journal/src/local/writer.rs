//! Appending: what happens under the writer's short lock. No system call unless a segment is full
//! and the next one was not prepared.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use schemas::{Partition, Pseq, Topic};

use super::format::{SegmentHeader, encode_header, encode_record_header, record_bytes};
use super::place::Place;
use super::segment::Segment;
use super::sequences::Sequences;
use crate::Error;

/// Who appends: finals may use what is kept in reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Begins something: refused first.
    Ordinary,
    /// Ends a call that was admitted: must not be lost while there is any room.
    Final,
}

/// State behind the writer's lock.
pub struct Writer {
    pub dir: PathBuf,
    pub source: u64,
    pub segment_bytes: usize,
    /// The segment that is appended to; none before the first append after opening.
    pub active: Option<Arc<Segment>>,
    /// End of the last record.
    pub tail: Place,
    /// Bytes of records before `tail`, since the log began.
    pub logical: u64,
    pub last: Sequences,
    pub next_number: u32,
    /// The next segment, made ahead by the sync thread.
    pub prepared: Option<Segment>,
    /// The last try to prepare it failed: ordinary records leave the rest of this one to finals.
    pub short: bool,
    /// Full segments that still have to be synced.
    pub full: Vec<Arc<Segment>>,
    /// Names were made since the directory was last synced.
    pub names_unsynced: bool,
    /// Records appended since opening.
    pub records: u64,
}

/// Where a record went.
pub struct Written {
    pub pseq: Pseq,
    pub place: Place,
    /// There is something for the sync thread to tidy up: pages to release, a segment to prepare.
    pub tidy: bool,
}

impl Writer {
    /// Ordinary records wait for disk space.
    pub fn out_of_room(&self) -> bool {
        self.is_kept_for_finals(0)
    }

    /// Without a next segment the last quarter of this one is for the finals of calls in flight: thousands.
    fn is_kept_for_finals(&self, bytes: usize) -> bool {
        self.short && self.tail.offset as usize + bytes > self.room() / 4 * 3
    }

    /// Bytes of the active segment.
    fn room(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.bytes())
    }

    pub fn append(
        &mut self,
        topic: Topic,
        partition: Partition,
        body: &[u8],
        class: Class,
    ) -> Result<Written, Error> {
        let bytes = record_bytes(body.len());
        let mut offset = self.tail.offset as usize;
        if class == Class::Ordinary && self.is_kept_for_finals(bytes) {
            self.prepare_here()?;
        }
        let room = self.room();
        if self.active.is_none() || offset + bytes > room {
            offset = self.roll()?;
        }
        let Some(active) = &self.active else {
            return Err(Error::Closed);
        };
        let place = Place {
            segment: active.number,
            // A segment is at most 1 GiB.
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
        };
        let pseq = self.last.advance(topic, partition);
        let head = encode_record_header(place.bits(), topic, partition, pseq, body);
        active.put(offset + head.len(), body);
        active.put(offset + 4, &head[4..]);
        active.publish(
            offset,
            u32::from_le_bytes([head[0], head[1], head[2], head[3]]),
        );
        let end = offset + bytes;
        self.tail = Place {
            segment: place.segment,
            offset: u32::try_from(end).unwrap_or(u32::MAX),
        };
        self.logical += bytes as u64;
        self.records += 1;
        let step = (active.bytes() / 4).min(256 * 1024);
        Ok(Written {
            pseq,
            place,
            tidy: offset / step != end / step,
        })
    }

    /// Bytes of one record's body that a segment of this size takes.
    pub const fn body_limit(segment_bytes: usize) -> usize {
        segment_bytes / 4
    }

    /// Whether it is time to prepare the next segment.
    pub fn wants_prepared(&self) -> bool {
        self.prepared.is_none()
            && self
                .active
                .as_ref()
                .is_some_and(|active| self.tail.offset as usize >= active.bytes() / 2)
    }

    /// Takes the prepared segment, unless a later one is already in use.
    pub fn accept_prepared(&mut self, segment: Segment) -> Option<Segment> {
        let late = self.prepared.is_some()
            || self
                .active
                .as_ref()
                .is_some_and(|active| active.number > segment.number);
        if late {
            return Some(segment);
        }
        self.prepared = Some(segment);
        self.short = false;
        None
    }

    fn prepare_here(&mut self) -> Result<(), Error> {
        if self.prepared.is_none() {
            let segment = Segment::create(&self.dir, self.next_number, self.segment_bytes)?;
            self.next_number += 1;
            self.prepared = Some(segment);
        }
        self.short = false;
        Ok(())
    }

    /// Goes on to the next segment; says where its first record goes.
    fn roll(&mut self) -> Result<usize, Error> {
        self.prepare_here()?;
        let Some(segment) = self.prepared.take() else {
            return Err(Error::Closed);
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let header = encode_header(&SegmentHeader {
            source: self.source,
            number: segment.number,
            logical: self.logical,
            created_us: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
            last: self.last.entries(),
            len: 0,
        });
        if header.len() > segment.bytes() / 2 {
            return Err(Error::Option {
                name: "segment_bytes",
                problem: format!("{} is too small for so many partitions", segment.bytes()),
            });
        }
        segment.put(4, &header[4..]);
        segment.publish(
            0,
            u32::from_le_bytes([header[0], header[1], header[2], header[3]]),
        );
        self.names_unsynced = true;
        if let Some(full) = self.active.replace(Arc::new(segment)) {
            self.full.push(full);
        }
        Ok(header.len())
    }
}

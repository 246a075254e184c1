//! From a message to a record: what every message of a topic goes through.
//!
//! Never drops one: a message is an event, a dead letter, known to the reader, or has to wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{BufMut as _, Bytes, BytesMut};
use journal::{HighWater, Position, Record};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use schemas::{Identity, Topic};
use tokio::runtime::Handle;

use crate::ahead::{Item, Place};
use crate::garbage::Stray;
use crate::log::Inner;
use crate::{Error, framing};

/// Bodies share blocks of memory of this size.
const CHUNK: usize = 256 << 10;

/// What became of a message.
pub enum Taken {
    Item(Item),
    /// Not wanted: of the time before a seek.
    Stale,
    /// Cannot be dealt with now.
    Later(String),
}

/// Turns one message into a record.
pub struct Desk<'a> {
    pub log: &'a Arc<Inner>,
    pub group: &'a str,
    pub topic: Topic,
    pub known: &'a HighWater,
    pub chunk: &'a mut BytesMut,
    pub memo: &'a mut Option<(u32, u64)>,
    pub runtime: &'a Handle,
}

impl Desk<'_> {
    pub fn take(&mut self, message: &BorrowedMessage<'_>, place: Place) -> Taken {
        let bytes = message.payload().unwrap_or_default();
        let framed = framing::decode(bytes);
        let told = || {
            let headers = message.headers()?;
            let ours = headers.iter().find(|header| header.key == framing::HEADER);
            let identity = framing::identity_of(ours?.value?)?;
            (i32::from(identity.partition.0) == place.1).then_some(identity)
        };
        if let Some(framed) = &framed
            && i32::from(framed.identity.partition.0) == place.1
        {
            return match self.fingerprint(framed.id) {
                Ok(Some(fingerprint)) => {
                    self.chunk
                        .reserve(if self.chunk.capacity() < framed.fields.len() + 8 {
                            CHUNK.max(framed.fields.len() + 8)
                        } else {
                            0
                        });
                    self.chunk.put_u64_le(fingerprint);
                    self.chunk.put_slice(framed.fields);
                    let body = self.chunk.split().freeze();
                    self.record(framed.identity, body, place)
                }
                // Nobody knows this schema: its bytes as they are, which no decoder takes. What they seem to
                // begin with may be chance; a header is not.
                Ok(None) => {
                    let identity = told().unwrap_or(framed.identity);
                    self.record(identity, Bytes::copy_from_slice(bytes), place)
                }
                Err(error) => Taken::Later(error.to_string()),
            };
        }
        match told() {
            Some(identity) => self.record(identity, Bytes::copy_from_slice(bytes), place),
            None => self.stray(bytes, place, framed.is_some()),
        }
    }

    fn record(&self, identity: Identity, body: Bytes, place: Place) -> Taken {
        let (topic, partition, offset) = place;
        let known = self
            .known
            .get(self.topic, identity.source_id, identity.partition);
        // Offsets are never negative.
        let number = u64::try_from(offset).unwrap_or(0);
        let record = (identity.pseq > known).then(|| Record {
            topic: self.topic,
            identity,
            position: Position(number),
            version: number + 1,
            body,
        });
        Taken::Item(Item {
            record,
            after: (topic, partition, offset + 1),
        })
    }

    fn stray(&self, bytes: &[u8], place: Place, elsewhere: bool) -> Taken {
        let (topic, partition, offset) = place;
        let why = if elsewhere {
            "the event belongs into another partition"
        } else {
            "neither its bytes nor its header name an event"
        };
        if self.group.is_empty() {
            self.log.strays_skipped.fetch_add(1, Ordering::Relaxed);
            let name = self.log.settings.name(self.topic);
            tracing::warn!("{name}, partition {partition}, offset {offset}: {why}");
        } else {
            let stray = Stray {
                group: self.group,
                topic: self.topic,
                partition,
                offset,
                why,
                bytes,
            };
            if let Err(error) = self.runtime.block_on(self.log.strays.put(self.log, &stray)) {
                return Taken::Later(format!("the dead letters cannot be written: {error}"));
            }
            self.log.strays_put.fetch_add(1, Ordering::Relaxed);
        }
        Taken::Item(Item {
            record: None,
            after: (topic, partition, offset + 1),
        })
    }

    fn fingerprint(&mut self, id: u32) -> Result<Option<u64>, Error> {
        if let Some((known, fingerprint)) = *self.memo
            && known == id
        {
            return Ok(Some(fingerprint));
        }
        let found = match self.log.ids.fingerprint(id) {
            Some(fingerprint) => Some(fingerprint),
            None => self.runtime.block_on(self.log.ids.look_up(id))?,
        };
        *self.memo = found.map(|fingerprint| (id, fingerprint)).or(*self.memo);
        Ok(found)
    }
}

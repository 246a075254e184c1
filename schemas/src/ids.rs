//! Who and which: one newtype per identifier. Never a bare integer or string across a seam.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Shared text, cheap to clone: an organisation, team, user, model, deployment, tag, …
pub type Text = Arc<str>;

/// One journal directory, drawn at random when the directory is made and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceId(pub u64);

/// The partition an event was given when it was journaled; a replay lands in the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Partition(pub u16);

/// Contiguous sequence number from 1 per (source, topic, partition). A hole is a lost event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pseq(pub u64);

/// Place of a record in one partition of a broker's topic, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Offset(pub u64);

/// Where a consumer of one topic stands. It is kept with the effects that it tells of, and written in
/// the same step, so that both are lost or kept together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last applied event per (source, partition): what makes a replay a no-op and a loss visible.
    pub marks: Vec<Identity>,
    /// Where to read on in each partition of a broker: everything before it is applied. Only a short cut;
    /// without it the partition is read from its beginning, and the marks drop what is known.
    pub next: Vec<(Partition, Offset)>,
}

impl From<Vec<Identity>> for Standing {
    fn from(marks: Vec<Identity>) -> Self {
        Self {
            marks,
            next: Vec::new(),
        }
    }
}

/// What makes an event itself, however often it is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    pub source_id: SourceId,
    pub partition: Partition,
    pub pseq: Pseq,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:016x}/{}/{}",
            self.source_id.0, self.partition.0, self.pseq.0
        )
    }
}

/// Microseconds since the Unix epoch, UTC.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Micros(pub i64);

impl Micros {
    /// This instant moved by a number of seconds; saturates at the ends of time.
    #[must_use]
    pub const fn plus_secs(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

/// A virtual key as we know it: the SHA-256 of its text. The text itself is shown once and not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// Hash of a presented key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// The lower-case hex that the API calls `token`; `None` when `text` is not 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

/// One call through the gateway: a `UUIDv7`, so that ids sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    /// A fresh id. Reads the clock and the thread's random source, as only an id maker may.
    #[must_use]
    pub fn fresh() -> Self {
        Self(*uuid::Uuid::now_v7().as_bytes())
    }

    /// The id behind its usual text form, if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::parse_str(text)
            .ok()
            .map(|id| Self(*id.as_bytes()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_hash_round_trips_through_its_hex() {
        let hash = KeyHash::of("sk-test");
        assert_eq!(KeyHash::from_hex(&hash.to_string()), Some(hash));
        assert_eq!(KeyHash::from_hex("zz"), None);
    }

    #[test]
    fn a_request_id_round_trips_through_its_text() {
        let id = RequestId::fresh();
        assert_eq!(RequestId::parse(&id.to_string()), Some(id));
    }
}

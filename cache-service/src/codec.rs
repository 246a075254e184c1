//! Entries as bytes, for the log on disk and for the shared store.
//!
//! Three parts: what is known of an entry (JSON), its vector (little-endian floats), its answer. The
//! log writes them one after another, the store into three fields. What cannot be read is `None`,
//! never an entry with holes.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::entries::{Answer, Entry, EntryId, Tokens};
use crate::guards::Features;
use crate::key::Hash;

/// No answer is longer, on disk or in the store; a length beyond is damage.
pub(crate) const ANSWER_MAX: usize = 64 << 20;
/// More buys little on answers of a few kilobytes.
const ZSTD_LEVEL: i32 = 3;

/// Everything of an entry but its vector and the answer's bytes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Meta {
    id: String,
    scope: String,
    partition: Hash,
    exact: Hash,
    created: i64,
    expires: i64,
    features: Option<Features>,
    usage: Tokens,
    cost_nano: i64,
    model: String,
    answer_created: i64,
    provider: String,
    /// The answer's bytes are in the shared store.
    #[serde(default)]
    remote: bool,
    /// The embedding model of the vector, as hexadecimal digits; the log says it in its header.
    #[serde(default)]
    encoder: String,
}

impl Meta {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self {
            id: entry.id.to_string(),
            scope: entry.scope.to_string(),
            partition: entry.partition,
            exact: entry.exact,
            created: entry.created,
            expires: entry.expires,
            features: entry.features.clone(),
            usage: entry.answer.usage,
            cost_nano: entry.answer.cost_nano,
            model: entry.answer.model.clone(),
            answer_created: entry.answer.created,
            provider: entry.answer.provider.clone(),
            remote: entry.remote,
            encoder: String::new(),
        }
    }

    /// With the name of the embedding model, where others may have another one.
    pub(crate) fn encoded_by(mut self, model: Option<Hash>) -> Self {
        self.encoder = model.map(hex).unwrap_or_default();
        self
    }

    /// Whether the vector can be compared with those of `model`.
    pub(crate) fn is_encoded_by(&self, model: Option<Hash>) -> bool {
        model.is_some_and(|model| self.encoder == hex(model))
    }

    /// Strings, numbers and lists of them always have a JSON form; an empty one would be refused on
    /// reading, not believed.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The entry, with its answer's bytes where they are at hand.
    pub(crate) fn entry(self, body: Bytes) -> Option<Entry> {
        Some(Entry {
            id: EntryId::parse(&self.id)?,
            scope: self.scope.into(),
            partition: self.partition,
            exact: self.exact,
            created: self.created,
            expires: self.expires,
            features: self.features,
            answer: Arc::new(Answer {
                body,
                usage: self.usage,
                cost_nano: self.cost_nano,
                model: self.model,
                created: self.answer_created,
                provider: self.provider,
            }),
            remote: self.remote,
            hits: AtomicU32::new(0),
        })
    }
}

pub(crate) fn vector_bytes(vector: &[f32]) -> Vec<u8> {
    vector
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

pub(crate) fn vector(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// An answer, smaller: its length, then zstd.
///
/// # Errors
/// The library found no memory.
pub(crate) fn pack(answer: &[u8]) -> std::io::Result<Vec<u8>> {
    let length = u32::try_from(answer.len())
        .ok()
        .filter(|length| *length as usize <= ANSWER_MAX)
        .ok_or_else(|| std::io::Error::other("an answer is too large to be shared"))?;
    let mut packed = length.to_le_bytes().to_vec();
    packed.extend(zstd::bulk::compress(answer, ZSTD_LEVEL)?);
    Ok(packed)
}

pub(crate) fn unpack(packed: &[u8]) -> Option<Bytes> {
    let (length, packed) = packed.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > ANSWER_MAX {
        return None;
    }
    let answer = zstd::bulk::decompress(packed, length).ok()?;
    (answer.len() == length).then(|| answer.into())
}

fn hex(hash: Hash) -> String {
    use std::fmt::Write;
    hash[..8].iter().fold(String::new(), |mut out, byte| {
        // Writing into a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_and_damage_does_not() {
        for answer in [&b"{}"[..], &[b'x'; 100_000]] {
            let packed = pack(answer).unwrap();
            assert_eq!(unpack(&packed).unwrap(), answer);
            assert!(packed.len() < answer.len() + 32);
            for cut in 0..packed.len().min(40) {
                assert_eq!(unpack(&packed[..cut]), None, "{cut}");
            }
        }
        let mut bomb = pack(&[0; 1_000]).unwrap();
        bomb[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(unpack(&bomb), None);
        bomb[..4].copy_from_slice(&10u32.to_le_bytes());
        assert_eq!(unpack(&bomb), None);
    }
}

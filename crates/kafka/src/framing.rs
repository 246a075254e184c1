//! A record as a message: Confluent's wire format (a zero, the schema's id in four bytes, the Avro
//! datum), so that ClickHouse, Connect and every other reader of Avro understand it.
//!
//! The journal's body is a schema fingerprint and the fields; a message has the schema's id, the identity
//! and the fields. Nothing is decoded to turn one into the other. The identity also stands in a header
//! of fixed width ([`HEADER`]), for a message whose body is beyond reading.
//!
//! Ids are those of a registry, or of this fixed map: the number of the schema in
//! [`schemas::registry::RELEASED`], from 1. Released schemas are only added at the end, so an id never
//! changes.

use schemas::codec::Datum;
use schemas::{Identity, Partition, Pseq, SourceId, registry};

/// Header with source id (8 bytes), partition (2), sequence number (8), big-endian.
pub const HEADER: &str = "tollgate-identity";
/// Length of the header's value.
pub const HEADER_LEN: usize = 18;
/// A zero and the id.
const PREFIX_LEN: usize = 5;

/// Fingerprints of released schemas, and their ids without a registry.
pub fn fixed_ids() -> impl Iterator<Item = (u64, u32)> {
    registry::fingerprints()
        .zip(1..)
        .filter_map(|(fingerprint, id)| Some((fingerprint?, id)))
}

/// The header's value.
#[must_use]
pub fn header(identity: &Identity) -> [u8; HEADER_LEN] {
    let mut value = [0; HEADER_LEN];
    value[..8].copy_from_slice(&identity.source_id.0.to_be_bytes());
    value[8..10].copy_from_slice(&identity.partition.0.to_be_bytes());
    value[10..].copy_from_slice(&identity.pseq.0.to_be_bytes());
    value
}

/// The identity of a header's value, if it is one.
#[must_use]
pub fn identity_of(value: &[u8]) -> Option<Identity> {
    let (source, rest) = value.split_first_chunk()?;
    let (partition, rest) = rest.split_first_chunk()?;
    Some(Identity {
        source_id: SourceId(u64::from_be_bytes(*source)),
        partition: Partition(u16::from_be_bytes(*partition)),
        pseq: Pseq(u64::from_be_bytes(rest.try_into().ok()?)),
    })
}

/// A journal body's fingerprint; none where it is too short to have one.
#[must_use]
pub fn fingerprint_of(body: &[u8]) -> Option<u64> {
    body.first_chunk().map(|first| u64::from_le_bytes(*first))
}

/// Appends the message of a record to `out`. `body` begins with its fingerprint, `id` is that one's.
pub fn encode(identity: &Identity, body: &[u8], id: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
    identity.encode(out);
    out.extend_from_slice(body.get(8..).unwrap_or_default());
}

/// A message taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    pub id: u32,
    pub identity: Identity,
    /// What follows the identity: the rest of the journal's body.
    pub fields: &'a [u8],
}

/// Takes a message apart; none if it is not framed or ends within the identity.
#[must_use]
pub fn decode(message: &[u8]) -> Option<Framed<'_>> {
    let (prefix, mut fields) = message.split_first_chunk::<PREFIX_LEN>()?;
    let [0, id @ ..] = *prefix else { return None };
    let identity = Identity::decode(&mut fields).ok()?;
    Some(Framed {
        id: u32::from_be_bytes(id),
        identity,
        fields,
    })
}

#[cfg(test)]
mod tests {
    use schemas::{Event as _, Usage};

    use super::*;

    fn identity() -> Identity {
        Identity {
            source_id: SourceId(u64::MAX - 7),
            partition: Partition(63),
            pseq: Pseq(1 << 40),
        }
    }

    #[test]
    fn a_record_round_trips_and_its_message_is_the_avro_datum() {
        let fields = [4, b'x', b'y'];
        let body = [&42_u64.to_le_bytes()[..], &fields].concat();
        let mut message = Vec::new();
        encode(&identity(), &body, 7, &mut message);
        let framed = decode(&message).expect("framed");
        assert_eq!(
            framed,
            Framed {
                id: 7,
                identity: identity(),
                fields: &fields
            }
        );
        assert_eq!(identity_of(&header(&identity())), Some(identity()));
        assert_eq!(fingerprint_of(&body), Some(42));
    }

    #[test]
    fn garbage_is_no_message() {
        assert_eq!(decode(b""), None);
        assert_eq!(decode(b"\x01\0\0\0\x01abc"), None);
        assert_eq!(decode(&[0, 0, 0, 0, 1, 0x80]), None);
        assert_eq!(identity_of(&[0; 17]), None);
        assert_eq!(identity_of(&[0; 19]), None);
    }

    /// These numbers are on topics: they never change.
    #[test]
    fn ids_without_a_registry_are_fixed() {
        let ids: Vec<_> = fixed_ids().collect();
        assert_eq!(ids.len(), registry::RELEASED.len());
        // A version keeps its id; the next gets another.
        let (_, first) = registry::RELEASED[2];
        let first = registry::fingerprint_of_text(first).unwrap();
        assert!(ids.contains(&(first, 3)));
        assert!(ids.contains(&(Usage::FINGERPRINT, 10)));
        assert_eq!(ids.iter().map(|(_, id)| *id).max(), Some(ids.len() as u32));
    }
}

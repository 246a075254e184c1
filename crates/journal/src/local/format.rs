//! Bytes of a segment: its header and its records. Pure; never touches a file.
//!
//! ```text
//! header   magic 8 | header_len u32 | crc32c u32 | source u64 | number u32 | entries u32
//!          | logical u64 | created i64 | entries x (topic u8, partition u16, last pseq u64) | zeros to 8
//! record   len u32 | crc32c u32 | pseq u64 | partition u16 | topic u8 | 0 u8 | body | zeros to 8
//! ```
//! Little endian. `len` counts from itself to the end of the body and is never 0, so that the zeros
//! of a preallocated file end the records. The checksum of a record also covers its position: bytes
//! that were copied to another place are not a record.

use schemas::{Partition, Pseq, Topic};

/// Bytes before the body of a record.
pub const RECORD_HEADER: usize = 20;
/// First bytes of a segment that is in use. The digit is the version of this layout.
pub const MAGIC: [u8; 8] = *b"TGJRNL1\n";
const FIXED_HEADER: usize = 48;
const ENTRY: usize = 11;

/// What the header of a segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    pub source: u64,
    pub number: u32,
    /// Bytes of records in all segments before this one.
    pub logical: u64,
    /// When the segment came into use: microseconds since the Unix epoch.
    pub created_us: i64,
    /// Last sequence numbers before this segment.
    pub last: Vec<(u8, u16, u64)>,
    /// Bytes of the header itself: the first record lies behind it.
    pub len: u32,
}

/// Bytes that a record with such a body takes.
pub const fn record_bytes(body: usize) -> usize {
    (RECORD_HEADER + body).next_multiple_of(8)
}

/// Bytes of a header with so many entries.
pub const fn header_bytes(entries: usize) -> usize {
    (FIXED_HEADER + entries * ENTRY).next_multiple_of(8)
}

/// A segment header, ready to be written. The first 8 bytes are the magic.
pub fn encode_header(header: &SegmentHeader) -> Vec<u8> {
    let mut out = Vec::with_capacity(header_bytes(header.last.len()));
    out.extend_from_slice(&MAGIC);
    let len = header_bytes(header.last.len());
    out.extend_from_slice(&u32_of(len).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&header.source.to_le_bytes());
    out.extend_from_slice(&header.number.to_le_bytes());
    out.extend_from_slice(&u32_of(header.last.len()).to_le_bytes());
    out.extend_from_slice(&header.logical.to_le_bytes());
    out.extend_from_slice(&header.created_us.to_le_bytes());
    for &(topic, partition, pseq) in &header.last {
        out.push(topic);
        out.extend_from_slice(&partition.to_le_bytes());
        out.extend_from_slice(&pseq.to_le_bytes());
    }
    out.resize(len, 0);
    let crc = header_crc(&out);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out
}

/// What the first bytes of a segment file are.
#[derive(Debug)]
pub enum ParsedHeader {
    Good(SegmentHeader),
    /// Preallocated and not in use yet.
    Unused,
    /// More bytes are needed to tell.
    Short(usize),
    Bad,
}

/// Reads a segment header.
pub fn parse_header(bytes: &[u8]) -> ParsedHeader {
    if bytes.len() < FIXED_HEADER {
        return ParsedHeader::Short(FIXED_HEADER);
    }
    // The writer stores the first word last.
    if bytes[..4] == [0; 4] {
        return ParsedHeader::Unused;
    }
    let len = u32_at(bytes, 8) as usize;
    let entries = u32_at(bytes, 28) as usize;
    // 2^24 entries: all 256 topics with all 65,536 partitions.
    if bytes[..8] != MAGIC || entries > 1 << 24 || len != header_bytes(entries) {
        return ParsedHeader::Bad;
    }
    if bytes.len() < len {
        return ParsedHeader::Short(len);
    }
    let bytes = &bytes[..len];
    if u32_at(bytes, 12) != header_crc(bytes) {
        return ParsedHeader::Bad;
    }
    let last = bytes[FIXED_HEADER..FIXED_HEADER + entries * ENTRY]
        .chunks_exact(ENTRY)
        .map(|e| (e[0], u16::from_le_bytes([e[1], e[2]]), u64_at(e, 3)))
        .collect();
    ParsedHeader::Good(SegmentHeader {
        source: u64_at(bytes, 16),
        number: u32_at(bytes, 24),
        logical: u64_at(bytes, 32),
        created_us: u64_at(bytes, 40).cast_signed(),
        last,
        len: u32_of(len),
    })
}

/// The 20 bytes before a body. `len` is at the front: whoever stores it last publishes the record.
pub fn encode_record_header(
    position: u64,
    topic: Topic,
    partition: Partition,
    pseq: Pseq,
    body: &[u8],
) -> [u8; RECORD_HEADER] {
    let mut head = [0; RECORD_HEADER];
    head[..4].copy_from_slice(&u32_of(RECORD_HEADER + body.len()).to_le_bytes());
    head[8..16].copy_from_slice(&pseq.0.to_le_bytes());
    head[16..18].copy_from_slice(&partition.0.to_le_bytes());
    head[18] = topic as u8;
    let crc = record_crc(position, &head, body);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    head
}

/// What lies at a record's place.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    Record {
        topic: Topic,
        partition: Partition,
        pseq: Pseq,
        /// Bytes of the body, behind [`RECORD_HEADER`].
        body: usize,
    },
    /// Zeros: nothing was written here.
    End,
    /// So many bytes are needed to tell.
    Short(usize),
    /// Not a record. Says why, in words for people.
    Bad(&'static str),
}

/// Reads the record at the front of `bytes`, which lie at `position`. `room`: bytes from there to the
/// end of the file.
pub fn parse_record(bytes: &[u8], position: u64, room: u64) -> Parsed {
    if room < RECORD_HEADER as u64 {
        return Parsed::End;
    }
    if bytes.len() < RECORD_HEADER {
        return Parsed::Short(RECORD_HEADER);
    }
    let len = u32_at(bytes, 0) as usize;
    if len == 0 {
        return Parsed::End;
    }
    if len < RECORD_HEADER {
        return Parsed::Bad("its length is too small");
    }
    if len as u64 > room {
        return Parsed::Bad("its length reaches over the end of the file");
    }
    if bytes.len() < len {
        return Parsed::Short(len);
    }
    let mut head = [0; RECORD_HEADER];
    head.copy_from_slice(&bytes[..RECORD_HEADER]);
    if u32_at(&head, 4) != record_crc(position, &head, &bytes[RECORD_HEADER..len]) {
        return Parsed::Bad("the checksum differs");
    }
    let Some(topic) = Topic::from_u8(head[18]) else {
        return Parsed::Bad("a newer version wrote this kind of record");
    };
    Parsed::Record {
        topic,
        partition: Partition(u16::from_le_bytes([head[16], head[17]])),
        pseq: Pseq(u64_at(&head, 8)),
        body: len - RECORD_HEADER,
    }
}

fn record_crc(position: u64, head: &[u8; RECORD_HEADER], body: &[u8]) -> u32 {
    let mut covered = [0; 24];
    covered[..8].copy_from_slice(&position.to_le_bytes());
    covered[8..12].copy_from_slice(&head[..4]);
    covered[12..24].copy_from_slice(&head[8..]);
    crc32c::crc32c_append(crc32c::crc32c(&covered), body)
}

fn header_crc(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

/// Lengths here are bounded by the largest segment, 1 GiB.
fn u32_of(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(position: u64, pseq: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes =
            encode_record_header(position, Topic::Usage, Partition(3), Pseq(pseq), body).to_vec();
        bytes.extend_from_slice(body);
        bytes.resize(record_bytes(body.len()), 0);
        bytes
    }

    proptest! {
        #[test]
        fn records_round_trip(position: u64, pseq: u64, body in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = record(position, pseq, &body);
            prop_assert_eq!(parse_record(&bytes, position, bytes.len() as u64), Parsed::Record {
                topic: Topic::Usage, partition: Partition(3), pseq: Pseq(pseq), body: body.len(),
            });
            // Elsewhere it is none.
            prop_assert!(matches!(parse_record(&bytes, position ^ 8, bytes.len() as u64), Parsed::Bad(_)));
        }

        #[test]
        fn no_flipped_byte_passes(
            body in prop::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index, flip in 1u8..,
        ) {
            let mut bytes = record(64, 1, &body);
            let at = at.index(RECORD_HEADER + body.len());
            bytes[at] ^= flip;
            let parsed = parse_record(&bytes, 64, bytes.len() as u64);
            prop_assert!(!matches!(parsed, Parsed::Record { .. }), "{:?}", parsed);
        }

        #[test]
        fn headers_round_trip(
            source: u64, number: u32, logical: u64, created_us: i64,
            last in prop::collection::vec(any::<(u8, u16, u64)>(), 0..20),
            at: prop::sample::Index, flip in 1u8..,
        ) {
            let header = SegmentHeader {
                source, number, logical, created_us, len: u32_of(header_bytes(last.len())), last,
            };
            let mut bytes = encode_header(&header);
            prop_assert!(matches!(parse_header(&bytes), ParsedHeader::Good(read) if read == header));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(!matches!(parse_header(&bytes), ParsedHeader::Good(_) | ParsedHeader::Unused));
        }
    }
}

//! The encodings of bodies: HTTP's (`gzip`, `deflate`, `zstd`, `lz4`) and ClickHouse's own blocks.

use std::io::{Read, Write};

use super::refusal::Refusal;

/// Checksum, method byte, and two sizes stand before each of ClickHouse's blocks.
const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;
const METHOD_ZSTD: u8 = 0x90;
/// Rows go out in blocks of this many bytes, ClickHouse's own default.
const BLOCK: usize = 1 << 20;

/// An encoding of HTTP that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Zstd,
    Lz4,
    Gzip,
    Deflate,
}

impl Encoding {
    /// The name in `Content-Encoding`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "zstd" => Some(Self::Zstd),
            "lz4" => Some(Self::Lz4),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    /// The encoding of an answer: the first of the client's list that we speak.
    #[must_use]
    pub fn accepted(header: &str) -> Option<Self> {
        header.split(',').find_map(|offer| {
            let (name, quality) = offer.split_once(';').unwrap_or((offer, ""));
            let refused = quality
                .trim()
                .strip_prefix("q=0")
                .is_some_and(|rest| rest.bytes().all(|byte| byte == b'.' || byte == b'0'));
            if refused { None } else { Self::parse(name) }
        })
    }
}

fn broken(error: impl std::fmt::Display) -> Refusal {
    Refusal::cannot_decompress(&format!("the body cannot be decompressed: {error}"))
}

fn read_bounded(reader: impl Read, most: usize) -> Result<Vec<u8>, Refusal> {
    let mut body = Vec::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(bound).read_to_end(&mut body).map_err(broken)?;
    if body.len() > most {
        return Err(too_large(most));
    }
    Ok(body)
}

/// A body beyond the limit.
#[must_use]
pub fn too_large(most: usize) -> Refusal {
    Refusal::new(
        super::refusal::TOO_LARGE,
        &format!("the request body is larger than {most} bytes"),
    )
}

/// Undoes a request's `Content-Encoding`; `most` bounds the plain bytes.
///
/// # Errors
/// Unknown encoding, broken data, too large.
pub fn decode(encoding: &str, body: &[u8], most: usize) -> Result<Vec<u8>, Refusal> {
    match Encoding::parse(encoding) {
        Some(Encoding::Gzip) => read_bounded(flate2::read::MultiGzDecoder::new(body), most),
        Some(Encoding::Deflate) => read_bounded(flate2::read::ZlibDecoder::new(body), most),
        Some(Encoding::Zstd) => read_bounded(
            zstd::stream::read::Decoder::new(body).map_err(broken)?,
            most,
        ),
        Some(Encoding::Lz4) => read_bounded(lz4_flex::frame::FrameDecoder::new(body), most),
        None => Err(Refusal::bad_arguments(&format!(
            "Unknown compression method: {encoding}"
        ))),
    }
}

/// Encodes an answer.
///
/// # Errors
/// Only out of memory.
pub fn encode(encoding: Encoding, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let failed = |error: std::io::Error| Refusal::logical(&format!("cannot compress: {error}"));
    match encoding {
        Encoding::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(body)
                .and_then(|()| out.finish())
                .map_err(failed)
        }
        Encoding::Deflate => {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(body)
                .and_then(|()| out.finish())
                .map_err(failed)
        }
        Encoding::Zstd => zstd::stream::encode_all(body, 1).map_err(failed),
        Encoding::Lz4 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(body).map_err(failed)?;
            out.finish().map_err(|error| failed(error.into()))
        }
    }
}

/// Reads ClickHouse's own blocks (`decompress=1`).
///
/// # Errors
/// A wrong checksum, an unknown method, a cut block, too large.
pub fn decode_blocks(mut body: &[u8], most: usize) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    while !body.is_empty() {
        let (checksum, rest) = body
            .split_at_checked(CHECKSUM)
            .ok_or_else(|| broken("cut"))?;
        let header = rest.get(..HEADER).ok_or_else(|| broken("cut"))?;
        let size = |at: usize| {
            let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            u32::from_le_bytes(bytes) as usize
        };
        let (packed, plain) = (size(1), size(5));
        let block = rest.get(..packed).ok_or_else(|| broken("cut"))?;
        let data = block.get(HEADER..).ok_or_else(|| broken("cut"))?;
        if checksum_of(block) != checksum {
            return Err(broken("the checksum does not match"));
        }
        if out.len().saturating_add(plain) > most {
            return Err(too_large(most));
        }
        match header[0] {
            METHOD_NONE => out.extend_from_slice(data),
            METHOD_LZ4 => {
                out.extend(lz4_flex::block::decompress(data, plain).map_err(broken)?);
            }
            METHOD_ZSTD => {
                out.extend(zstd::bulk::decompress(data, plain).map_err(broken)?);
            }
            method => return Err(broken(format!("unknown method {method}"))),
        }
        body = &rest[packed..];
    }
    Ok(out)
}

/// Writes ClickHouse's own blocks (`compress=1`), LZ4.
#[must_use]
pub fn encode_blocks(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() / 2);
    for plain in body.chunks(BLOCK) {
        let data = lz4_flex::block::compress(plain);
        let mut block = Vec::with_capacity(HEADER + data.len());
        block.push(METHOD_LZ4);
        // Both are below 2 MiB, by the size of a block.
        block.extend_from_slice(&((HEADER + data.len()) as u32).to_le_bytes());
        block.extend_from_slice(&(plain.len() as u32).to_le_bytes());
        block.extend_from_slice(&data);
        out.extend_from_slice(&checksum_of(&block));
        out.extend_from_slice(&block);
    }
    out
}

fn checksum_of(block: &[u8]) -> [u8; CHECKSUM] {
    let hash = cityhash_rs::cityhash_102_128(block);
    let mut bytes = [0; CHECKSUM];
    // The high half stands first, each half little-endian.
    bytes[..8].copy_from_slice(&((hash >> 64) as u64).to_le_bytes());
    bytes[8..].copy_from_slice(&(hash as u64).to_le_bytes());
    bytes
}

/// Fields of a `multipart/form-data` body: (name, value).
///
/// # Errors
/// No boundary, or parts that are cut.
pub fn form_fields(content_type: &str, body: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let bad = || Refusal::bad_arguments("the multipart body is malformed");
    let boundary = content_type
        .split(';')
        .find_map(|part| part.trim().strip_prefix("boundary="))
        .map(|boundary| boundary.trim_matches('"'))
        .ok_or_else(bad)?;
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|at| at == what);
    let mut rest = body.strip_prefix(&delimiter[2..]).ok_or_else(bad)?;
    let mut fields = Vec::new();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = find(part, &delimiter).ok_or_else(bad)?;
        let head = find(part, b"\r\n\r\n")
            .filter(|head| *head <= end)
            .ok_or_else(bad)?;
        let name = String::from_utf8_lossy(&part[..head])
            .split(['\r', '\n', ';'])
            .find_map(|piece| {
                Some(
                    piece
                        .trim()
                        .strip_prefix("name=\"")?
                        .strip_suffix('"')?
                        .to_owned(),
                )
            })
            .ok_or_else(bad)?;
        fields.push((name, part.get(head + 4..end).ok_or_else(bad)?.to_vec()));
        rest = &part[end + delimiter.len()..];
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_reads_back_what_it_wrote() {
        let body: Vec<u8> = (0..300_000_u32)
            .flat_map(|n| (n % 251).to_le_bytes())
            .collect();
        for encoding in [
            Encoding::Zstd,
            Encoding::Lz4,
            Encoding::Gzip,
            Encoding::Deflate,
        ] {
            let packed = encode(encoding, &body).unwrap();
            assert!(packed.len() < body.len());
            assert_eq!(decode(encoding.name(), &packed, body.len()).unwrap(), body);
            let refusal = decode(encoding.name(), &packed, body.len() - 1).unwrap_err();
            assert_eq!(refusal.code, super::super::refusal::TOO_LARGE);
            assert!(decode(encoding.name(), &packed[..packed.len() / 2], body.len()).is_err());
        }
        let packed = encode_blocks(&body);
        assert_eq!(decode_blocks(&packed, body.len()).unwrap(), body);
        let mut flipped = packed;
        flipped[40] ^= 1;
        assert!(decode_blocks(&flipped, body.len()).is_err());
    }

    #[test]
    fn the_client_chooses_the_encoding() {
        assert_eq!(
            Encoding::accepted("br, gzip;q=0.8, zstd"),
            Some(Encoding::Gzip)
        );
        assert_eq!(Encoding::accepted("gzip;q=0, lz4"), Some(Encoding::Lz4));
        assert_eq!(Encoding::accepted("identity"), None);
    }

    #[test]
    fn form_fields_keep_their_bytes() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT\r\n1\r\n--x\r\nContent-Disposition: form-data; name=\"param_a\"; filename=\"f\"\r\nContent-Type: text/plain\r\n\r\n\r\n--x--\r\n";
        assert_eq!(
            form_fields("multipart/form-data; boundary=x", body).unwrap(),
            [
                ("query".to_owned(), b"SELECT\r\n1".to_vec()),
                ("param_a".to_owned(), vec![])
            ]
        );
        assert!(form_fields("multipart/form-data; boundary=x", b"--x\r\ncut").is_err());
    }
}

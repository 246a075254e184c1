//! Where the body of an HTTP/1.1 answer ends, and what of the bytes that came belongs to it.
//! RFC 9112, sections 6 and 7.

use bytes::{Buf, Bytes, BytesMut};

/// A line of a chunked body longer than this is none.
const LINE_MAX: usize = 16 << 10;

/// How a body is delimited, and how far it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunk),
    /// The connection's end is the body's.
    UntilClose,
}

/// What comes next in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    Size,
    /// So many bytes of data are left.
    Data(u64),
    /// The line end behind the data.
    DataEnd,
    /// Lines up to an empty one.
    Trailer,
    Over,
}

/// What the bytes at hand hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Data(Bytes),
    End,
    /// Nothing more without another read.
    More,
}

impl Framing {
    /// Takes the next piece of the body out of `buffer`.
    ///
    /// # Errors
    /// What the bytes are not.
    pub fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, &'static str> {
        match self {
            Self::Length(0) => Ok(Step::End),
            Self::Length(left) => Ok(take(buffer, left)),
            Self::UntilClose if buffer.is_empty() => Ok(Step::More),
            Self::UntilClose => Ok(Step::Data(buffer.split().freeze())),
            Self::Chunked(chunk) => chunk.step(buffer),
        }
    }

    /// Whether the end of the connection is in order here.
    #[must_use]
    pub const fn may_close(&self) -> bool {
        matches!(self, Self::UntilClose)
    }
}

/// As much of what is left as has come.
fn take(buffer: &mut BytesMut, left: &mut u64) -> Step {
    if buffer.is_empty() {
        return Step::More;
    }
    let count = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(buffer.len());
    *left -= count as u64;
    Step::Data(buffer.split_to(count).freeze())
}

impl Chunk {
    fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, &'static str> {
        loop {
            match self {
                Self::Size => {
                    let Some(line) = line(buffer)? else {
                        return Ok(Step::More);
                    };
                    *self = match size(&buffer[..line])? {
                        0 => Self::Trailer,
                        size => Self::Data(size),
                    };
                    buffer.advance(line + 1);
                }
                Self::Data(left) => {
                    let step = take(buffer, left);
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    return Ok(step);
                }
                Self::DataEnd => {
                    let Some(line) = line(buffer)? else {
                        return Ok(Step::More);
                    };
                    if !buffer[..line].trim_ascii().is_empty() {
                        return Err("a chunk is longer than its size");
                    }
                    buffer.advance(line + 1);
                    *self = Self::Size;
                }
                Self::Trailer => {
                    let Some(line) = line(buffer)? else {
                        return Ok(Step::More);
                    };
                    let last = buffer[..line].trim_ascii().is_empty();
                    buffer.advance(line + 1);
                    if last {
                        *self = Self::Over;
                    }
                }
                Self::Over => return Ok(Step::End),
            }
        }
    }
}

/// Length of the first line without its end.
fn line(buffer: &[u8]) -> Result<Option<usize>, &'static str> {
    match memchr::memchr(b'\n', buffer) {
        None if buffer.len() > LINE_MAX => Err("a line of a chunked body has no end"),
        found => Ok(found),
    }
}

/// The number before extensions, in hex.
fn size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line
        .split(|b| *b == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if digits.is_empty() || digits.len() > 15 {
        return Err("a chunk has no size");
    }
    digits.iter().try_fold(0, |size, digit| {
        let digit = char::from(*digit)
            .to_digit(16)
            .ok_or("the size of a chunk is no number")?;
        Ok(size * 16 + u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a body in pieces of a size.
    fn read(
        mut framing: Framing,
        wire: &[u8],
        size: usize,
    ) -> Result<(Vec<u8>, bool, usize), &'static str> {
        let (mut body, mut buffer, mut rest) = (Vec::new(), BytesMut::new(), wire);
        loop {
            match framing.step(&mut buffer)? {
                Step::Data(data) => body.extend_from_slice(&data),
                Step::End => return Ok((body, true, buffer.len() + rest.len())),
                Step::More if rest.is_empty() => return Ok((body, false, 0)),
                Step::More => {
                    let (piece, left) = rest.split_at(size.min(rest.len()));
                    buffer.extend_from_slice(piece);
                    rest = left;
                }
            }
        }
    }

    #[test]
    fn however_it_is_cut_the_same_body_comes_out() {
        let wire = b"5\r\nhello\r\n1;x=y\r\n \r\nA\r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\nNEXT";
        for size in 1..wire.len() {
            let (body, ended, left) = read(Framing::Chunked(Chunk::Size), wire, size).unwrap();
            assert_eq!(
                (body.as_slice(), ended),
                (&b"hello 0123456789"[..], true),
                "in pieces of {size}"
            );
            assert_eq!(left, 4);
            let (body, ended, left) = read(Framing::Length(7), b"1234567NEXT", size).unwrap();
            assert_eq!((body.as_slice(), ended, left), (&b"1234567"[..], true, 4));
            let (body, ended, _) = read(Framing::UntilClose, b"all of it", size).unwrap();
            assert_eq!((body.as_slice(), ended), (&b"all of it"[..], false));
        }
    }

    #[test]
    fn what_breaks_off_does_not_end() {
        let wire = b"5\r\nhello\r\n0\r\n\r\n";
        for end in 0..wire.len() {
            assert!(
                !read(Framing::Chunked(Chunk::Size), &wire[..end], 3)
                    .unwrap()
                    .1
            );
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for wire in [
            &b"x\r\n"[..],
            b"\r\n",
            b"5\r\nhelloX\r\n",
            b"fffffffffffffffff\r\n",
            b"-1\r\n",
        ] {
            assert!(
                read(Framing::Chunked(Chunk::Size), wire, 100).is_err(),
                "{wire:?}"
            );
        }
    }
}

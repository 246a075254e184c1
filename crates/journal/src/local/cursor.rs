//! Walks the records of the segment files, forwards, with `pread`. Needs only the directory: the
//! writer may be another process, or gone.
//!
//! Never skips anything: what is not a good record is reported where it lies.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use schemas::{Partition, Pseq, Topic};

use super::format::{
    Parsed, ParsedHeader, RECORD_HEADER, SegmentHeader, parse_header, parse_record, record_bytes,
};
use super::place::Place;
use super::segment::{self, file_name};
use crate::Error;

/// Bytes per read. Bodies are slices of such a chunk.
const CHUNK: u64 = 64 * 1024;

/// One record as it lies in a file.
#[derive(Debug, Clone)]
pub struct Found {
    pub place: Place,
    pub source: u64,
    pub topic: Topic,
    pub partition: Partition,
    pub pseq: Pseq,
    pub body: Bytes,
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
    Record(Found),
    /// Nothing (yet).
    End,
    /// Not a record, at the cursor's place.
    Bad(String),
}

/// A place among the segments, and what was read ahead of it.
pub struct Cursor {
    dir: PathBuf,
    place: Place,
    /// Bytes of records before `place`.
    logical: u64,
    open: Option<OpenSegment>,
    chunk: Bytes,
    chunk_at: u64,
}

struct OpenSegment {
    file: File,
    path: PathBuf,
    bytes: u64,
    header: SegmentHeader,
}

impl Cursor {
    /// At a place that is known to be the beginning of a record or the end of a segment. `logical`:
    /// bytes of records before it, when known; it finds the way on if the segment was trimmed.
    pub fn new(dir: &Path, place: Place, logical: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            place,
            logical,
            open: None,
            chunk: Bytes::new(),
            chunk_at: 0,
        }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// Bytes of records before the cursor.
    pub fn logical(&self) -> u64 {
        self.logical
    }

    /// The path and offset of the cursor, for messages.
    pub fn file_place(&self) -> (PathBuf, u64) {
        (
            self.dir.join(file_name(self.place.segment)),
            u64::from(self.place.offset),
        )
    }

    /// The next record, if it begins before `limit`. Everything before `limit` is known to be written.
    pub fn next(&mut self, limit: Place) -> Result<Step, Error> {
        loop {
            if self.place >= limit {
                return Ok(Step::End);
            }
            if self.open.is_none() && !self.enter()? {
                return Ok(Step::End);
            }
            match self.parse(limit)? {
                Parsed::Record {
                    topic,
                    partition,
                    pseq,
                    body,
                } => {
                    return Ok(Step::Record(self.take(topic, partition, pseq, body)));
                }
                Parsed::Bad(problem) => return Ok(Step::Bad(problem.to_owned())),
                Parsed::End | Parsed::Short(_) => {}
            }
            // Only a successor in use ends a segment for good; then one last look, since the writer
            // may have put more here before it went on.
            let Some(next) = self.successor()? else {
                return Ok(Step::End);
            };
            self.chunk = Bytes::new();
            match self.parse(limit)? {
                Parsed::Record {
                    topic,
                    partition,
                    pseq,
                    body,
                } => {
                    return Ok(Step::Record(self.take(topic, partition, pseq, body)));
                }
                Parsed::Bad(problem) => return Ok(Step::Bad(problem.to_owned())),
                Parsed::End | Parsed::Short(_) => {}
            }
            if next.header.logical != self.logical {
                return Ok(Step::Bad(format!(
                    "records end here, {} bytes before the next segment begins",
                    next.header.logical.saturating_sub(self.logical)
                )));
            }
            self.step_into(next);
        }
    }

    fn take(&mut self, topic: Topic, partition: Partition, pseq: Pseq, body: usize) -> Found {
        let from = usize::try_from(u64::from(self.place.offset) - self.chunk_at)
            .unwrap_or(usize::MAX)
            + RECORD_HEADER;
        let found = Found {
            place: self.place,
            source: self.open.as_ref().map_or(0, |open| open.header.source),
            topic,
            partition,
            pseq,
            body: self.chunk.slice(from..from + body),
        };
        let bytes = record_bytes(body);
        // A record is at most a quarter of a segment, which is at most 1 GiB.
        self.place.offset = self
            .place
            .offset
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.logical += bytes as u64;
        found
    }

    /// Parses at the cursor; what does not look like a record is read once more from the file.
    fn parse(&mut self, limit: Place) -> Result<Parsed, Error> {
        let Some(open) = &self.open else {
            return Ok(Parsed::End);
        };
        let offset = u64::from(self.place.offset);
        let room = open.bytes.saturating_sub(offset);
        let ahead = self.chunk_at + self.chunk.len() as u64;
        let mut need = RECORD_HEADER as u64;
        if (self.chunk_at..ahead).contains(&offset) {
            let at = usize::try_from(offset - self.chunk_at).unwrap_or(usize::MAX);
            match parse_record(&self.chunk[at..], self.place.bits(), room) {
                good @ Parsed::Record { .. } => return Ok(good),
                Parsed::Short(bytes) => need = bytes as u64,
                Parsed::End | Parsed::Bad(_) => {}
            }
        }
        loop {
            // Reading only what is written keeps a small tail cheap to follow.
            let written = if limit.segment == self.place.segment {
                u64::from(limit.offset).saturating_sub(offset)
            } else {
                room
            };
            let want = written.min(CHUNK).max(need).min(room);
            self.chunk =
                read_at(&open.file, offset, want).map_err(Error::io("read", &open.path))?;
            self.chunk_at = offset;
            let parsed = parse_record(&self.chunk, self.place.bits(), room);
            match parsed {
                Parsed::Short(bytes) if bytes as u64 > want && want < room => need = bytes as u64,
                _ => return Ok(parsed),
            }
        }
    }

    /// Opens the segment of the cursor's place. False if it is not there (yet).
    fn enter(&mut self) -> Result<bool, Error> {
        if let Some(open) = open_segment(&self.dir, self.place.segment)? {
            if self.place.offset < open.header.len {
                self.place.offset = open.header.len;
            }
            self.logical =
                open.header.logical + u64::from(self.place.offset) - u64::from(open.header.len);
            self.set(open);
            return Ok(true);
        }
        // Trimmed after this reader had come to its end, or a start before the first segment.
        let Some(next) = self.successor()? else {
            return Ok(false);
        };
        if next.header.logical != self.logical {
            return Err(Error::Trimmed {
                dir: self.dir.clone(),
                position: self.place.bits(),
            });
        }
        self.step_into(next);
        Ok(true)
    }

    fn step_into(&mut self, open: OpenSegment) {
        self.place = Place {
            segment: open.header.number,
            offset: open.header.len,
        };
        self.logical = open.header.logical;
        self.set(open);
    }

    fn set(&mut self, open: OpenSegment) {
        self.open = Some(open);
        self.chunk = Bytes::new();
        self.chunk_at = 0;
    }

    /// The next segment that is in use.
    fn successor(&self) -> Result<Option<OpenSegment>, Error> {
        // Nearly always the next number; listing the directory is for what was trimmed or damaged.
        if let Some(number) = self.place.segment.checked_add(1)
            && let Some(open) = open_segment(&self.dir, number)?
        {
            return Ok(Some(open));
        }
        for number in segment::list(&self.dir)? {
            if number > self.place.segment
                && let Some(open) = open_segment(&self.dir, number)?
            {
                return Ok(Some(open));
            }
        }
        Ok(None)
    }
}

/// The header of a segment; `None` if there is no such file or it is not in use.
pub fn header_of(dir: &Path, number: u32) -> Result<Option<SegmentHeader>, Error> {
    Ok(open_segment(dir, number)?.map(|open| open.header))
}

fn open_segment(dir: &Path, number: u32) -> Result<Option<OpenSegment>, Error> {
    let path = dir.join(file_name(number));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", &path)(error)),
    };
    let failed = || Error::io("read", &path);
    let bytes = file.metadata().map_err(failed())?.len();
    let mut want = 4096;
    loop {
        let start = read_at(&file, 0, want).map_err(failed())?;
        match parse_header(&start) {
            ParsedHeader::Good(header) if header.number == number => {
                return Ok(Some(OpenSegment {
                    file,
                    path,
                    bytes,
                    header,
                }));
            }
            ParsedHeader::Unused => return Ok(None),
            ParsedHeader::Short(need) if (start.len() as u64) == want => want = need as u64,
            // An empty file: created, and not allocated before the process ended.
            ParsedHeader::Short(_) if start.iter().all(|&byte| byte == 0) => return Ok(None),
            ParsedHeader::Good(_) | ParsedHeader::Short(_) | ParsedHeader::Bad => {
                return Err(Error::corrupt(&path, 0, "the segment's header is damaged"));
            }
        }
    }
}

/// Reads up to `want` bytes; fewer only at the end of the file.
fn read_at(file: &File, offset: u64, want: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(want).unwrap_or(usize::MAX)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(Bytes::from(bytes))
}

//! What opening a directory finds out: where the log ends, which numbers come next, and whether
//! anything is damaged.
//!
//! Only what may lie beyond the last sync is scanned. Cuts a torn tail, and nothing else: everything
//! that was durable once must still be there, or opening fails and changes nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use schemas::{Partition, Pseq, SourceId, Topic};

use super::cursor::{Cursor, Step, header_of};
use super::files;
use super::format::{Parsed, SegmentHeader, parse_record};
use super::groups;
use super::place::Place;
use super::segment::{self, file_name, sync_dir};
use super::sequences::Sequences;
use super::synced::SyncedView;
use crate::Error;

/// A power cut loses whole sectors of this size.
const SECTOR: u64 = 512;

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// This directory's id, made when it was created.
    pub source_id: SourceId,
    /// The last sequence number per topic and partition.
    pub last: BTreeMap<(Topic, Partition), Pseq>,
    /// Bytes of a torn tail that were cut: records that nobody was told to be durable.
    pub cut_bytes: u64,
    /// Records that were read to find the end.
    pub records_scanned: u64,
}

/// Where the writer goes on.
pub struct Found {
    pub source: u64,
    pub last: Sequences,
    /// End of the last record.
    pub tail: Place,
    pub logical: u64,
    /// Bytes of records before the oldest segment.
    pub first_logical: u64,
    pub next_number: u32,
    pub cut_bytes: u64,
    pub records_scanned: u64,
}

/// Examines the directory, then cuts the torn tail and removes segments that were never used.
pub fn recover(dir: &Path) -> Result<Found, Error> {
    let synced = SyncedView::new(dir);
    let durable = synced.durable()?;
    let same_boot = synced.same_boot()?;
    let numbers = segment::list(dir)?;
    let next_number = numbers
        .last()
        .map_or(1, |last| last + 1)
        .max(durable.segment + 1);

    let mut used: Vec<SegmentHeader> = Vec::new();
    let mut drop_from = None;
    for &number in &numbers {
        match header_of(dir, number) {
            Ok(Some(header)) if drop_from.is_none() => used.push(header),
            Ok(_) => {}
            // A header that no sync has covered may be torn; then nothing behind it counts either.
            Err(Error::Corrupt { .. })
                if number > durable.segment && !same_boot && header_looks_torn(dir, number)? =>
            {
                drop_from.get_or_insert(number);
            }
            Err(error) => return Err(error),
        }
    }
    let last_used = used.last().map_or(0, |header| header.number);
    if durable.segment > last_used {
        let path = dir.join(file_name(durable.segment));
        return Err(Error::corrupt(
            &path,
            u64::from(durable.offset),
            "the log was synced up to here, and the segment is gone or was never begun",
        ));
    }

    let source = source_id(dir, &used)?;
    let mut found = Found {
        source,
        last: Sequences::default(),
        tail: Place::START,
        logical: 0,
        first_logical: used.first().map_or(0, |header| header.logical),
        next_number,
        cut_bytes: 0,
        records_scanned: 0,
    };
    // Segments before the one that the last sync ended in are wholly durable.
    let begin = used
        .iter()
        .rev()
        .find(|header| header.number <= durable.segment)
        .or(used.first());
    if let Some(begin) = begin {
        found.last = Sequences::from_entries(&begin.last);
        found.logical = begin.logical;
        scan(dir, begin.number, drop_from.is_some(), &mut found)?;
        found.cut_bytes = find_end(dir, &found, durable, same_boot, last_used)?;
        for (group, committed) in groups::load_all(dir)? {
            if committed.place > found.tail && committed.logical > found.logical {
                return Err(Error::Lost {
                    dir: dir.to_owned(),
                    group,
                });
            }
        }
    }

    tidy(dir, &numbers, found.tail)?;
    // From here on the tail counts as durable: what a killed writer left in the page cache must be.
    for header in used
        .iter()
        .filter(|h| h.number >= durable.segment && h.number <= found.tail.segment)
    {
        let path = dir.join(file_name(header.number));
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(Error::io("sync", &path))?;
    }
    Ok(found)
}

/// Reads on to the first thing that is not a record.
fn scan(dir: &Path, from: u32, torn_header: bool, found: &mut Found) -> Result<(), Error> {
    let mut cursor = Cursor::new(
        dir,
        Place {
            segment: from,
            offset: 0,
        },
        found.logical,
    );
    loop {
        let record = match cursor.next(Place::MAX) {
            Ok(Step::Record(record)) => record,
            Ok(Step::End | Step::Bad(_)) => break,
            // The next segment's header: already judged, by its caller.
            Err(Error::Corrupt { .. }) if torn_header => break,
            Err(error) => return Err(error),
        };
        let expected = found.last.advance(record.topic, record.partition);
        if record.pseq != expected || record.source != found.source {
            let path = dir.join(file_name(record.place.segment));
            return Err(Error::corrupt(
                &path,
                u64::from(record.place.offset),
                format!(
                    "record {} follows where {} is due",
                    record.pseq.0, expected.0
                ),
            ));
        }
        found.records_scanned += 1;
    }
    found.tail = cursor.place();
    found.logical = cursor.logical();
    Ok(())
}

/// Decides whether the log may end at the tail that was found: a torn tail is one that no sync has
/// covered and that looks like a torn one. Says how many bytes go.
fn find_end(
    dir: &Path,
    found: &Found,
    durable: Place,
    same_boot: bool,
    last_used: u32,
) -> Result<u64, Error> {
    let tail = found.tail;
    let path = dir.join(file_name(tail.segment));
    let offset = u64::from(tail.offset);
    let damaged = |problem: &str| Err(Error::corrupt(&path, offset, problem));
    if tail < durable {
        return damaged("no good record is here, and the log was synced beyond this place");
    }
    let failed = || Error::io("read", &path);
    let file = File::open(&path).map_err(failed())?;
    let bytes = file.metadata().map_err(failed())?.len();
    let mut rest = vec![0; usize::try_from(bytes.saturating_sub(offset)).unwrap_or(0)];
    file.read_exact_at(&mut rest, offset).map_err(failed())?;
    let written = rest
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |at| at + 1);
    let beyond = last_used > tail.segment;
    if same_boot {
        // The page cache was never lost, so only the record being copied can be torn.
        let follows = (8..written).step_by(8).any(|at| {
            let position = tail.bits() + at as u64;
            matches!(
                parse_record(&rest[at..], position, (rest.len() - at) as u64),
                Parsed::Record { .. }
            )
        });
        if follows || beyond {
            return damaged("a damaged record lies before good ones");
        }
    } else if (written > 0 || beyond) && !looks_torn(&rest, written, offset) {
        return damaged("a damaged record lies here, and no sector of it is missing");
    }
    Ok(written as u64)
}

/// Whether something of the first record in `rest` never reached the disk: nothing is `written` at its
/// end or behind it, a sector (or the part of one that the record takes) holds zeros, or the file ends
/// too early.
fn looks_torn(rest: &[u8], written: usize, offset: u64) -> bool {
    let Some(len) = rest.get(..4) else {
        return true;
    };
    let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
    if len == 0 {
        return true;
    }
    if written < len && len <= rest.len() {
        return true;
    }
    let Some(record) = rest.get(..len) else {
        // Either the file was cut, or the length is garbage; a cut file has no zeros behind.
        return rest.last().is_some_and(|&byte| byte != 0) || rest.len() < 4096;
    };
    let first = usize::try_from(SECTOR - offset % SECTOR)
        .unwrap_or(0)
        .min(len);
    let (head, others) = record.split_at(first);
    std::iter::once(head)
        .chain(others.chunks(SECTOR as usize))
        .any(|piece| piece.iter().all(|&byte| byte == 0))
}

/// Whether a sector of a segment's header never reached the disk.
fn header_looks_torn(dir: &Path, number: u32) -> Result<bool, Error> {
    let path = dir.join(file_name(number));
    let mut start = vec![0; 64 * 1024];
    let read = File::open(&path)
        .and_then(|file| file.read_at(&mut start, 0))
        .map_err(Error::io("read", &path))?;
    start.truncate(read);
    let len = start.get(8..12).map_or(0, |len| {
        u32::from_le_bytes([len[0], len[1], len[2], len[3]])
    });
    let header = &start[..start.len().min(len as usize)];
    Ok(header.is_empty()
        || header
            .chunks(SECTOR as usize)
            .any(|piece| piece.iter().all(|&b| b == 0)))
}

/// Removes what lies behind the tail: segments that were never used or belong to the torn tail,
/// newest first, then the rest of the last segment.
fn tidy(dir: &Path, numbers: &[u32], tail: Place) -> Result<(), Error> {
    for &number in numbers
        .iter()
        .rev()
        .take_while(|&&number| number > tail.segment)
    {
        let path = dir.join(file_name(number));
        std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    if numbers.contains(&tail.segment) {
        let path = dir.join(file_name(tail.segment));
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| {
                file.set_len(u64::from(tail.offset))?;
                file.sync_all()
            })
            .map_err(Error::io("cut the torn tail of", &path))?;
    }
    sync_dir(dir)
}

/// The id of this directory: from its file, else from its segments, else new.
fn source_id(dir: &Path, used: &[SegmentHeader]) -> Result<u64, Error> {
    let path = dir.join("source");
    if let Some(words) = files::read(&path)? {
        let known = words
            .strip_prefix("source 1 ")
            .and_then(|id| u64::from_str_radix(id, 16).ok())
            .ok_or_else(|| Error::corrupt(&path, 0, "not a source id of this version"))?;
        if let Some(other) = used.iter().find(|header| header.source != known) {
            let path = dir.join(file_name(other.number));
            return Err(Error::corrupt(
                &path,
                16,
                "the segment belongs to another journal",
            ));
        }
        return Ok(known);
    }
    let id = match used.last() {
        Some(header) => header.source,
        None => fresh_id().map_err(Error::io("draw a source id for", dir))?,
    };
    files::replace(&path, &format!("source 1 {id:016x}"), true)?;
    Ok(id)
}

fn fresh_id() -> Result<u64, std::io::Error> {
    let mut bytes = [0; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    // 0 is kept for "none".
    Ok(u64::from_le_bytes(bytes).max(1))
}

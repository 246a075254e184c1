//! One preallocated segment file, mapped for writing.
//!
//! Appends copy into the mapping: the bytes are in the page cache at once, survive `kill -9`, and
//! cost no system call. Never reads: readers use the file. All blocks are allocated beforehand, so
//! that a store can not fail for want of space.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};
use rustix::fs::{FallocateFlags, Mode, OFlags};

use crate::Error;

/// Synced pages are given back in steps of this many bytes: one `madvise` for 1,000 records.
const RELEASE_STEP: usize = 256 * 1024;

/// A writable segment.
pub struct Segment {
    pub number: u32,
    file: File,
    map: MmapRaw,
    released: AtomicUsize,
}

/// Where segments of this number are kept.
pub fn file_name(number: u32) -> String {
    format!("{number:010}.seg")
}

/// The number in a segment's file name.
pub fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 10).then(|| digits.parse().ok())?
}

impl Segment {
    /// Creates the file with all its blocks. The caller syncs the directory before it promises
    /// anything about records in it.
    pub fn create(dir: &Path, number: u32, bytes: usize) -> Result<Self, Error> {
        let path = dir.join(file_name(number));
        let made = Self::allocate(&path, number, bytes);
        if made.is_err() {
            // A part of the blocks may have been taken: give them back. The name is ours alone.
            let _ = std::fs::remove_file(&path);
        }
        made.map_err(|source| {
            use rustix::io::Errno;
            let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG]
                .iter()
                .any(|errno| source.raw_os_error() == Some(errno.raw_os_error()));
            if full {
                Error::DiskFull { path, source }
            } else {
                Error::io("preallocate the segment", &path)(source)
            }
        })
    }

    fn allocate(path: &Path, number: u32, bytes: usize) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))?);
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes as u64)?;
        let map = MmapOptions::new().len(bytes).map_raw(&file)?;
        Ok(Self {
            number,
            file,
            map,
            released: AtomicUsize::new(0),
        })
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    /// Copies `bytes` to `offset`. Only the writer calls it, under its lock.
    ///
    /// # Panics
    /// When the bytes reach over the end: the writer has checked the room.
    #[expect(unsafe_code, reason = "stores into the shared file mapping")]
    pub fn put(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset
                .checked_add(bytes.len())
                .is_some_and(|end| end <= self.map.len()),
            "a record reaches over its segment"
        );
        // SAFETY: the range lies inside the mapping (checked above), no reference into the mapping
        // is ever made, and the writer's lock keeps other writers out. Other processes read the file
        // through system calls only.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.map.as_mut_ptr().add(offset),
                bytes.len(),
            );
        }
    }

    /// Stores the word that turns what lies behind it into a record, after everything else: whoever
    /// is killed in the middle leaves a zero there.
    #[expect(unsafe_code, reason = "stores into the shared file mapping")]
    pub fn publish(&self, offset: usize, word: u32) {
        assert!(
            offset.is_multiple_of(4) && offset + 4 <= self.map.len(),
            "a record is not aligned"
        );
        // SAFETY: inside the mapping and aligned (checked above; a mapping begins on a page); only
        // this atomic store and earlier plain stores of the same thread touch these bytes.
        let cell = unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast()) };
        cell.store(word.to_le(), Ordering::Release);
    }

    /// Makes everything that was put so far durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(self.file.as_fd())?)
    }

    /// Takes the pages below `upto` out of this process's memory. They stay in the page cache, and
    /// dirty ones are still written: this only keeps the resident size of the writer small.
    #[expect(unsafe_code, reason = "madvise on a range of the mapping")]
    pub fn release(&self, upto: usize) {
        let upto = upto.min(self.map.len()) / RELEASE_STEP * RELEASE_STEP;
        let from = self.released.load(Ordering::Relaxed);
        if upto <= from {
            return;
        }
        // SAFETY: a shared file mapping keeps its contents over MADV_DONTNEED, and the range is inside
        // the mapping. Failing is harmless: the pages stay resident.
        let _ = unsafe {
            self.map
                .unchecked_advise_range(UncheckedAdvice::DontNeed, from, upto - from)
        };
        self.released.store(upto, Ordering::Relaxed);
    }
}

/// Makes created, renamed and deleted names durable.
pub fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|handle| handle.sync_all())
        .map_err(Error::io("sync the directory", dir))
}

/// The numbers of the segment files, in order.
pub fn list(dir: &Path) -> Result<Vec<u32>, Error> {
    let failed = || Error::io("list the directory", dir);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        numbers.extend(name.to_str().and_then(number_of));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

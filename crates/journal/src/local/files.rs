//! Small files that are replaced as a whole: readers see the old or the new one, never a part.
//! Each is one line of words that ends with its checksum.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::segment::sync_dir;
use crate::Error;

/// Writes the words. `durable`: synced before and after the rename, for files whose loss would cost
/// more than repeated work.
pub fn replace(path: &Path, words: &str, durable: bool) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file = File::create(&temporary)?;
        writeln!(file, "{words} {:08x}", crc32c::crc32c(words.as_bytes()))?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, path)
    };
    write().map_err(Error::io("write", path))?;
    match path.parent() {
        Some(dir) if durable => sync_dir(dir),
        _ => Ok(()),
    }
}

/// The words of the file; `None` if there is no such file.
pub fn read(path: &Path) -> Result<Option<String>, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    text.strip_suffix('\n')
        .and_then(|line| line.rsplit_once(' '))
        .filter(|(words, crc)| *crc == format!("{:08x}", crc32c::crc32c(words.as_bytes())))
        .map(|(words, _)| Some(words.to_owned()))
        .ok_or_else(|| Error::corrupt(path, 0, "the checksum differs"))
}

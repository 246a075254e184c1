//! What each consumer group has committed: one file per group under `positions/`. A group exists
//! when its file does; removing the file forgets the group.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::files;
use super::place::Place;
use super::segment::sync_dir;
use crate::Error;

/// Everything before this place is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    pub place: Place,
    /// Bytes of records before it: finds the way on where its segment was trimmed.
    pub logical: u64,
}

/// Refuses names that are no good file names.
pub fn check_name(group: &str) -> Result<(), Error> {
    let good =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if (1..=100).contains(&group.len())
        && group.bytes().all(good)
        && !group.starts_with('.')
        && Path::new(group).extension().is_none_or(|end| end != "new")
    {
        return Ok(());
    }
    Err(Error::Group {
        group: group.to_owned(),
    })
}

pub fn path(dir: &Path, group: &str) -> PathBuf {
    dir.join("positions").join(group)
}

/// Stores a position durably.
pub fn store(dir: &Path, group: &str, committed: Committed) -> Result<(), Error> {
    let words = format!(
        "position 1 {:016x} {:016x}",
        committed.place.bits(),
        committed.logical
    );
    files::replace(&path(dir, group), &words, true)
}

/// Forgets a group, durably. Nothing where there is none.
pub fn forget(dir: &Path, group: &str) -> Result<(), Error> {
    check_name(group)?;
    let path = path(dir, group);
    match std::fs::remove_file(&path) {
        Ok(()) => sync_dir(&dir.join("positions")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove", &path)(error)),
    }
}

/// A group's position; `None` if there is no such group.
pub fn load(dir: &Path, group: &str) -> Result<Option<Committed>, Error> {
    let path = path(dir, group);
    let Some(words) = files::read(&path)? else {
        return Ok(None);
    };
    let parse = || {
        let (place, logical) = words.strip_prefix("position 1 ")?.split_once(' ')?;
        Some(Committed {
            place: Place::from_bits(u64::from_str_radix(place, 16).ok()?),
            logical: u64::from_str_radix(logical, 16).ok()?,
        })
    };
    parse()
        .map(Some)
        .ok_or_else(|| Error::corrupt(&path, 0, "not a position of this version"))
}

/// All groups.
pub fn load_all(dir: &Path) -> Result<BTreeMap<String, Committed>, Error> {
    let folder = dir.join("positions");
    let failed = || Error::io("list the directory", &folder);
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        // Half-written replacements end in `.new`, which no group name does.
        if let Some(group) = name.to_str().filter(|name| check_name(name).is_ok())
            && let Some(committed) = load(dir, group)?
        {
            all.insert(group.to_owned(), committed);
        }
    }
    Ok(all)
}

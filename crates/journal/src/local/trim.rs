//! Deleting what everybody is done with: whole segments, oldest first, never the active one.

use std::time::{SystemTime, UNIX_EPOCH};

use super::cursor::header_of;
use super::place::Place;
use super::segment::{self, file_name, sync_dir};
use super::shared::Shared;
use crate::Error;

/// Deletes segments, and says how many. A crash in between leaves a shorter or longer log, both good.
pub fn trim(shared: &Shared) -> Result<usize, Error> {
    let Some(retention) = shared.options.retention else {
        return Ok(0);
    };
    shared.refresh_groups()?;
    let Some(committed) = shared.groups.lock().values().map(|c| c.logical).min() else {
        return Ok(0);
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut used = Vec::new();
    let mut unused = Vec::new();
    for number in segment::list(&shared.dir)? {
        match header_of(&shared.dir, number)? {
            Some(header) => used.push(header),
            None => unused.push(number),
        }
    }
    let mut deleted = 0;
    for pair in used.windows(2) {
        let (old, next) = (&pair[0], &pair[1]);
        let begin = Place {
            segment: next.number,
            offset: 0,
        };
        // The next segment came into use when this one was full: that is its youngest record's age.
        let age_us = i64::try_from(now.as_micros())
            .unwrap_or(i64::MAX)
            .saturating_sub(next.created_us);
        let done = committed >= next.logical
            && shared.low_water() >= begin
            && shared.synced() >= begin
            && u128::try_from(age_us).is_ok_and(|age| age >= retention.as_micros());
        if !done {
            break;
        }
        let path = shared.dir.join(file_name(old.number));
        std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        deleted += 1;
    }
    // Prepared too late by a process that was then killed.
    let first = used.get(deleted).map_or(0, |header| header.number);
    for number in unused.into_iter().filter(|&number| number < first) {
        let _ = std::fs::remove_file(shared.dir.join(file_name(number)));
    }
    if deleted > 0 {
        sync_dir(&shared.dir)?;
    }
    Ok(deleted)
}

//! A walk over what is in the journal now, for recovery of open calls and for audits.

use schemas::Topic;

use super::cursor::{Cursor, Step};
use super::place::Place;
use super::reader::record_of;
use crate::{Error, Record};

/// Records from a position to the end that the log had when the scan began, durable or not. After an
/// error it ends.
pub struct Scan {
    cursor: Cursor,
    limit: Place,
    topics: Vec<Topic>,
    failed: bool,
}

impl Scan {
    pub(super) fn new(cursor: Cursor, limit: Place, topics: &[Topic]) -> Self {
        Self {
            cursor,
            limit,
            topics: topics.to_vec(),
            failed: false,
        }
    }

    fn step(&mut self) -> Result<Option<Record>, Error> {
        loop {
            let problem = match self.cursor.next(self.limit)? {
                Step::Record(found) if self.topics.contains(&found.topic) => {
                    return Ok(Some(record_of(found)));
                }
                Step::Record(_) => continue,
                Step::End if self.cursor.place() >= self.limit => return Ok(None),
                Step::End => "no record is here, and the log goes on".to_owned(),
                Step::Bad(problem) => problem,
            };
            let (path, offset) = self.cursor.file_place();
            return Err(Error::corrupt(&path, offset, problem));
        }
    }
}

impl Iterator for Scan {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

//! A journal as another process sees it: readers without the lock, and no appends.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use schemas::{Partition, Topic};

use super::LocalReader;
use crate::{Appended, Error, EventLog, Reader, Start};

/// The log of an ingress beside this process.
#[derive(Debug, Clone)]
pub struct Follower {
    dir: PathBuf,
}

impl Follower {
    /// Follows the journal of a directory, written by whoever holds its lock.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }
}

#[async_trait]
impl EventLog for Follower {
    /// Refused: one process writes a journal.
    async fn append(&self, _: Topic, _: Partition, _: Bytes) -> Result<Appended, Error> {
        Err(Error::Option {
            name: "follower",
            problem: format!(
                "{} is another process's journal: it is only read here",
                self.dir.display()
            ),
        })
    }

    async fn reader(
        &self,
        group: &str,
        topics: &[Topic],
        start: Start,
    ) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(LocalReader::open(
            &self.dir, group, topics, &start,
        )?))
    }
}

//! The log on a broker, as the seam sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use journal::{Appended, EventLog, Reader, Start};
use parking_lot::Mutex;
use schemas::{Identity, Partition, Topic};
use tokio::sync::watch;

use crate::append::Appender;
use crate::ask::Ask;
use crate::following::Following;
use crate::garbage::Strays;
use crate::reader::KafkaReader;
use crate::registry::Ids;
use crate::{Error, Settings, framing};

/// The log of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

/// What readers share with their log.
pub struct Inner {
    pub settings: Settings,
    pub ask: Ask,
    pub ids: Arc<Ids>,
    pub appender: Appender,
    pub strays: Strays,
    pub strays_put: AtomicU64,
    pub strays_skipped: AtomicU64,
    pub reassigned: AtomicU64,
    pub open: Mutex<Vec<Open>>,
}

/// A reader whose thread has not ended.
pub struct Open {
    pub group: String,
    pub dropped: Arc<AtomicBool>,
    /// Closes with the thread.
    pub ended: watch::Receiver<()>,
}

/// Counters since the start of the process, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages without an identity that were put into the dead letters by readers of groups.
    pub strays: u64,
    /// Those that readers without a group went past: nobody keeps what they read.
    pub strays_skipped: u64,
    /// How often the partitions of a group were dealt anew.
    pub reassigned: u64,
}

impl Log {
    /// The log behind these brokers. Asks nothing of them yet.
    ///
    /// # Errors
    /// librdkafka refuses a property.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let ask = Ask::new(&settings)?;
        let ids = Arc::new(Ids::new(&settings)?);
        Ok(Self(Arc::new(Inner {
            appender: Appender::new(settings.clone(), Arc::clone(&ids)),
            settings,
            ask,
            ids,
            strays: Strays::default(),
            strays_put: AtomicU64::new(0),
            strays_skipped: AtomicU64::new(0),
            reassigned: AtomicU64::new(0),
            open: Mutex::default(),
        })))
    }

    /// Makes the producer of this process now. It is half a second until a new one has its number from the
    /// brokers: a process that will append later prepares at its start, and no append waits for it.
    ///
    /// # Errors
    /// librdkafka refuses a property.
    pub fn prepare(&self) -> Result<(), Error> {
        self.0.appender.prepare()
    }

    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Follows a topic whose order matters as a whole (config, catalog; of others the first partition),
    /// after this version: 0 begins at the beginning.
    ///
    /// # Errors
    /// The brokers do not answer, or the topic does not exist.
    pub async fn following(&self, topic: Topic, after: u64) -> Result<Following, Error> {
        self.0.following(topic, after).await
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            strays: self.0.strays_put.load(Ordering::Relaxed),
            strays_skipped: self.0.strays_skipped.load(Ordering::Relaxed),
            reassigned: self.0.reassigned.load(Ordering::Relaxed),
        }
    }

    /// Waits until readers that were dropped have left their groups, so that others take over at once
    /// and not after a session's end. Readers that are still in use do not count as dropped: end them
    /// before.
    pub async fn close(&self, deadline: Duration) {
        // Late is late: the session ends by itself.
        let _ = tokio::time::timeout(deadline, self.0.left(None)).await;
    }
}

impl Inner {
    pub async fn following(self: &Arc<Self>, topic: Topic, after: u64) -> Result<Following, Error> {
        Following::open(self, topic, after).await
    }

    /// Waits until dropped readers (of one group) have left.
    pub async fn left(&self, group: Option<&str>) {
        let ended: Vec<_> = {
            let mut open = self.open.lock();
            open.retain(|reader| reader.ended.has_changed().is_ok());
            open.iter()
                .filter(|reader| group.is_none_or(|group| group == reader.group))
                .filter(|reader| reader.dropped.load(Ordering::Acquire))
                .map(|reader| reader.ended.clone())
                .collect()
        };
        for mut ended in ended {
            // An error is the end.
            while ended.changed().await.is_ok() {}
        }
    }
}

#[async_trait]
impl EventLog for Log {
    async fn append(
        &self,
        topic: Topic,
        partition: Partition,
        body: Bytes,
    ) -> Result<Appended, journal::Error> {
        Ok(self.0.appender.append(topic, partition, &body).await?)
    }

    async fn append_as(
        &self,
        topic: Topic,
        identity: Identity,
        body: Bytes,
    ) -> Result<Appended, journal::Error> {
        Ok(self.0.appender.append_as(topic, identity, &body).await?)
    }

    async fn read_again(&self, message: &[u8]) -> Result<Option<Bytes>, journal::Error> {
        let Some(framed) = framing::decode(message) else {
            return Ok(None);
        };
        self.0.ids.ready().await?;
        let fingerprint = self.0.ids.look_up(framed.id).await?;
        let body = |fingerprint: u64| [&fingerprint.to_le_bytes()[..], framed.fields].concat();
        Ok(fingerprint.map(|fingerprint| body(fingerprint).into()))
    }

    async fn reader(
        &self,
        group: &str,
        topics: &[Topic],
        start: Start,
    ) -> Result<Box<dyn Reader>, journal::Error> {
        let reader = KafkaReader::open(&self.0, group, topics, start, None).await?;
        Ok(Box::new(reader))
    }

    async fn gathering_reader(
        &self,
        group: &str,
        topics: &[Topic],
        start: Start,
        pause: Duration,
    ) -> Result<Box<dyn Reader>, journal::Error> {
        let reader = KafkaReader::open(&self.0, group, topics, start, Some(pause)).await?;
        Ok(Box::new(reader))
    }

    async fn newest(
        &self,
        topic: Topic,
        partition: Partition,
    ) -> Result<Option<u64>, journal::Error> {
        Ok(Some(self.0.ask.end(topic, partition).await?))
    }
}

//! Appending to topics without a journal: for processes that write little (config, catalog, dead
//! letters, audits, costs).
//!
//! The identity is that of a source made for one producer: numbers are contiguous from 1 per topic and
//! partition. When a record fails, what became of it is unknown; the source then ends, and the next
//! append begins a new one. So a source's numbers have no hole, whatever happens.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use journal::{Appended, Position};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use schemas::{ConfigEvent, Event as _, Identity, Partition, Pseq, SourceId, Topic};
use tokio::sync::oneshot;

use crate::context::Heard;
use crate::registry::Ids;
use crate::topics::MESSAGE_BYTES_MAX;
use crate::{Error, Settings, framing};

/// How long the delivery report may lag behind the record's own time limit.
const GRACE: Duration = Duration::from_secs(2);

/// What a record is called.
#[derive(Clone, Copy)]
enum Name {
    /// The next of this process in a partition.
    Next(Partition),
    Given(Identity),
}

/// Offset, or why not.
type Outcome = Result<u64, String>;

/// The producer of one process.
pub struct Appender {
    settings: Settings,
    ids: Arc<Ids>,
    source: Mutex<Option<Source>>,
}

/// One producer and its numbers.
struct Source {
    id: SourceId,
    producer: ThreadedProducer<Reports>,
    failed: Arc<AtomicBool>,
    last: HashMap<(Topic, Partition), u64>,
}

struct Reports {
    failed: Arc<AtomicBool>,
    heard: Arc<Heard>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.heard.said(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.failed(&error, reason);
    }
    fn stats(&self, _: Statistics) {}
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<Outcome>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waits: Self::DeliveryOpaque) {
        let outcome = match result {
            Ok(message) => Ok(u64::try_from(message.offset()).unwrap_or(0)),
            Err((error, _)) => {
                self.failed.store(true, Ordering::Release);
                Err(error.to_string())
            }
        };
        // Whoever waited has given up: the record is there all the same.
        let _ = waits.send(outcome);
    }
}

impl Appender {
    pub fn new(settings: Settings, ids: Arc<Ids>) -> Self {
        Self {
            settings,
            ids,
            source: Mutex::new(None),
        }
    }

    /// Makes the producer, unless there is one.
    pub fn prepare(&self) -> Result<(), Error> {
        let mut place = self.source.lock();
        if place.is_none() {
            *place = Some(self.begin()?);
        }
        Ok(())
    }

    /// Under the next name of this process. Returns when all in-sync replicas have it.
    pub async fn append(
        &self,
        topic: Topic,
        partition: Partition,
        body: &Bytes,
    ) -> Result<Appended, Error> {
        self.put(topic, Name::Next(partition), body).await
    }

    /// Under a name that it has already. Returns when all in-sync replicas have it.
    pub async fn append_as(
        &self,
        topic: Topic,
        identity: Identity,
        body: &Bytes,
    ) -> Result<Appended, Error> {
        self.put(topic, Name::Given(identity), body).await
    }

    async fn put(&self, topic: Topic, name: Name, body: &Bytes) -> Result<Appended, Error> {
        let doing = || format!("appending to {}", self.settings.name(topic));
        let problem = |problem: String| Error::Broker {
            doing: doing(),
            problem: self.settings.heard.because(problem),
        };
        self.ids.ready().await?;
        let id = framing::fingerprint_of(body)
            .and_then(|fingerprint| self.ids.id(fingerprint))
            .ok_or_else(|| problem("the record's schema is none that was released".to_owned()))?;
        let (identity, outcome) = self.send(topic, name, body, id)?;
        let limit = self.settings.timeout + GRACE;
        match tokio::time::timeout(limit, outcome).await {
            Ok(Ok(Ok(offset))) => Ok(Appended {
                identity,
                position: Position(offset),
                version: offset + 1,
            }),
            Ok(Ok(Err(why))) => Err(problem(why)),
            Ok(Err(_)) => Err(problem("the producer was closed".to_owned())),
            Err(_) => Err(problem("no acknowledgement came in time".to_owned())),
        }
    }

    fn send(
        &self,
        topic: Topic,
        name: Name,
        body: &[u8],
        id: u32,
    ) -> Result<(Identity, oneshot::Receiver<Outcome>), Error> {
        let mut place = self.source.lock();
        if let Some(old) = place.take_if(|source| source.failed.load(Ordering::Acquire)) {
            // Closing waits for what is under way: not here.
            std::thread::spawn(move || drop(old));
        }
        let source = match &mut *place {
            Some(source) => source,
            none => none.insert(self.begin()?),
        };
        let identity = match name {
            Name::Given(identity) => identity,
            Name::Next(partition) => {
                let last = source.last.get(&(topic, partition)).copied();
                Identity {
                    source_id: source.id,
                    partition,
                    pseq: Pseq(last.unwrap_or(0) + 1),
                }
            }
        };
        let mut message = Vec::with_capacity(body.len() + 32);
        framing::encode(&identity, body, id, &mut message);
        let header = framing::header(&identity);
        let to = self.settings.name(topic);
        let key = key_of(topic, body);
        let (sender, outcome) = oneshot::channel();
        let mut record = BaseRecord::with_opaque_to(&to, Box::new(sender))
            .partition(i32::from(identity.partition.0))
            .payload(&message)
            .headers(OwnedHeaders::new_with_capacity(1).insert(Header {
                key: framing::HEADER,
                value: Some(&header),
            }));
        if let Some(key) = &key {
            record = record.key(key);
        }
        // Sent under the lock, so that records lie in the order of their numbers.
        let sent = source.producer.send(record);
        sent.map_err(|(error, _)| self.settings.broker(format!("appending to {to}"))(error))?;
        if let Name::Next(partition) = name {
            source.last.insert((topic, partition), identity.pseq.0);
        }
        Ok((identity, outcome))
    }

    fn begin(&self) -> Result<Source, Error> {
        let failed = Arc::new(AtomicBool::new(false));
        let timeout = self.settings.timeout.as_millis().to_string();
        let producer = self
            .settings
            .client(
                &[("linger.ms", "1")],
                &[
                    ("enable.idempotence", "true"),
                    ("message.timeout.ms", &timeout),
                    ("message.max.bytes", MESSAGE_BYTES_MAX),
                ],
            )
            .create_with_context(Reports {
                failed: Arc::clone(&failed),
                heard: Arc::clone(&self.settings.heard),
            })
            .map_err(Error::client)?;
        Ok(Source {
            id: SourceId(rand::random()),
            producer,
            failed,
            last: HashMap::new(),
        })
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        if let Some(source) = self.source.lock().take() {
            std::thread::spawn(move || drop(source));
        }
    }
}

/// Config is compacted: the newest event of a key is kept.
fn key_of(topic: Topic, body: &[u8]) -> Option<String> {
    if topic != Topic::Config {
        return None;
    }
    let event = ConfigEvent::from_body(body).ok()?;
    Some(format!("{}/{}", event.entity.name(), event.id))
}

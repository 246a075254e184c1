//! The seam's reader: hands out what its worker has read, and passes orders on.
//!
//! Everything of librdkafka happens on the worker's thread; here is only a queue, so that a `next` that
//! is cancelled loses nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::Thread;
use std::time::Duration;

use async_trait::async_trait;
use journal::{Dealt, Error as LogError, Lag, Reader, Record, Start};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use schemas::{Partition, Topic};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::ahead::{Order, Part, Shared};
use crate::log::{Inner, Open};
use crate::member::Membership;
use crate::worker::Worker;
use crate::{Error, topics};

pub struct KafkaReader {
    shared: Arc<Shared>,
    orders: Sender<Order>,
    worker: Thread,
    /// Empty: remembers nothing.
    group: String,
    topics: Vec<String>,
    committing: Option<JoinHandle<KafkaResult<()>>>,
    timeout: Duration,
}

impl KafkaReader {
    pub async fn open(
        log: &Arc<Inner>,
        group: &str,
        wanted: &[Topic],
        start: Start,
        pause: Option<Duration>,
    ) -> Result<Self, Error> {
        let mut names = Vec::new();
        let mut parts = Vec::new();
        for &topic in wanted {
            let name = log.settings.name(topic);
            let metadata = log.ask.metadata(Some(name.clone())).await?;
            let count =
                topics::partitions(&metadata, &name).ok_or_else(|| Error::NoTopic(name.clone()))?;
            names.push((topic, name));
            parts.push(vec![Part::default(); count]);
        }
        // A reader of this process that was dropped may still hold the group's partitions; a broker that does
        // not answer gives them away by itself.
        let _ = tokio::time::timeout(log.settings.timeout, log.left(Some(group))).await;
        let shared = Arc::new(Shared::of(parts));
        let (orders, receiver) = channel();
        let (alive, ended) = watch::channel(());
        log.open.lock().push(Open {
            group: group.to_owned(),
            dropped: Arc::clone(&shared.stop),
            ended,
        });
        let topics = names.iter().map(|(_, name)| name.clone()).collect();
        let worker = Worker::new(
            Arc::clone(log),
            Arc::clone(&shared),
            receiver,
            names,
            Membership {
                group: group.to_owned(),
                pause,
                classic: false,
            },
            start,
        )?;
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new()
            .name(format!(
                "kafka-{}",
                if group.is_empty() { "reader" } else { group }
            ))
            .spawn(move || {
                worker.run(&runtime);
                drop(alive);
            })
            .map_err(|_| Error::Thread("a reader"))?;
        Ok(Self {
            shared,
            orders,
            worker: thread.thread().clone(),
            group: group.to_owned(),
            topics,
            committing: None,
            timeout: log.settings.timeout,
        })
    }

    /// Offsets after what was handed out, and where the log ended when this reader began or last looked;
    /// none until it has begun.
    pub fn stands(&self) -> Option<(u64, u64)> {
        let state = self.shared.state.lock();
        if !state.joined || state.reassigned {
            return None;
        }
        let number = |offset: i64| u64::try_from(offset).unwrap_or(0);
        let (_, _, part) = state.assigned().next()?;
        Some((number(part.handed), number(part.end?)))
    }

    /// Hands the place of each partition to the broker. False where there is none to store.
    fn begin_commit(&mut self) -> Result<bool, LogError> {
        if self.group.is_empty() {
            return Ok(false);
        }
        let (consumer, list) = {
            let state = self.shared.state.lock();
            let Some(consumer) = state.consumer.clone().filter(|_| !state.reassigned) else {
                return Ok(false);
            };
            let mut list = TopicPartitionList::new();
            for (topic, partition, part) in state.assigned().filter(|part| part.2.end.is_some()) {
                list.add_partition_offset(
                    &self.topics[topic],
                    partition,
                    Offset::Offset(part.handed),
                )
                .map_err(Error::broker("committing"))?;
            }
            (consumer, list)
        };
        if list.count() == 0 {
            return Ok(false);
        }
        // With the broker's answer: librdkafka does not tell of the outcome otherwise.
        let commit = tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync));
        self.committing = Some(commit);
        Ok(true)
    }

    /// Whether the commit that was begun is done.
    async fn committed(&mut self, patience: Duration) -> Result<bool, LogError> {
        let Some(commit) = &mut self.committing else {
            return Ok(true);
        };
        let Ok(done) = tokio::time::timeout(patience, commit).await else {
            return Ok(false);
        };
        self.committing = None;
        match done {
            Ok(stored) => Ok(stored.map(|()| true).map_err(Error::broker("committing"))?),
            Err(_) => Err(LogError::Closed),
        }
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Order,
    ) -> Result<(), LogError> {
        let (sender, answer) = oneshot::channel();
        if self.orders.send(order(sender)).is_err() {
            return Err(LogError::Closed);
        }
        self.worker.unpark();
        self.shared.room.notify_all();
        // Twice: an order may ask the brokers more than once.
        match tokio::time::timeout(self.timeout * 2, answer).await {
            Ok(Ok(answered)) => answered.map_err(LogError::Broker),
            Ok(Err(_)) => Err(LogError::Closed),
            Err(_) => Err(LogError::Broker(
                "the Kafka brokers do not answer".to_owned(),
            )),
        }
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<Record>, LogError> {
        let deadline = Instant::now() + wait;
        loop {
            {
                let mut state = self.shared.state.lock();
                let was_full = state.is_full();
                let records = state.take(max);
                if was_full {
                    self.shared.room.notify_all();
                }
                if !records.is_empty() {
                    return Ok(records);
                }
                if state.reassigned {
                    let group = self.group.clone();
                    return Err(LogError::Reassigned { group });
                }
                if let Some(why) = state.fault.clone().or_else(|| state.news_of_trouble()) {
                    return Err(LogError::Broker(why));
                }
            }
            // There is one reader and one worker: news between the look and here are kept.
            let news = self.shared.news.notified();
            if tokio::time::timeout_at(deadline, news).await.is_err() {
                let trouble = self.shared.state.lock().trouble.clone();
                return trouble.map_or(Ok(Vec::new()), |why| Err(LogError::Broker(why)));
            }
        }
    }

    async fn commit(&mut self) -> Result<(), LogError> {
        // One that is under way stores less than what is to be stored now.
        let before = self.committed(self.timeout).await?;
        if before && (!self.begin_commit()? || self.committed(self.timeout).await?) {
            return Ok(());
        }
        Err(LogError::Broker(
            "the Kafka brokers do not take the commit".to_owned(),
        ))
    }

    async fn commit_within(&mut self, patience: Duration) -> Result<bool, LogError> {
        if self.committing.is_none() && !self.begin_commit()? {
            return Ok(true);
        }
        self.committed(patience).await
    }

    async fn seek(&mut self, start: &Start) -> Result<(), LogError> {
        self.order(|answer| Order::Seek(start.clone(), answer))
            .await
    }

    async fn look_at_end(&mut self) -> Result<(), LogError> {
        self.order(Order::Look).await
    }

    fn lag(&self) -> Lag {
        Lag::Records(self.shared.state.lock().lag())
    }

    fn dealt(&self) -> Dealt {
        let state = self.shared.state.lock();
        let number = |partition: i32| u16::try_from(partition).ok().map(Partition);
        let of = state.parts.first().map_or(0, Vec::len);
        Dealt::Partitions {
            mine: state
                .assigned()
                .filter(|(topic, _, _)| *topic == 0)
                .filter_map(|(_, partition, _)| number(partition))
                .collect(),
            of: u16::try_from(of).unwrap_or(u16::MAX),
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.room.notify_all();
        self.worker.unpark();
    }
}

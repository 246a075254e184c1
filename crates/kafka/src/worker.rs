//! The thread behind a reader: polls librdkafka, turns messages into records, follows the deals of the
//! group, and does what the reader orders.
//!
//! Offsets are always explicit: an offset that the log does not have is an error, never a jump. After
//! the first deal of partitions the reader's own start is taken; after any later one nothing is handed
//! out until the reader seeks, since what it knows of its sink may be old.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use journal::{HighWater, Start};
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use schemas::Topic;
use tokio::runtime::Handle;

use crate::Error;
use crate::ahead::{Order, Part, Place, Shared};
use crate::desk::{Desk, Taken};
use crate::log::Inner;
use crate::member::{Calls, Membership, consumer};

mod places;

/// Messages taken between two looks at everything else.
const BURST: usize = 1_000;
/// A sleep between looks: messages and orders end it.
const NAP: Duration = Duration::from_millis(50);
/// How long a reader that takes nothing is waited for before fetching is paused.
const HOLD: Duration = Duration::from_millis(500);
/// How often the ends of the partitions are asked for: while there is more to read, and at rest.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_SOON: Duration = Duration::from_millis(100);
/// Until a message that could not be dealt with is tried again.
const RETRY: Duration = Duration::from_secs(1);

pub struct Worker {
    log: Arc<Inner>,
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    topics: Vec<(Topic, String)>,
    membership: Membership,
    consumer: Arc<BaseConsumer<Calls>>,
    /// Until partitions are dealt for the first time.
    start: Option<Start>,
    /// Nothing is handed out until a seek.
    halted: bool,
    paused: bool,
    known: HighWater,
    /// Per topic and partition: messages before are not wanted.
    floors: Vec<Vec<i64>>,
    /// Partitions whose next message has to wait, and until when.
    parked: Vec<(Place, Instant)>,
    chunk: BytesMut,
    /// The last schema: its id and fingerprint.
    memo: Option<(u32, u64)>,
    looked: Instant,
}

impl Worker {
    pub fn new(
        log: Arc<Inner>,
        shared: Arc<Shared>,
        orders: Receiver<Order>,
        topics: Vec<(Topic, String)>,
        membership: Membership,
        start: Start,
    ) -> Result<Self, Error> {
        let state = shared.state.lock();
        let floors = state
            .parts
            .iter()
            .map(|parts| vec![0; parts.len()])
            .collect();
        drop(state);
        Ok(Self {
            consumer: Arc::new(consumer(&log.settings, &membership)?),
            log,
            shared,
            orders,
            topics,
            membership,
            start: Some(start),
            halted: false,
            paused: false,
            known: HighWater::default(),
            floors,
            parked: Vec::new(),
            chunk: BytesMut::new(),
            memo: None,
            looked: Instant::now(),
        })
    }

    pub fn run(mut self, runtime: &Handle) {
        self.join();
        while !self.shared.stop.load(Ordering::Acquire) {
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order);
            }
            if self.consumer.context().dealt.swap(false, Ordering::AcqRel) {
                self.dealt();
            }
            if self.start.is_some() && self.has_partitions() {
                self.begin();
            }
            self.hold_back();
            self.unpark_partitions();
            let count = self.take_burst(runtime);
            self.look_at_ends();
            if count == 0 {
                std::thread::park_timeout(NAP);
            }
        }
        // Closing the consumer leaves the group; a commit under way closes it when it is done.
        self.shared.state.lock().consumer = None;
    }

    fn join(&mut self) {
        let worker = std::thread::current();
        if let Some(consumer) = Arc::get_mut(&mut self.consumer) {
            consumer.set_nonempty_callback(move || worker.unpark());
        }
        self.shared.state.lock().consumer = Some(Arc::clone(&self.consumer));
        let joined = if self.membership.group.is_empty() {
            // All partitions, for oneself.
            let mut state = self.shared.state.lock();
            for part in state.parts.iter_mut().flatten() {
                part.assigned = true;
            }
            Ok(())
        } else {
            let names: Vec<_> = self.topics.iter().map(|(_, name)| name.as_str()).collect();
            self.consumer.subscribe(&names)
        };
        if let Err(error) = joined {
            self.trouble(format!("the topics cannot be subscribed to: {error}"));
        }
    }

    fn has_partitions(&self) -> bool {
        self.shared.state.lock().assigned().next().is_some()
    }

    /// What was dealt, by index of the topic and partition.
    fn places(&self) -> Vec<(usize, i32)> {
        let state = self.shared.state.lock();
        let all = state.assigned();
        all.map(|(topic, partition, _)| (topic, partition))
            .collect()
    }

    /// The group's partitions were dealt.
    fn dealt(&mut self) {
        let mut state = self.shared.state.lock();
        for part in state.parts.iter_mut().flatten() {
            part.assigned = false;
        }
        if let Ok(list) = self.consumer.assignment() {
            for element in list.elements() {
                if let Some(topic) = index_of(&self.topics, element.topic())
                    && let Some(part) = state.part(topic, element.partition())
                {
                    part.assigned = true;
                }
            }
        }
        state.joined = true;
        self.parked.clear();
        if self.start.is_none() {
            state.clear();
            state.reassigned = true;
            self.halted = true;
            self.log.reassigned.fetch_add(1, Ordering::Relaxed);
            drop(state);
            if let Ok(list) = self.consumer.assignment() {
                // What still comes is dropped.
                let _ = self.consumer.pause(&list);
            }
        } else {
            drop(state);
        }
        self.shared.news.notify_one();
    }

    /// A reader that takes nothing stops the fetching, and not the group.
    fn hold_back(&mut self) {
        let mut state = self.shared.state.lock();
        if !self.paused {
            if state.is_full() {
                self.shared.room.wait_for(&mut state, HOLD);
            }
            if !state.is_full() {
                return;
            }
        }
        let pause = state.is_full();
        drop(state);
        if pause == self.paused || self.halted {
            return;
        }
        if let Ok(list) = self.consumer.assignment() {
            let done = if pause {
                self.consumer.pause(&list)
            } else {
                self.consumer.resume(&list)
            };
            if done.is_ok() {
                self.paused = pause;
            }
        }
    }

    /// Tries what had to wait once more.
    fn unpark_partitions(&mut self) {
        let now = Instant::now();
        let due: Vec<Place> = self
            .parked
            .extract_if(.., |(_, at)| *at <= now)
            .map(|(place, _)| place)
            .collect();
        if !due.is_empty()
            && !self.paused
            && let Ok(list) = self.list(due.iter().map(|&(t, p, o)| (t, p, Offset::Offset(o))))
        {
            // A partition that was dealt to another meanwhile needs none of this.
            let _ = self.consumer.resume(&list);
        }
    }

    fn take_burst(&mut self, runtime: &Handle) -> usize {
        let (mut items, mut later) = (Vec::new(), None);
        let mut count = 0;
        while count < BURST {
            // The message borrows the consumer, which nothing below changes.
            let (taken, place) = {
                let Some(polled) = self.consumer.poll(Duration::ZERO) else {
                    break;
                };
                count += 1;
                match polled {
                    Ok(message) => {
                        let Some(topic) = index_of(&self.topics, message.topic()) else {
                            continue;
                        };
                        let place = (topic, message.partition(), message.offset());
                        let mut desk = Desk {
                            log: &self.log,
                            group: &self.membership.group,
                            topic: self.topics[topic].0,
                            known: &self.known,
                            chunk: &mut self.chunk,
                            memo: &mut self.memo,
                            runtime,
                        };
                        let floor = floor(&mut self.floors, topic, message.partition());
                        let taken = match floor {
                            Some(floor) if !self.halted && message.offset() >= *floor => {
                                *floor = message.offset() + 1;
                                desk.take(&message, place)
                            }
                            _ => Taken::Stale,
                        };
                        (taken, place)
                    }
                    Err(error) => {
                        self.failed(&error);
                        break;
                    }
                }
            };
            match taken {
                Taken::Item(item) => items.push(item),
                Taken::Stale => {}
                Taken::Later(why) => {
                    later = Some((place, why));
                    break;
                }
            }
            // A deal takes effect with what was polled before it.
            if self.consumer.context().dealt.load(Ordering::Acquire) {
                break;
            }
        }
        if !items.is_empty() {
            let mut state = self.shared.state.lock();
            for item in items {
                state.push(item);
            }
            if self.parked.is_empty() {
                state.well();
            }
            drop(state);
            self.shared.news.notify_one();
        }
        // Not before what came ahead of it is there to be read.
        if let Some((place, why)) = later {
            self.later(place, why);
        }
        count
    }

    /// Comes back to a message; only its partition waits.
    fn later(&mut self, place: Place, why: String) {
        let (topic, partition, offset) = place;
        if let Some(floor) = floor(&mut self.floors, topic, partition) {
            *floor = offset;
        }
        let waits = self
            .list(std::iter::once((topic, partition, Offset::Offset(offset))))
            .and_then(|list| {
                self.seek_all(&list)?;
                self.consumer
                    .pause(&list)
                    .map_err(|error| error.to_string())
            });
        if let Err(why) = waits {
            // It would be passed by: the reader has to say where to go on.
            let _ = self.missing(why);
        }
        self.parked.push((place, Instant::now() + RETRY));
        self.trouble(why);
    }

    fn failed(&mut self, error: &KafkaError) {
        match error {
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => {
                let _ = self.missing(format!(
                    "the log does not hold the place to read on from: {error}"
                ));
                self.shared.news.notify_one();
            }
            KafkaError::MessageConsumptionFatal(code) => {
                let too_old = matches!(
                    code,
                    RDKafkaErrorCode::UnsupportedVersion | RDKafkaErrorCode::UnsupportedFeature
                );
                if too_old && !self.membership.classic {
                    tracing::info!(
                        "the brokers do not have the newer protocol of groups: using the classic one"
                    );
                    self.membership.classic = true;
                } else {
                    self.trouble(format!("the consumer is made anew: {error}"));
                    std::thread::park_timeout(RETRY);
                }
                self.anew();
            }
            _ => self.trouble(format!("reading from Kafka: {error}")),
        }
    }

    fn anew(&mut self) {
        match consumer(&self.log.settings, &self.membership) {
            Ok(consumer) => {
                self.shared.state.lock().consumer = None;
                self.consumer = Arc::new(consumer);
                self.join();
            }
            Err(error) => self.trouble(error.to_string()),
        }
    }

    fn trouble(&self, why: String) {
        let why = self.log.settings.heard.because(why);
        self.shared.state.lock().trouble(why);
        self.shared.news.notify_one();
    }

    /// Asks how far the log goes, now and then.
    fn look_at_ends(&mut self) {
        let behind = {
            let state = self.shared.state.lock();
            let behind = |part: Part| part.end.is_none_or(|end| end > part.handed);
            state.assigned().any(|(_, _, part)| behind(part))
        };
        let every = if behind { LOOK } else { LOOK_SOON * 5 };
        if self.looked.elapsed() < every {
            return;
        }
        // The polling tells of brokers that hang up; those that are silent are noticed here.
        if let Err(why) = self.look() {
            self.trouble(format!("asking how far the log goes: {why}"));
        }
    }

    /// Asks how far the log goes. Before the reader has its place there is nothing to ask for.
    fn look(&mut self) -> Result<(), String> {
        if self.halted || self.start.is_some() {
            return Ok(());
        }
        self.looked = Instant::now();
        let places = self.places();
        let ends = self.ask(&places, Offset::End)?;
        let mut state = self.shared.state.lock();
        for ((topic, partition), end) in places.into_iter().zip(ends) {
            if let Some(part) = state.part(topic, partition) {
                part.end = Some(end);
            }
        }
        if self.parked.is_empty() {
            state.well();
        }
        Ok(())
    }
}

fn index_of(topics: &[(Topic, String)], name: &str) -> Option<usize> {
    topics.iter().position(|(_, known)| known == name)
}

fn floor(floors: &mut [Vec<i64>], topic: usize, partition: i32) -> Option<&mut i64> {
    let partition = usize::try_from(partition).ok()?;
    floors.get_mut(topic)?.get_mut(partition)
}

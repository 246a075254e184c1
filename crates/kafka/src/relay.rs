//! From the local journal to the broker: in the journal's order, with the journal's identities.
//!
//! The journal is the queue. A record leaves it (its position moves, so that the segment may be trimmed)
//! when it and all before it are acknowledged by all in-sync replicas. After any delivery error the
//! producer is thrown away and everything from the first unacknowledged record on is sent again, in
//! order: never a single record, which would arrive behind its successors and be dropped as old.
//!
//! | a crash | costs |
//! | --- | --- |
//! | `relay_before_send` | nothing |
//! | `relay_after_send_before_ack` | the broker has it: it is sent again, and dropped by every reader |
//! | `relay_after_ack_before_commit` | as above, for all since the last commit |

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use journal::fail_point::pass;
use journal::{Journal, Lag, LocalReader, ReadTo, Reader as _, Record, Start};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use schemas::Topic;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle as Task;

use crate::context::Heard;
use crate::registry::Ids;
use crate::topics::MESSAGE_BYTES_MAX;
use crate::window::Window;
use crate::{Error, Settings, framing};

/// What is brought to the broker. Marks of streams in progress serve only the restart of this process.
const TOPICS: [Topic; 3] = [Topic::Requests, Topic::Usage, Topic::Audit];
/// The consumer group in the journal.
pub const GROUP: &str = "relay";
/// Records, and bytes of them, that may be unacknowledged.
const WINDOW: usize = 1 << 15;
const WINDOW_BYTES: usize = 64 << 20;
/// Records read at once.
const READ: usize = 2_000;
/// Two syncs a commit, each of which holds up the syncs of events on the same disk.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);
/// Between attempts after an error.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// For metrics and readiness.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayStatus {
    /// Bytes of records in the journal that were not sent yet.
    pub waiting_bytes: u64,
    /// Records sent and not acknowledged.
    pub in_flight: u64,
    /// How long the oldest unacknowledged record has been in the relay's hands.
    pub oldest_unacked: Option<Duration>,
    /// Since the start of the process. Records that were sent again count again.
    pub sent: u64,
    pub acknowledged: u64,
    /// How often the producer was made anew after an error.
    pub resumes: u64,
    /// What stands in the way, until something is acknowledged again.
    pub trouble: Option<String>,
}

/// What a drained relay leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Everything in the journal is acknowledged, and the journal knows.
    pub complete: bool,
}

/// The relay of one journal, on a thread of its own.
pub struct Relay {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    ended: Option<oneshot::Receiver<Drained>>,
}

struct Shared {
    heard: Arc<Heard>,
    status: Mutex<(RelayStatus, Option<Instant>)>,
    /// Set by `drain`; the deadline is for what is left.
    drain: Mutex<Option<Instant>>,
    abandoned: AtomicBool,
    told: Notify,
}

impl Relay {
    /// Starts to relay from where the journal's group `relay` stands.
    ///
    /// # Errors
    /// The settings are refused by librdkafka, or the journal's position cannot be read. A broker that
    /// does not answer is no error: it is waited for.
    pub fn start(settings: Settings, journal: &Journal) -> Result<Self, Error> {
        let reader = journal
            .local_reader(GROUP, &TOPICS, &Start::Committed)?
            .linger(Duration::from_millis(2));
        let ids = Ids::new(&settings)?;
        // Refused settings are told at once, and not in a loop.
        let made = producer(&settings)?;
        let shared = Arc::new(Shared {
            heard: Arc::clone(&settings.heard),
            status: Mutex::default(),
            drain: Mutex::default(),
            abandoned: AtomicBool::new(false),
            told: Notify::new(),
        });
        let (sender, ended) = oneshot::channel();
        let line = Line {
            names: Names::new(&settings),
            made: Some(made),
            settings,
            ids,
            journal: journal.clone(),
            reader,
            shared: Arc::clone(&shared),
            held: VecDeque::new(),
            held_bytes: 0,
            first: 0,
            sent: 0,
            batches: VecDeque::new(),
            done: None,
            committing: None,
            committed: Instant::now(),
            looked_at_end: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|_| Error::Thread("the relay"))?;
        let thread = std::thread::Builder::new()
            .name("kafka-relay".to_owned())
            .spawn(move || {
                let drained = runtime.block_on(line.run());
                // Nobody may be waiting.
                let _ = sender.send(drained);
            })
            .map_err(|_| Error::Thread("the relay"))?;
        Ok(Self {
            shared,
            thread: Some(thread),
            ended: Some(ended),
        })
    }

    /// How it goes.
    #[must_use]
    pub fn status(&self) -> RelayStatus {
        let (mut status, since) = self.shared.status.lock().clone();
        status.oldest_unacked = since.map(|since| since.elapsed());
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            status.trouble = Some("the relay has stopped: see the log, and restart".to_owned());
        }
        // A producer that gets no connection goes on trying, and says why aside.
        status.trouble = status.trouble.or_else(|| self.shared.heard.reason());
        status
    }

    /// Brings everything that is in the journal to the broker, commits, and ends; gives up after
    /// `deadline`. Whatever is left is sent by the next start.
    pub async fn drain(mut self, deadline: Duration) -> Drained {
        *self.shared.drain.lock() = Some(Instant::now() + deadline);
        self.shared.told.notify_one();
        match self.ended.take() {
            Some(ended) => ended.await.unwrap_or(Drained { complete: false }),
            None => Drained { complete: false },
        }
    }
}

impl Drop for Relay {
    /// Ends the thread. What is unacknowledged stays in the journal.
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Release);
        self.shared.told.notify_one();
        if let Some(thread) = self.thread.take() {
            // It panicked: the journal has everything.
            let _ = thread.join();
        }
    }
}

struct Acks {
    window: Arc<Window>,
    heard: Arc<Heard>,
}

impl ClientContext for Acks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.heard.said(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.failed(&error, reason);
    }
    fn stats(&self, _: Statistics) {}
}

impl ProducerContext for Acks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) => {
                pass("relay_after_send_before_ack");
                self.window.acknowledge(number as u64);
            }
            Err((error, _)) => self.window.fail(error.to_string()),
        }
    }
}

type Sending = (ThreadedProducer<Acks>, Arc<Window>);
/// A position on its way to the disk.
type Storing = Task<Result<(), journal::Error>>;

fn producer(settings: &Settings) -> Result<Sending, Error> {
    let window = Arc::new(Window::new(WINDOW));
    let config = settings.client(
        &[
            ("linger.ms", "5"),
            ("batch.size", "1000000"),
            ("batch.num.messages", "10000"),
            ("compression.type", "lz4"),
        ],
        &[
            ("enable.idempotence", "true"),
            // The journal is the queue: nothing expires in the client, which would tear a hole.
            ("message.timeout.ms", "0"),
            ("retries", "2147483647"),
            ("queue.buffering.max.messages", "100000"),
            ("message.max.bytes", MESSAGE_BYTES_MAX),
        ],
    );
    let producer = config
        .create_with_context(Acks {
            window: Arc::clone(&window),
            heard: Arc::clone(&settings.heard),
        })
        .map_err(Error::client)?;
    Ok((producer, window))
}

/// What was read together.
struct Batch {
    /// Number after its last record.
    end: u64,
    to: ReadTo,
    since: Instant,
}

/// Names on the broker, made once.
struct Names([(Topic, String); TOPICS.len()]);

impl Names {
    fn new(settings: &Settings) -> Self {
        Self(TOPICS.map(|topic| (topic, settings.name(topic))))
    }

    /// Nothing else is read from the journal.
    fn of(&self, topic: Topic) -> &str {
        let known = self.0.iter().find(|(known, _)| *known == topic);
        known.map_or("", |(_, name)| name)
    }
}

struct Line {
    names: Names,
    /// The first producer.
    made: Option<Sending>,
    settings: Settings,
    ids: Ids,
    journal: Journal,
    reader: LocalReader,
    shared: Arc<Shared>,
    /// Unacknowledged records; the front is number `first`.
    held: VecDeque<Record>,
    held_bytes: usize,
    first: u64,
    /// Number of the next record to send.
    sent: u64,
    batches: VecDeque<Batch>,
    /// Everything before is acknowledged, not committed yet.
    done: Option<ReadTo>,
    /// On its way to the disk.
    committing: Option<(ReadTo, Storing)>,
    committed: Instant,
    /// While draining: the last look at the journal found nothing, and its place is committed.
    looked_at_end: bool,
}

impl Line {
    async fn run(mut self) -> Drained {
        let mut pause = PAUSE_MIN;
        let mut synced = false;
        loop {
            let ended = match self.relay(&mut pause, &mut synced).await {
                Ok(drained) => Some(drained),
                Err(why) => {
                    tracing::warn!("the relay to Kafka starts again: {why}");
                    let mut status = self.shared.status.lock();
                    status.0.resumes += 1;
                    status.0.trouble = Some(why);
                    drop(status);
                    self.publish();
                    None
                }
            };
            if let Some(drained) = ended.or_else(|| self.must_end()) {
                return drained;
            }
            self.sent = self.first;
            // A call to end wakes it.
            let _ = tokio::time::timeout(pause, self.shared.told.notified()).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Whether to give up what is left.
    fn must_end(&self) -> Option<Drained> {
        let late = self
            .shared
            .drain
            .lock()
            .is_some_and(|at| at <= Instant::now());
        (late || self.shared.abandoned.load(Ordering::Acquire))
            .then_some(Drained { complete: false })
    }

    /// Relays with one producer until it fails (the reason), or until the end.
    async fn relay(&mut self, pause: &mut Duration, synced: &mut bool) -> Result<Drained, String> {
        self.ids.ready().await.map_err(|error| error.to_string())?;
        let made = self
            .made
            .take()
            .map_or_else(|| producer(&self.settings), Ok);
        let (producer, window) = made.map_err(|error| error.to_string())?;
        let producer = Closing(Some(producer));
        loop {
            let acknowledged = window.take_prefix(self.first, self.sent);
            if acknowledged > 0 {
                *pause = PAUSE_MIN;
                self.acknowledged(acknowledged);
            }
            if let Some(why) = window.failure() {
                return Err(why);
            }
            let draining = self.shared.drain.lock().is_some();
            if draining && !*synced {
                // Readers see what is durable; what was appended last has to be.
                let journal = self.journal.clone();
                let done = tokio::task::spawn_blocking(move || journal.sync()).await;
                done.map_err(|error| error.to_string())?
                    .map_err(|error| error.to_string())?;
                *synced = true;
            }
            let at_end = draining && self.held.is_empty() && self.done.is_some();
            self.commit(draining).await?;
            self.looked_at_end = at_end;
            self.publish();
            let clear = self.held.is_empty() && matches!(self.reader.lag(), Lag::Bytes(0));
            if draining && clear && self.looked_at_end {
                return Ok(Drained { complete: true });
            }
            if let Some(drained) = self.must_end() {
                return Ok(drained);
            }
            let read = self.read(&window).await?;
            self.send(&producer)?;
            if !read && self.held.is_empty() {
                // What was passed over belongs to other topics.
                self.done = Some(self.reader.read_to());
            }
        }
    }

    /// Waits for news of any kind, a moment at most. Says whether records came.
    async fn read(&mut self, window: &Window) -> Result<bool, String> {
        let room = WINDOW.saturating_sub(self.held.len()).min(READ);
        let acks = window.news.notified();
        let told = self.shared.told.notified();
        if room == 0 || self.held_bytes >= WINDOW_BYTES {
            tokio::select! {
                () = acks => {}
                () = told => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            return Ok(false);
        }
        let read = tokio::select! {
            biased;
            read = self.reader.next(room, LOOK) => read.map_err(|error| error.to_string())?,
            () = acks => Vec::new(),
            () = told => Vec::new(),
        };
        if read.is_empty() {
            return Ok(false);
        }
        self.held_bytes += read.iter().map(|record| record.body.len()).sum::<usize>();
        self.held.extend(read);
        self.batches.push_back(Batch {
            end: self.first + self.held.len() as u64,
            to: self.reader.read_to(),
            since: Instant::now(),
        });
        Ok(true)
    }

    /// Hands everything that is held and was not sent by this producer to it.
    fn send(&mut self, producer: &Closing) -> Result<(), String> {
        let Some(producer) = &producer.0 else {
            return Ok(());
        };
        let from = self.sent;
        let mut message = Vec::with_capacity(1 << 10);
        // The difference is at most the window.
        for record in self.held.iter().skip((self.sent - self.first) as usize) {
            pass("relay_before_send");
            let id = framing::fingerprint_of(&record.body)
                .and_then(|fingerprint| self.ids.id(fingerprint))
                .ok_or_else(|| {
                    format!(
                        "record {} was written with a schema that this version does not know: start a \
                         newer one",
                        record.identity
                    )
                })?;
            message.clear();
            framing::encode(&record.identity, &record.body, id, &mut message);
            let header = framing::header(&record.identity);
            let name = self.names.of(record.topic);
            let (partition, count) = (
                record.identity.partition.0,
                self.settings.partitions_of(record.topic),
            );
            if partition >= count {
                return Err(format!(
                    "the journal has an event of partition {partition}, and {name} has {count} partitions: set \
                     kafka.partitions to what it was when the event was written"
                ));
            }
            // Numbers are below 2⁶³ in any life of a process.
            let sent = producer.send(
                BaseRecord::<(), Vec<u8>, usize>::with_opaque_to(name, self.sent as usize)
                    .partition(i32::from(record.identity.partition.0))
                    .payload(&message)
                    .headers(OwnedHeaders::new_with_capacity(1).insert(Header {
                        key: framing::HEADER,
                        value: Some(&header),
                    })),
            );
            match sent {
                Ok(()) => self.sent += 1,
                // Goes on when some are acknowledged.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => break,
                Err((error, _)) => return Err(format!("{name}: {error}")),
            }
        }
        let count = self.sent - from;
        self.shared.status.lock().0.sent += count;
        Ok(())
    }

    fn acknowledged(&mut self, count: u64) {
        for record in self.held.drain(..count as usize) {
            self.held_bytes -= record.body.len();
        }
        self.first += count;
        pass("relay_after_ack_before_commit");
        while let Some(batch) = self.batches.front()
            && batch.end <= self.first
        {
            self.done = Some(batch.to);
            self.batches.pop_front();
        }
        self.shared.heard.well();
        let mut status = self.shared.status.lock();
        status.0.acknowledged += count;
        status.0.trouble = None;
    }

    /// Stores how far everything is acknowledged, now and then. Records go on meanwhile, since the syncs of a
    /// busy disk take longer than many of them; only an end waits.
    async fn commit(&mut self, ending: bool) -> Result<(), String> {
        let due = ending || self.committed.elapsed() >= COMMIT_EVERY;
        if !due || !self.is_stored(ending).await? {
            return Ok(());
        }
        let Some(done) = self.done.take() else {
            return Ok(());
        };
        self.committed = Instant::now();
        self.committing = self.reader.store_to(done).map(|storing| (done, storing));
        if ending {
            self.is_stored(true).await?;
        }
        Ok(())
    }

    /// Whether no position is on its way to the disk, or no longer.
    async fn is_stored(&mut self, wait: bool) -> Result<bool, String> {
        let Some((to, storing)) = self.committing.take() else {
            return Ok(true);
        };
        if !wait && !storing.is_finished() {
            self.committing = Some((to, storing));
            return Ok(false);
        }
        let stored = storing.await.map_err(|error| error.to_string())?;
        stored.map_err(|error| error.to_string())?;
        self.reader.stored_to(to);
        Ok(true)
    }

    fn publish(&self) {
        let mut status = self.shared.status.lock();
        status.0.waiting_bytes = match self.reader.lag() {
            Lag::Bytes(bytes) | Lag::Records(bytes) => bytes,
        };
        status.0.in_flight = self.held.len() as u64;
        status.1 = self.batches.front().map(|batch| batch.since);
    }
}

/// A producer that is closed on the side: that takes half a second where a broker does not answer.
struct Closing(Option<ThreadedProducer<Acks>>);

impl Drop for Closing {
    fn drop(&mut self) {
        let producer = self.0.take();
        std::thread::spawn(move || drop(producer));
    }
}

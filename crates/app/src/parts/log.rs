//! The log: the local journal and small logs beside it, or Kafka. Who only reads sees no difference.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use config::{JournalConfig, SyncMode};
use ingress::follow::Snapshot;
use journal::{EventLog, Follower, Journal, Options, Sync};
use kafka::Relay;
use tokio::task::JoinHandle;

use crate::settings::Settings;

/// Partitions of each topic of the journal without a broker: fixed, since a replay must land where the
/// first delivery did.
const PARTITIONS: u16 = 64;

/// How long leaving the broker's groups may take.
const LEAVE: Duration = Duration::from_secs(5);

/// What a process appends to and reads from, by use.
pub struct Log {
    /// Calls and their usage: what lanes read.
    pub events: Arc<dyn EventLog>,
    /// Keys, teams, users; never trimmed.
    pub config: Arc<dyn EventLog>,
    /// Prices; never trimmed.
    pub catalog: Arc<dyn EventLog>,
    /// Events that could not be processed.
    pub dead_letters: Arc<dyn EventLog>,
    /// Where lanes tell what they have brought; none where the log is another process's.
    pub audit: Option<Arc<dyn EventLog>>,
    snapshots: PathBuf,
    /// Names the log in snapshots.
    origin: String,
    broker: Option<kafka::Log>,
}

/// How the brokers are spoken to.
pub fn broker(kafka: &config::Kafka) -> kafka::Settings {
    let mut settings = kafka::Settings::new(kafka.bootstrap_servers.as_str());
    let property =
        |(name, value): &(String, config::Secret)| (name.clone(), value.expose().to_owned());
    settings.properties = kafka.properties.iter().map(property).collect();
    settings.topic_prefix.clone_from(&kafka.topic_prefix);
    settings.partitions = kafka.partitions;
    settings.replication_factor = kafka.replication_factor;
    settings
        .schema_registry_url
        .clone_from(&kafka.schema_registry_url);
    settings
}

/// Makes the topics that are missing, now or when the brokers can be reached. The task ends when they are
/// there.
pub async fn make_topics(kafka: &config::Kafka) -> Result<Option<JoinHandle<()>>> {
    let settings = broker(kafka);
    match kafka::topics::create(&settings).await {
        Ok(report) => {
            if !report.made.is_empty() {
                tracing::info!("topics made: {}", report.made.join(", "));
            }
            Ok(None)
        }
        Err(error @ kafka::Error::Broker { .. }) => {
            tracing::warn!("the topics are made when the brokers can be reached: {error}");
            Ok(Some(tokio::spawn(async move {
                while kafka::topics::create(&settings).await.is_err() {
                    tokio::time::sleep(AGAIN).await;
                }
            })))
        }
        Err(error) => Err(error).context("tollgate.kafka"),
    }
}

const AGAIN: Duration = Duration::from_secs(2);
/// With a broker the journal is a queue: what is acknowledged is kept for a look, not for a rebuild.
const RETENTION_BEHIND_BROKER: Duration = Duration::from_secs(86_400);

/// How many partitions calls are spread over.
pub fn partitions(settings: &Settings) -> u16 {
    let kafka = settings.config.kafka.as_ref();
    kafka.map_or(PARTITIONS, |kafka| kafka.partitions)
}

/// The journal of calls: the log itself, or what the relay reads. Locked: a second process is refused by
/// name.
pub fn journal(settings: &Settings) -> Result<Journal> {
    let options = options(settings)?;
    let (journal, recovery) = Journal::open(&settings.data_dir.join("journal"), options)?;
    if recovery.cut_bytes > 0 {
        tracing::warn!(
            bytes = recovery.cut_bytes,
            "the journal ended in a torn record, which was never acknowledged: cut"
        );
    }
    // With a broker the relay reads the journal, without one the lanes do. Who read it as it was configured
    // before would hold its segments for ever.
    let lanes = billing_consumer::Settings::default();
    let former = match settings.config.kafka {
        Some(_) => vec![lanes.budget_group, lanes.store_group],
        None => vec![kafka::RELAY_GROUP.to_owned()],
    };
    for group in former {
        journal.forget(&group)?;
    }
    Ok(journal)
}

impl Log {
    /// For the process that has the journal.
    pub fn of_ingress(settings: &Settings, journal: &Journal) -> Result<Self> {
        let dir = &settings.data_dir;
        if let Some(kafka) = &settings.config.kafka {
            return Self::on_broker(kafka, dir.join("snapshots"));
        }
        let (config, _) = Journal::open(&dir.join("config"), small_log())?;
        let origin = format!("journal {:016x}", config.source_id().0);
        Ok(Self {
            events: Arc::new(journal.clone()),
            config: Arc::new(config),
            catalog: Arc::new(catalog(dir)?),
            dead_letters: dead_letters(dir, "dlq")?,
            audit: Some(Arc::new(journal.clone())),
            snapshots: dir.join("snapshots"),
            origin,
            broker: None,
        })
    }

    /// For one that reads what an ingress beside it writes.
    pub fn of_billing(settings: &Settings) -> Result<Self> {
        let dir = &settings.data_dir;
        if let Some(kafka) = &settings.config.kafka {
            return Self::on_broker(kafka, dir.join("snapshots-billing"));
        }
        Ok(Self {
            events: Arc::new(Follower::new(&dir.join("journal"))),
            config: Arc::new(Follower::new(&dir.join("config"))),
            catalog: Arc::new(Follower::new(&dir.join("catalog"))),
            dead_letters: dead_letters(dir, "dlq-billing")?,
            audit: None,
            snapshots: dir.join("snapshots-billing"),
            origin: "the journal beside".to_owned(),
            broker: None,
        })
    }

    fn on_broker(kafka: &config::Kafka, snapshots: PathBuf) -> Result<Self> {
        let log = kafka::Log::new(broker(kafka)).context("tollgate.kafka")?;
        log.prepare().context("tollgate.kafka")?;
        let shared: Arc<dyn EventLog> = Arc::new(log.clone());
        Ok(Self {
            events: shared.clone(),
            config: shared.clone(),
            catalog: shared.clone(),
            dead_letters: shared.clone(),
            audit: Some(shared),
            snapshots,
            origin: format!("kafka {}", kafka.topic_prefix),
            broker: Some(log),
        })
    }

    /// Brings the journal to the broker, where there is one.
    pub fn relay(&self, journal: &Journal) -> Result<Option<Relay>> {
        let Some(broker) = &self.broker else {
            return Ok(None);
        };
        let relay = Relay::start(broker.settings().clone(), journal).context("tollgate.kafka")?;
        Ok(Some(relay))
    }

    /// Leaves the broker's groups at once, so that others take over. The readers are dropped by then.
    pub async fn close(&self) {
        if let Some(broker) = &self.broker {
            broker.close(LEAVE).await;
        }
    }

    /// The broker, where there is one.
    pub const fn broker(&self) -> Option<&kafka::Log> {
        self.broker.as_ref()
    }

    /// Whether it can be out of reach while this process is well.
    pub const fn is_elsewhere(&self) -> bool {
        self.broker.is_some()
    }

    /// How the lanes of this process read. Budgets that are shared are settled by a group of processes; those
    /// in memory by one that reads everything itself.
    pub fn lanes(&self, shared_budgets: bool) -> billing_consumer::Settings {
        let mut settings = billing_consumer::Settings::default();
        if !shared_budgets && self.is_elsewhere() {
            settings.budget_group.clear();
        }
        settings
    }

    /// Where a follower keeps its copy.
    pub fn snapshot(&self, name: &str) -> Snapshot {
        Snapshot {
            path: self.snapshots.join(name),
            origin: self.origin.clone(),
        }
    }
}

/// The price catalog's own log. An import of a whole price list is one record, and a record fits in a
/// quarter of a segment.
pub fn catalog(data_dir: &Path) -> Result<Journal> {
    let dir = data_dir.join("catalog");
    let options = Options {
        partitions: 1,
        ..Options::default()
    };
    let (journal, _) = Journal::open(&dir, options)
        .with_context(|| format!("cannot open the price catalog in {}", dir.display()))?;
    Ok(journal)
}

fn dead_letters(data_dir: &Path, name: &str) -> Result<Arc<dyn EventLog>> {
    Ok(Arc::new(
        Journal::open(&data_dir.join(name), small_log())?.0,
    ))
}

/// A log of few and small records.
fn small_log() -> Options {
    Options {
        segment_bytes: 1 << 20,
        partitions: 1,
        ..Options::default()
    }
}

fn options(settings: &Settings) -> Result<Options> {
    let journal: &JournalConfig = &settings.config.journal;
    Ok(Options {
        sync: match journal.sync {
            SyncMode::Always => Sync::Always,
            SyncMode::Group => Sync::Group,
            SyncMode::Os => Sync::Os,
        },
        segment_bytes: journal
            .segment_bytes
            .try_into()
            .context("tollgate.journal.segment_bytes")?,
        cap_bytes: journal.cap_bytes,
        retention: Some(if settings.config.kafka.is_some() {
            RETENTION_BEHIND_BROKER
        } else {
            Duration::from_secs(u64::from(journal.retention_days) * 86_400)
        }),
        group_wait: Duration::from_micros(journal.group_wait_us),
        partitions: partitions(settings),
        ..Options::default()
    })
}

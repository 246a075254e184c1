//! The topics of the log: made by an operator's command, checked at every start.
//!
//! An existing topic is never changed. One that would lose or move events is refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use schemas::Topic;

use crate::ask::Ask;
use crate::context::Quiet;
use crate::{Error, Settings};

/// What [`create`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Names of topics that were made.
    pub made: Vec<String>,
    /// Names of those that were there, and are as they should be.
    pub present: Vec<String>,
    /// How many brokers have each record of the topics that were made.
    pub replicas: usize,
}

/// Topics on the broker. Marks of streams in progress stay in the journal.
const TOPICS: [Topic; 7] = [
    Topic::Requests,
    Topic::Usage,
    Topic::Config,
    Topic::Catalog,
    Topic::Cost,
    Topic::Audit,
    Topic::Dlq,
];

const LOOK: Duration = Duration::from_millis(50);
/// How long a broker may take to hear of topics that were just made.
const HEARD: Duration = Duration::from_secs(60);
/// With so many one may be lost, and events go on being taken by two.
pub const REPLICAS: usize = 3;
const DAY_MS: u64 = 24 * 3600 * 1000;
/// A quarter of the journal's default segment, its longest record, and room for the frame.
pub(crate) const MESSAGE_BYTES_MAX: &str = "5242880";
const CLEANUP: &str = "cleanup.policy";
const RETENTION: &str = "retention.ms";

/// Makes the topics that are missing and checks the others.
///
/// # Errors
/// [`Error::Partitions`] and [`Error::TopicSetting`] for a topic that is there and must not be used;
/// [`Error::Broker`] where the brokers refuse, naming the topic.
pub async fn create(settings: &Settings) -> Result<Report, Error> {
    let mut report = Report::default();
    let ask = Ask::new(settings)?.patient();
    let admin = admin(settings)?;
    let metadata = ask.metadata(None).await?;
    // A broker that is named and not there now comes back: topics stay as they were made.
    let named = settings.bootstrap_servers.split(',').count();
    let replicas = settings.replication_factor.map_or_else(
        || metadata.brokers().len().max(named).clamp(1, REPLICAS),
        usize::from,
    );
    report.replicas = replicas;
    let there = |name: &str| metadata.topics().iter().any(|topic| topic.name() == name);
    for topic in TOPICS {
        let name = settings.name(topic);
        if there(&name) {
            report.present.push(name);
        } else if make(settings, &admin, topic, &name, replicas).await? {
            report.made.push(name);
        } else {
            report.present.push(name);
        }
    }
    // A broker hears of new topics a moment after they are made, or a while later where it is busy.
    let deadline = Instant::now() + HEARD.max(settings.timeout);
    loop {
        match checked(settings, &ask, &admin).await {
            Err(Error::NoTopic(_)) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            done => return done.map(|()| report),
        }
    }
}

/// Checks that all topics are there and as they should be.
///
/// # Errors
/// [`Error::NoTopic`], and those of [`create`].
pub async fn verify(settings: &Settings) -> Result<(), Error> {
    checked(settings, &Ask::new(settings)?.patient(), &admin(settings)?).await
}

async fn checked(settings: &Settings, ask: &Ask, admin: &Admin) -> Result<(), Error> {
    let metadata = ask.metadata(None).await?;
    for topic in TOPICS {
        let name = settings.name(topic);
        let found = partitions(&metadata, &name).ok_or_else(|| Error::NoTopic(name.clone()))?;
        let wanted = settings.partitions_of(topic);
        if found != usize::from(wanted) {
            return Err(Error::Partitions {
                topic: name,
                found,
                wanted,
            });
        }
    }
    let names = TOPICS.map(|topic| settings.name(topic));
    let specifiers: Vec<_> = names
        .iter()
        .map(|name| ResourceSpecifier::Topic(name))
        .collect();
    let configs = admin
        .describe_configs(&specifiers, &options(settings))
        .await
        .map_err(settings.broker("reading the settings of the topics"))?;
    for ((topic, name), config) in TOPICS.into_iter().zip(names).zip(configs) {
        let config = config.map_err(|code| Error::Broker {
            doing: format!("reading the settings of {name}"),
            problem: code.to_string(),
        })?;
        check(topic, &name, &config)?;
    }
    Ok(())
}

/// What would lose events is refused. How long they are kept beyond need is the operator's business.
fn check(topic: Topic, name: &str, config: &ConfigResource) -> Result<(), Error> {
    let needed: &[(&'static str, &str)] = match topic {
        Topic::Config => &[(CLEANUP, "compact")],
        Topic::Catalog => &[(CLEANUP, "delete"), (RETENTION, "-1")],
        _ => &[(CLEANUP, "delete")],
    };
    for &(setting, wanted) in needed {
        let found = config
            .get(setting)
            .and_then(|entry| entry.value.clone())
            .unwrap_or_default();
        if found != wanted {
            return Err(Error::TopicSetting {
                topic: name.to_owned(),
                name: setting,
                found,
                wanted: wanted.to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether it was made here: somebody else may have been faster.
async fn make(
    settings: &Settings,
    admin: &Admin,
    topic: Topic,
    name: &str,
    replicas: usize,
) -> Result<bool, Error> {
    let retention = match topic {
        Topic::Config | Topic::Catalog => "-1".to_owned(),
        Topic::Audit | Topic::Dlq => (400 * DAY_MS).to_string(),
        _ => (30 * DAY_MS).to_string(),
    };
    let in_sync = if replicas >= REPLICAS { "2" } else { "1" };
    let mut new = NewTopic::new(
        name,
        i32::from(settings.partitions_of(topic)),
        TopicReplication::Fixed(i32::try_from(replicas).unwrap_or(i32::MAX)),
    )
    .set(RETENTION, &retention)
    .set("min.insync.replicas", in_sync)
    .set("unclean.leader.election.enable", "false")
    .set("message.timestamp.type", "CreateTime")
    .set("max.message.bytes", MESSAGE_BYTES_MAX);
    new = if topic == Topic::Config {
        // The last state of each key is kept for ever; a follower has an hour for every step of it.
        new.set(CLEANUP, "compact")
            .set("min.compaction.lag.ms", "3600000")
    } else {
        new.set(CLEANUP, "delete")
    };
    let made = admin
        .create_topics([&new], &options(settings))
        .await
        .map_err(settings.broker(format!("making the topic {name}")))?;
    match made.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(Error::Broker {
            doing: format!("making the topic {name}"),
            problem: match code {
                RDKafkaErrorCode::InvalidReplicationFactor => format!(
                    "{replicas} brokers are to have each event, and fewer are there. Start them, or set \
                     tollgate.kafka.replication_factor"
                ),
                code => code.to_string(),
            },
        }),
        Some(Ok(_)) | None => Ok(true),
    }
}

/// How many partitions a topic has; none where it does not exist.
pub(crate) fn partitions(metadata: &Metadata, name: &str) -> Option<usize> {
    let topic = metadata
        .topics()
        .iter()
        .find(|topic| topic.name() == name)?;
    (topic.error().is_none() && !topic.partitions().is_empty()).then(|| topic.partitions().len())
}

type Admin = AdminClient<Quiet>;

fn admin(settings: &Settings) -> Result<Admin, Error> {
    settings
        .client(&[], &[])
        .create_with_context(Quiet(Arc::clone(&settings.heard)))
        .map_err(Error::client)
}

fn options(settings: &Settings) -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(settings.timeout))
        .operation_timeout(Some(settings.timeout))
}

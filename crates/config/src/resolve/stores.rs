//! The parts outside of this process: the log, budget state and tables; and how a process leaves them.

use std::time::Duration;

use super::pick::pick;
use crate::settings::{ClickHouse, Config, Drain, Kafka, Redis};
use crate::view::View;

/// A Redis that lives answers within this on a busy machine; longer than that no client is kept.
const REDIS_WAIT: Duration = Duration::from_secs(2);
/// As many as a process can follow with one buffer each.
const PARTITIONS_MAX: u64 = 1024;
/// Properties that decide whether an event can be lost or doubled, or who reads what.
const OURS: &[&str] = &[
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "group.id",
    "message.timeout.ms",
    "metadata.broker.list",
    "request.required.acks",
    "transactional.id",
];

pub(super) fn stores(root: &View<'_>, config: &mut Config) {
    clickhouse(&root.get("tollgate.clickhouse"), &mut config.clickhouse);
    let section = root.get("tollgate.kafka");
    if section.is_set() {
        config.kafka = kafka(&section);
    }
    config.redis = redis(root);
    drain(&root.get("tollgate.drain"), &mut config.drain);
}

fn clickhouse(section: &View<'_>, clickhouse: &mut ClickHouse) {
    clickhouse.url = section.at("url").url();
    clickhouse.user = section.at("user").text();
    clickhouse.password = section.at("password").secret();
    clickhouse.port = section.at("port").port().unwrap_or(clickhouse.port);
    if let Some(database) = name(&section.at("database")) {
        clickhouse.database = database;
    }
    if clickhouse.url.is_none() {
        for key in ["user", "password", "database"] {
            let view = section.at(key);
            if view.is_set() {
                view.warn("has no effect without a server of one's own (tollgate.clickhouse.url)");
            }
        }
    }
}

fn kafka(section: &View<'_>) -> Option<Kafka> {
    let mut properties = Vec::new();
    for (name, view) in section.at("properties").entries() {
        if OURS.contains(&name.as_str()) {
            view.error("is set by Tollgate itself: another value could lose or double events");
        }
        properties.extend(view.secret().map(|value| (name, value)));
    }
    let partitions = section.at("partitions");
    let count = partitions.count().unwrap_or(64);
    if count > PARTITIONS_MAX {
        partitions.error(format!("must be {PARTITIONS_MAX} or less"));
    }
    let replication = section.at("replication_factor").count();
    Some(Kafka {
        bootstrap_servers: section.at("bootstrap_servers").text()?,
        properties,
        topic_prefix: name(&section.at("topic_prefix")).unwrap_or_else(|| "tollgate".to_owned()),
        partitions: u16::try_from(count).unwrap_or(u16::MAX),
        replication_factor: replication.map(|count| u16::try_from(count).unwrap_or(u16::MAX)),
        schema_registry_url: section.at("schema_registry_url").url(),
    })
}

fn redis(root: &View<'_>) -> Option<Redis> {
    let section = root.get("tollgate.redis");
    let Some(url) = pick(root, "tollgate.redis.url") else {
        if section.is_set() {
            section.at("url").error("is required and not set");
        }
        return None;
    };
    let secret = url.secret()?;
    if !["redis://", "rediss://", "redis+unix://", "unix://"]
        .iter()
        .any(|scheme| secret.expose().starts_with(scheme))
    {
        url.error("expected a URL that begins with redis:// or rediss://");
    }
    if secret.expose().ends_with("#insecure") {
        url.error(
            "#insecure is not served: name the certificates that sign the server's in redis.ca",
        );
    }
    let ca = section.at("ca");
    let certificates = ca.secret();
    if certificates
        .as_ref()
        .is_some_and(|pem| !pem.expose().contains("-----BEGIN CERTIFICATE-----"))
    {
        ca.error("expected certificates in PEM, or file/PATH of them");
    }
    section.at("wait_ms").at_most(super::WAIT_MS_MAX);
    let wait = section.at("wait_ms").count();
    Some(Redis {
        url: secret,
        prefix: name(&section.at("prefix")).unwrap_or_else(|| "tollgate".to_owned()),
        wait: wait.map_or(REDIS_WAIT, Duration::from_millis),
        ca: certificates,
    })
}

fn drain(section: &View<'_>, drain: &mut Drain) {
    drain.lame_duck = section
        .at("lame_duck_s")
        .seconds()
        .unwrap_or(Duration::ZERO);
    drain.deadline = section.at("deadline_s").seconds().unwrap_or(drain.deadline);
}

/// A word that is safe as part of a topic's name, a key of Redis and a name in SQL.
fn name(view: &View<'_>) -> Option<String> {
    let text = view.text()?;
    let fits = text.len() <= 100
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !fits {
        view.error("use 1 to 100 of a-z A-Z 0-9 - _ .");
    }
    Some(text)
}

//! Where the brokers are and how they are spoken to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use schemas::Topic;

use crate::Error;
use crate::context::Heard;

/// Settings of every client of one cluster.
#[derive(Clone)]
pub struct Settings {
    /// `host:port,…`
    pub bootstrap_servers: String,
    /// Properties of librdkafka, such as those of TLS and SASL. Values may be secrets. What this crate
    /// needs for its promises wins over them.
    pub properties: BTreeMap<String, String>,
    /// Begin of every topic's name, and of consumer groups: `tollgate` makes `tollgate.usage.v1`.
    pub topic_prefix: String,
    /// Partitions of requests, usage, cost: as many as the journal has. Config and catalog have one.
    pub partitions: u16,
    /// None: 3, or as many as there are brokers and as are named.
    pub replication_factor: Option<u16>,
    /// None: the ids of schemas are a fixed map ([`crate::framing`]).
    pub schema_registry_url: Option<String>,
    /// Longest wait for an acknowledgement, and for an answer of a broker. Default 10 s.
    pub timeout: Duration,
    /// What the clients were told by the brokers; shared by all clones.
    pub(crate) heard: Arc<Heard>,
}

impl Settings {
    /// Everything at its default.
    #[must_use]
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            properties: BTreeMap::new(),
            topic_prefix: "tollgate".to_owned(),
            partitions: 64,
            replication_factor: None,
            schema_registry_url: None,
            timeout: Duration::from_secs(10),
            heard: Arc::default(),
        }
    }

    /// A topic's name on the broker.
    #[must_use]
    pub fn name(&self, topic: Topic) -> String {
        let name = topic.name();
        let rest = name.split_once('.').map_or(name, |(_, rest)| rest);
        format!("{}.{rest}", self.topic_prefix)
    }

    /// A consumer group's name on the broker.
    #[must_use]
    pub fn group(&self, group: &str) -> String {
        format!("{}.{group}", self.topic_prefix)
    }

    /// How many partitions a topic has.
    #[must_use]
    pub const fn partitions_of(&self, topic: Topic) -> u16 {
        match topic {
            Topic::Requests | Topic::Progress | Topic::Usage | Topic::Cost => self.partitions,
            // One heartbeat a second and source, and what lanes have counted.
            Topic::Audit => 4,
            Topic::Config | Topic::Catalog => 1,
            Topic::Dlq => 8,
        }
    }

    /// A client with these properties of its own: `defaults` give way to the user's, `fixed` do not.
    pub(crate) fn client(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        self.heard.hide(&self.properties);
        let mut config = ClientConfig::new();
        config.set("client.id", "tollgate");
        // A broker that comes back is found soon: by default a client may wait for ten seconds.
        config.set("reconnect.backoff.max.ms", "1000");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers);
        config
    }

    /// For `map_err`: what was being done, and why the brokers are not to be had where they have said so.
    pub(crate) fn broker(&self, doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Error {
        let heard = Arc::clone(&self.heard);
        move |error| Error::Broker {
            doing: doing.into(),
            problem: heard.because(error.to_string()),
        }
    }
}

impl fmt::Debug for Settings {
    /// Names of properties only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("properties", &self.properties.keys())
            .field("topic_prefix", &self.topic_prefix)
            .field("partitions", &self.partitions)
            .field("replication_factor", &self.replication_factor)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_with_the_prefix() {
        let mut settings = Settings::new("localhost:9092");
        assert_eq!(settings.name(Topic::Usage), "tollgate.usage.v1");
        settings.topic_prefix = "blue".to_owned();
        assert_eq!(settings.name(Topic::Config), "blue.config.v1");
        assert_eq!(settings.group("billing"), "blue.billing");
    }

    #[test]
    fn no_secret_is_shown() {
        let mut settings = Settings::new("localhost:9092");
        let secret = |name: &str| (name.to_owned(), "hunter2".to_owned());
        settings.properties = ["sasl.password", "nonsense"].map(secret).into();
        settings.schema_registry_url = Some("http://me:hunter2@registry".to_owned());
        assert!(!format!("{settings:?}").contains("hunter2"));
        let config = settings.client(&[], &[]);
        let refused = config.create::<rdkafka::producer::BaseProducer>();
        let error = refused.err().map(crate::Error::client).expect("refused");
        assert_eq!(
            error.to_string(),
            "kafka.properties.nonsense: librdkafka does not take it"
        );
    }

    /// The client that is built in speaks TLS and the password mechanisms of SASL.
    #[test]
    fn tls_and_sasl_are_built_in() {
        let mut settings = Settings::new("localhost:9092");
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let property = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            settings.properties = [
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanisms", mechanism),
                ("sasl.username", "me"),
                ("sasl.password", "secret"),
            ]
            .map(property)
            .into();
            let made = settings
                .client(&[], &[])
                .create::<rdkafka::producer::BaseProducer>();
            assert!(made.is_ok(), "{mechanism}: {:?}", made.err());
        }
    }
}

//! What can go wrong with a broker. Messages name the property, topic or address, never a value that
//! may be a secret.

use rdkafka::error::KafkaError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// librdkafka refuses a property. Its value is not shown: it may be a password.
    #[error("kafka.properties.{name}: librdkafka does not take it")]
    Property { name: String },
    /// A client could not be made, for instance because a certificate cannot be read.
    #[error("the Kafka client cannot be made: {0}")]
    Client(String),
    /// The broker did not answer, or not as hoped.
    #[error("{doing}: {problem}")]
    Broker { doing: String, problem: String },
    /// Topics are made by an operator, not on the way.
    #[error("the Kafka topic {0} does not exist: run `tollgate topics create`")]
    NoTopic(String),
    /// A topic's partitions are counted once for all: events would move to other ones.
    #[error(
        "the Kafka topic {topic} has {found} partitions where {wanted} are configured. A topic never \
         grows here: set kafka.partitions to {found}, or choose another kafka.topic_prefix"
    )]
    Partitions {
        topic: String,
        found: usize,
        wanted: u16,
    },
    /// A topic exists with a setting that would lose events.
    #[error("the Kafka topic {topic} has {name}={found} where {wanted} is needed")]
    TopicSetting {
        topic: String,
        name: &'static str,
        found: String,
        wanted: String,
    },
    /// The schema registry did not answer, or not as hoped.
    #[error("the schema registry cannot be asked: {0}")]
    Registry(String),
    /// A thread could not be started.
    #[error("no thread for {0}")]
    Thread(&'static str),
    /// The journal behind a relay.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

impl Error {
    /// For `map_err`: says what was being done.
    pub(crate) fn broker(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        move |error| Self::Broker {
            doing: doing.into(),
            problem: error.to_string(),
        }
    }

    /// For `map_err` where a client is made.
    pub(crate) fn client(error: KafkaError) -> Self {
        match error {
            KafkaError::ClientConfig(_, _, name, _) => Self::Property { name },
            other => Self::Client(other.to_string()),
        }
    }
}

impl From<Error> for journal::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Journal(error) => error,
            other => Self::Broker(other.to_string()),
        }
    }
}

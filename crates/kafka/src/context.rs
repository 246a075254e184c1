//! What librdkafka says, in our log.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

/// A line of librdkafka's log. They name brokers and topics, no passwords.
pub fn said(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(kafka.facility = facility, "{message}");
        }
        // A broker that is away is said once a second by librdkafka; who waits for it says it better.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::debug!(kafka.facility = facility, "{message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::trace!(kafka.facility = facility, "{message}");
        }
    }
}

/// An error of a whole client.
pub fn failed(error: &KafkaError, reason: &str) {
    tracing::debug!("kafka client: {error}: {reason}");
}

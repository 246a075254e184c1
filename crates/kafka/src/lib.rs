//! The log on a Kafka broker: the relay from the local journal, and the backend that consumers read.

//! What librdkafka says: in our log, and as the reason why brokers are not to be had. Never a password.
//!
//! librdkafka tells of a refused password or an unknown certificate only aside; the call that waits for a
//! broker ends with "transport failure", or never. So what was told last is kept beside the settings that all
//! clients of a cluster share, and whoever fails adds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;

/// librdkafka tries again at least this often, and then says it again.
const STANDS: Duration = Duration::from_secs(30);
/// The same words are not logged again within this time.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// Values of properties with these in their names are not shown.
const SECRET: [&str; 4] = ["password", "secret", "pem", "oauthbearer.config"];

/// What the brokers of one cluster, or the way to them, were last said to refuse.
#[derive(Default)]
pub struct Heard(Mutex<State>);

#[derive(Default)]
struct State {
    secrets: Vec<String>,
    last: Option<Word>,
    /// When all brokers that are known were out of reach.
    away: Option<Instant>,
    said: Option<(String, Instant)>,
}

struct Word {
    text: String,
    at: Instant,
    /// Somebody has to mend something: waiting is in vain.
    refused: bool,
}

impl Heard {
    /// Keeps these properties' secrets out of what is said.
    pub fn hide(&self, properties: &BTreeMap<String, String>) {
        let secret = |name: &str| SECRET.iter().any(|word| name.contains(word));
        self.0.lock().secrets = properties
            .iter()
            .filter(|(name, value)| secret(name) && !value.is_empty())
            .map(|(_, value)| value.clone())
            .collect();
    }

    /// Why no broker is to be had, where one has said so lately.
    pub fn reason(&self) -> Option<String> {
        self.word(|word| word.text.clone())
    }

    /// Whether a broker has refused us lately, or we it.
    pub fn is_refusal(&self) -> bool {
        self.word(|word| word.refused).unwrap_or(false)
    }

    /// Whether no broker was to be had lately. One of several that is away is no reason to wait for none.
    pub fn is_away(&self) -> bool {
        let away = self.0.lock().away;
        away.is_some_and(|at| at.elapsed() < STANDS)
    }

    fn word<T>(&self, of: impl FnOnce(&Word) -> T) -> Option<T> {
        let state = self.0.lock();
        let word = state.last.as_ref()?;
        (word.at.elapsed() < STANDS).then(|| of(word))
    }

    /// What failed, with the reason where there is one.
    pub fn because(&self, problem: String) -> String {
        match self.reason() {
            Some(reason) if !problem.contains(&reason) => format!("{problem}: {reason}"),
            _ => problem,
        }
    }

    /// A broker has answered.
    pub fn well(&self) {
        let mut state = self.0.lock();
        (state.last, state.away) = (None, None);
    }

    /// A line of librdkafka's log.
    pub fn said(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let message = || self.0.lock().scrubbed(message);
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(kafka.facility = facility, "{}", message());
            }
            // A broker that is away is said once a second by librdkafka; who waits for it says it better.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::debug!(kafka.facility = facility, "{}", message());
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::trace!(kafka.facility = facility, "{}", message());
            }
        }
    }

    /// An error of a whole client.
    pub fn failed(&self, error: &KafkaError, reason: &str) {
        let mut state = self.0.lock();
        let text = words(&state.scrubbed(reason)).to_owned();
        let now = Instant::now();
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            state.away = Some(now);
        }
        let refused = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
        );
        let away = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::Resolve | RDKafkaErrorCode::BrokerTransportFailure)
        ) && !text.contains("Disconnected");
        if !refused && !away {
            tracing::debug!("kafka client: {error}: {text}");
            return;
        }
        state.last = Some(Word {
            text: text.clone(),
            at: now,
            refused,
        });
        // What is away comes back, and who waits for it tells; a refusal needs somebody.
        let again = |(said, at): &(String, Instant)| *said == text && at.elapsed() < SAID_AGAIN;
        if refused && !state.said.as_ref().is_some_and(again) {
            tracing::error!("the Kafka brokers cannot be used: {text}");
            state.said = Some((text, now));
        }
    }
}

impl State {
    fn scrubbed(&self, text: &str) -> String {
        let hide = |text: String, secret: &String| text.replace(secret, "[redacted]");
        self.secrets.iter().fold(text.to_owned(), hide)
    }
}

/// Without how long it took, which is another time each time.
fn words(reason: &str) -> &str {
    let end = reason.find(" (after ").unwrap_or(reason.len());
    reason[..end].trim()
}

/// For clients that need no more than to be heard.
pub struct Quiet(pub Arc<Heard>);

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.said(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.failed(&error, reason);
    }
    fn stats(&self, _: Statistics) {}
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard() -> Heard {
        let heard = Heard::default();
        let properties = [("sasl.password", "hunter2"), ("sasl.username", "me")];
        let property = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        heard.hide(&properties.map(property).into());
        heard
    }

    #[test]
    fn a_refusal_is_kept_without_times_and_secrets() {
        let heard = heard();
        assert_eq!(heard.because("no answer".to_owned()), "no answer");
        let error = KafkaError::Global(RDKafkaErrorCode::Authentication);
        let reason =
            "sasl_ssl://kafka:9093/1: me may not with hunter2 (after 3ms in state AUTH_REQ)";
        heard.failed(&error, reason);
        assert_eq!(
            heard.because("no answer".to_owned()),
            "no answer: sasl_ssl://kafka:9093/1: me may not with [redacted]"
        );
        heard.well();
        assert_eq!(heard.reason(), None);
    }

    /// Connections end and come again all day long.
    #[test]
    fn a_lost_connection_is_no_reason() {
        let heard = heard();
        let error = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        heard.failed(
            &error,
            "kafka:9092/1: Disconnected (after 600000ms in state UP)",
        );
        assert_eq!(heard.reason(), None);
        heard.failed(
            &error,
            "kafka:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)",
        );
        assert_eq!(
            heard.reason().as_deref(),
            Some("kafka:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused")
        );
    }
}

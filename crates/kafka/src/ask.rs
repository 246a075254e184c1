//! Questions that are put to the brokers again and again: which topics there are, and how far they go.
//!
//! One client for all of them, as long as its log lives: a new one would look for the brokers anew, and take
//! a tenth of a second to close.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer as _};
use schemas::{Partition, Topic};

use crate::context::Quiet;
use crate::{Error, Settings};

/// Words of librdkafka that are read before a question. There are a few a minute while a broker is away.
const WORDS: usize = 64;
/// How long the first answer is waited for before it is looked whether waiting is in vain; then twice as long.
const FIRST: Duration = Duration::from_millis(250);

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Ask {
    settings: Settings,
    /// It produces nothing: of librdkafka's clients this one has the least to it.
    client: Arc<BaseProducer<Quiet>>,
    patient: bool,
}

impl Ask {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// librdkafka refuses a property.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let client = settings
            .client(&[], &[])
            .create_with_context(Quiet(Arc::clone(&settings.heard)))
            .map_err(Error::client)?;
        Ok(Self {
            settings: settings.clone(),
            client: Arc::new(client),
            patient: false,
        })
    }

    /// Waits as long as the settings allow for brokers that are away, since there is nothing else to do.
    pub fn patient(self) -> Self {
        Self {
            patient: true,
            ..self
        }
    }

    /// What the brokers know, of one topic or of all.
    pub async fn metadata(&self, topic: Option<String>) -> Result<Metadata, Error> {
        self.asked(
            "asking the Kafka brokers for their topics".to_owned(),
            move |client, within| client.fetch_metadata(topic.as_deref(), within),
        )
        .await
    }

    /// The offset after the last record of a partition.
    pub async fn end(&self, topic: Topic, partition: Partition) -> Result<u64, Error> {
        let name = self.settings.name(topic);
        let doing = format!("asking for the end of {name}");
        let (_, end) = self
            .asked(doing, move |client, within| {
                client.fetch_watermarks(&name, i32::from(partition.0), within)
            })
            .await?;
        // A broker's offsets are not negative.
        Ok(u64::try_from(end).unwrap_or(0))
    }

    async fn asked<T: Send + 'static>(
        &self,
        doing: String,
        question: impl Fn(&Client<Quiet>, Duration) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        let answer = tokio::task::spawn_blocking(move || this.waited(question))
            .await
            .map_err(|_| Error::Thread("asking the brokers"))?;
        match answer {
            Ok(answer) => {
                self.settings.heard.well();
                Ok(answer)
            }
            Err(error) => Err(self.settings.broker(doing)(error)),
        }
    }

    /// Asks until there is an answer, or no use in waiting for one.
    fn waited<T>(
        &self,
        question: impl Fn(&Client<Quiet>, Duration) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let (began, heard) = (Instant::now(), &self.settings.heard);
        let mut within = FIRST;
        loop {
            let left = self.settings.timeout.saturating_sub(began.elapsed());
            let answer = question(self.client.client(), within.min(left));
            for _ in 0..WORDS {
                self.client.poll(Duration::ZERO);
            }
            // Who can do without an answer is told why there is none.
            let away = !self.patient && heard.is_away();
            if answer.is_ok() || heard.is_refusal() || away || within >= left {
                return answer;
            }
            within *= 2;
        }
    }
}

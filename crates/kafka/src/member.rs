//! A consumer of librdkafka: how it is set up, and how it takes what its group deals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use crate::context::Heard;
use crate::{Error, Settings};

/// librdkafka's calls back, all from within `poll` on the worker's thread.
pub struct Calls {
    pub dealt: AtomicBool,
    heard: Arc<Heard>,
}

impl ClientContext for Calls {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.heard.said(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.failed(&error, reason);
    }
    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Calls {
    /// Takes what is dealt, but fetches nothing of it: the worker says from where.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let cooperative = matches!(
            consumer.rebalance_protocol(),
            RebalanceProtocol::Cooperative
        );
        let done = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let taken = list.set_all_offsets(Offset::Beginning).and_then(|()| {
                if cooperative {
                    consumer.incremental_assign(list)
                } else {
                    consumer.assign(list)
                }
            });
            taken.and_then(|()| consumer.pause(list))
        } else if cooperative {
            consumer.incremental_unassign(list)
        } else {
            consumer.unassign()
        };
        if let Err(error) = done {
            tracing::warn!("partitions that were dealt could not be taken: {error}");
        }
        self.dealt.store(true, Ordering::Release);
    }
}

/// So many bytes do not wait for more.
const GATHERED: &str = "262144";

/// The classic protocol of groups, as near to the newer one as it comes.
const COOPERATIVE: &[(&str, &str)] = &[
    ("group.protocol", "classic"),
    ("partition.assignment.strategy", "cooperative-sticky"),
];

/// As what a consumer reads.
pub struct Membership {
    /// Empty: for nobody.
    pub group: String,
    /// So long a broker may let messages gather, while they are few.
    pub pause: Option<Duration>,
    /// The broker may be too old for the newer protocol of groups.
    pub classic: bool,
}

/// A consumer that joins a group, or reads for nobody.
pub fn consumer(
    settings: &Settings,
    membership: &Membership,
) -> Result<BaseConsumer<Calls>, Error> {
    let group = membership.group.as_str();
    // A client needs a name for a group even where it joins none.
    let name = settings.group(if group.is_empty() { "nobody" } else { group });
    let property = |name| settings.properties.get(name).map(String::as_str);
    let protocol: &[(&str, &str)] = match property("group.protocol") {
        _ if group.is_empty() => &[],
        // Members keep what they have while others come and go.
        Some("classic") if property("partition.assignment.strategy").is_none() => COOPERATIVE,
        Some(_) => &[],
        None if membership.classic => COOPERATIVE,
        None => &[("group.protocol", "consumer")],
    };
    let fixed = [
        ("group.id", name.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        // Never a jump.
        ("auto.offset.reset", "error"),
        ("isolation.level", "read_committed"),
        ("check.crcs", "true"),
    ];
    let fixed = [&fixed[..], protocol].concat();
    // A fetch names every partition, whatever it brings: one for each message is what a broker would spend
    // most of its time on.
    let (least, wait) = match membership.pause {
        Some(pause) => (GATHERED, pause.as_millis().max(1).to_string()),
        None => ("1", "100".to_owned()),
    };
    settings
        .client(
            &[
                ("fetch.min.bytes", least),
                ("fetch.wait.max.ms", &wait),
                ("queued.max.messages.kbytes", "16384"),
            ],
            &fixed,
        )
        .create_with_context(Calls {
            dealt: AtomicBool::new(false),
            heard: Arc::clone(&settings.heard),
        })
        .map_err(Error::client)
}

//! A consumer of librdkafka: how it is set up, and how it takes what its group deals.

use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use crate::{Error, Settings, context};

/// librdkafka's calls back, all from within `poll` on the worker's thread.
#[derive(Default)]
pub struct Calls {
    pub dealt: AtomicBool,
}

impl ClientContext for Calls {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::said(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        context::failed(&error, reason);
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

/// The classic protocol of groups, as near to the newer one as it comes.
const COOPERATIVE: &[(&str, &str)] = &[
    ("group.protocol", "classic"),
    ("partition.assignment.strategy", "cooperative-sticky"),
];

/// A consumer that joins a group, or reads for nobody where the name is empty.
pub fn consumer(
    settings: &Settings,
    group: &str,
    classic: bool,
) -> Result<BaseConsumer<Calls>, Error> {
    // A client needs a name for a group even where it joins none.
    let name = settings.group(if group.is_empty() { "nobody" } else { group });
    let property = |name| settings.properties.get(name).map(String::as_str);
    let protocol: &[(&str, &str)] = match property("group.protocol") {
        _ if group.is_empty() => &[],
        // Members keep what they have while others come and go.
        Some("classic") if property("partition.assignment.strategy").is_none() => COOPERATIVE,
        Some(_) => &[],
        None if classic => COOPERATIVE,
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
    settings
        .client(
            &[
                ("fetch.min.bytes", "1"),
                ("fetch.wait.max.ms", "100"),
                ("queued.max.messages.kbytes", "16384"),
            ],
            &fixed,
        )
        .create_with_context(Calls::default())
        .map_err(Error::client)
}

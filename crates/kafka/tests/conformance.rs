//! The broker keeps every promise of the seam.

use std::cell::Cell;
use std::time::Duration;

use journal::conformance::conformance;
use kafka::{Log, Settings, topics};
use test_servers::Kafka;

#[tokio::test]
async fn a_real_broker() {
    let kafka = Kafka::shared().await;
    let count = Cell::new(0);
    conformance(async || {
        count.set(count.get() + 1);
        let mut settings = Settings::new(kafka.bootstrap());
        settings.topic_prefix = format!("conformance-{}", count.get());
        settings.partitions = 4;
        settings.timeout = Duration::from_secs(20);
        topics::create(&settings).await.expect("topics");
        Log::new(settings).expect("a log")
    })
    .await;
}

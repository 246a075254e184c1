//! Making and checking topics.

use kafka::{Error, topics};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use schemas::Topic;
use test_servers::Kafka;

use crate::world::settings;

#[tokio::test]
async fn topics_are_made_once_and_checked_each_time() {
    let mut settings = settings(Kafka::shared().await, 3);
    let missing = topics::verify(&settings).await;
    assert!(matches!(missing, Err(Error::NoTopic(_))), "{missing:?}");
    let first = topics::create(&settings).await.expect("made");
    assert_eq!((first.made.len(), first.present.len()), (7, 0));
    let second = topics::create(&settings).await.expect("there");
    assert_eq!((second.made.len(), second.present.len()), (0, 7));
    settings.partitions = 4;
    let moved = topics::create(&settings).await;
    let told = moved.expect_err("refused").to_string();
    assert!(
        told.contains("3 partitions where 4 are configured"),
        "{told}"
    );
}

/// A compacted usage topic would forget usage.
#[tokio::test]
async fn a_topic_that_would_lose_events_is_refused() {
    let settings = settings(Kafka::shared().await, 1);
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &settings.bootstrap_servers)
        .create()
        .expect("a client");
    let name = settings.name(Topic::Usage);
    let compacted =
        NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    let made = admin
        .create_topics([&compacted], &AdminOptions::new())
        .await;
    made.expect("answered").remove(0).expect("made");
    let refused = topics::create(&settings).await;
    assert!(
        matches!(
            &refused,
            Err(Error::TopicSetting {
                name: "cleanup.policy",
                ..
            })
        ),
        "{refused:?}"
    );
}

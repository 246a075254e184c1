//! Following a topic of one partition.

use std::time::Duration;

use journal::EventLog as _;
use kafka::Log;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use schemas::{ConfigEntity, ConfigEvent, ConfigOp, Event as _, Micros, Partition, Topic};

use crate::world::{PATIENCE, append, log};

async fn put(log: &Log, id: &str) -> u64 {
    let event = ConfigEvent {
        event_time: Micros(1),
        entity: ConfigEntity::Key,
        id: id.into(),
        op: ConfigOp::Put,
        body: "{}".into(),
        actor: "master".into(),
    };
    let appended = log.append(Topic::Config, Partition(0), event.body().into());
    appended.await.expect("appended").version
}

async fn read_to_the_end(log: &Log, after: u64) -> Vec<u64> {
    let mut following = log.following(Topic::Config, after).await.expect("follows");
    let mut versions = Vec::new();
    while !following.is_caught_up() {
        let records = following.next(10, Duration::from_millis(100)).await;
        versions.extend(
            records
                .expect("readable")
                .iter()
                .map(|record| record.version),
        );
    }
    versions
}

#[tokio::test]
async fn a_follower_knows_when_it_has_caught_up_and_goes_on_from_a_version() {
    let log = log(1).await;
    assert!(read_to_the_end(&log, 0).await.is_empty());
    let mut versions = Vec::new();
    for n in 0..20 {
        versions.push(put(&log, &format!("key{}", n % 3)).await);
    }
    assert_eq!(read_to_the_end(&log, 0).await, versions);
    assert_eq!(read_to_the_end(&log, versions[14]).await, versions[15..]);
    assert!(read_to_the_end(&log, versions[19]).await.is_empty());
    let newest = log.newest(Topic::Config, Partition(0)).await.expect("told");
    assert_eq!(newest, versions.last().copied());
    let mut tail = log
        .following(Topic::Config, versions[19])
        .await
        .expect("follows");
    let (came, version) = tokio::join!(tail.next(10, PATIENCE), put(&log, "late"));
    assert_eq!(came.expect("readable")[0].version, version);
    assert_eq!(tail.version(), version);
}

/// A place that the log does not hold any more is an error that stays, never a jump.
#[tokio::test]
async fn what_was_deleted_unread_is_an_error() {
    let log = log(1).await;
    for n in 0..5 {
        append(&log, 0, &format!("{n}")).await;
    }
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &log.settings().bootstrap_servers)
        .create()
        .expect("a client");
    let mut list = TopicPartitionList::new();
    let name = log.settings().name(Topic::Usage);
    list.add_partition_offset(&name, 0, Offset::Offset(3))
        .expect("a place");
    admin
        .delete_records(&list, &AdminOptions::new())
        .await
        .expect("deleted");
    for place in [1, 9] {
        let mut following = log.following(Topic::Usage, place).await.expect("follows");
        for _ in 0..2 {
            let told = loop {
                match following.next(10, Duration::from_millis(100)).await {
                    Ok(records) => assert!(records.is_empty(), "jumped to {records:?}"),
                    Err(error) => break error.to_string(),
                }
            };
            assert!(told.contains("holds offsets 3 to 5"), "{told}");
        }
    }
    let mut following = log.following(Topic::Usage, 3).await.expect("follows");
    let records = following.next(10, PATIENCE).await.expect("readable");
    assert_eq!(records[0].version, 4);
}

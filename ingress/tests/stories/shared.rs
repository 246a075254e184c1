//! Keys and teams that several gateways share over one log; starts from a snapshot; a log out of reach.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use ingress::directory::{Directory, KeyRecord, Quota};
use ingress::follow::{Follow, Snapshot};
use journal::{Appended, Error, EventLog, Journal, Options, Reader, Start};
use schemas::{
    ConfigEntity, ConfigEvent, ConfigOp, Event, KeyHash, Micros, NanoUsd, Partition, Topic,
};
use serde_json::json;

use crate::provider::plain;
use crate::world::{MASTER, PATIENCE, Shared, World};

/// A log that can be out of reach, as one behind a network.
struct Distant {
    log: Journal,
    away: Arc<AtomicBool>,
}

impl Distant {
    fn open(dir: &Path) -> (Arc<Self>, Arc<AtomicBool>) {
        let away = Arc::new(AtomicBool::new(false));
        let log = Journal::open(dir, Options::default()).unwrap().0;
        let distant = Self {
            log,
            away: away.clone(),
        };
        (Arc::new(distant), away)
    }

    fn reach(&self) -> Result<(), Error> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::Broker("no broker of k1:9092 answers".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl EventLog for Distant {
    async fn append(
        &self,
        topic: Topic,
        partition: Partition,
        body: Bytes,
    ) -> Result<Appended, Error> {
        self.reach()?;
        EventLog::append(&self.log, topic, partition, body).await
    }

    async fn reader(
        &self,
        group: &str,
        topics: &[Topic],
        start: Start,
    ) -> Result<Box<dyn Reader>, Error> {
        self.reach()?;
        EventLog::reader(&self.log, group, topics, start).await
    }

    async fn newest(&self, topic: Topic, partition: Partition) -> Result<Option<u64>, Error> {
        self.reach()?;
        self.log.newest(topic, partition).await
    }
}

fn shared(log: &Arc<Distant>) -> Shared {
    Shared {
        log: Some(log.clone()),
        ..Shared::default()
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn change(world: &World, route: &str, body: serde_json::Value) -> (u16, String) {
    let sent = world
        .http
        .post(world.url(route))
        .bearer_auth(MASTER)
        .json(&body)
        .send()
        .await
        .unwrap();
    (sent.status().as_u16(), sent.text().await.unwrap())
}

/// What a record of the log does not know would be lost in a copy.
fn directory() -> Arc<Directory> {
    Arc::new(Directory::new("UTC".parse().unwrap(), Quota::default()))
}

fn key_event(text: &str, alias: &str) -> Bytes {
    let key = KeyRecord {
        key_name: "sk-...".into(),
        key_alias: Some(alias.into()),
        models: vec!["one".into(), "wild/*".into()],
        quota: Quota::budget(Some(NanoUsd::from_usd(3)), Some(&config::Period::Monthly)),
        created_at: Micros(5),
        ..KeyRecord::default()
    };
    let event = ConfigEvent {
        event_time: Micros(5),
        entity: ConfigEntity::Key,
        id: KeyHash::of(text).to_string().into(),
        op: ConfigOp::Put,
        body: serde_json::to_string(&key).unwrap().into(),
        actor: "master".into(),
    };
    event.body().into()
}

#[tokio::test]
async fn a_key_holds_on_every_gateway_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Distant::open(folder.path());
    let mut worlds = Vec::new();
    for _ in 0..2 {
        worlds.push(World::sharing(|_| {}, Options::default(), shared(&log)).await);
    }
    let [here, there] = &worlds[..] else {
        unreachable!("two were made")
    };
    for _ in 0..3 {
        there.provider.script(plain("up-1"));
    }
    let key = here.key(json!({ "key_alias": "alice" })).await;
    until("the key is known there", async || {
        there.chat(&key, json!({})).await.status == 200
    })
    .await;
    assert_eq!(
        change(there, "/key/block", json!({ "key": key })).await.0,
        200
    );
    assert_eq!(
        there.chat(&key, json!({})).await.status,
        401,
        "in force where it was changed when that is answered"
    );
    until("the key is blocked here", async || {
        here.chat(&key, json!({})).await.status == 401
    })
    .await;
    assert_eq!(
        change(here, "/key/delete", json!({ "keys": [key] }))
            .await
            .0,
        200
    );
    until("the key is gone there", async || {
        there.get(&format!("/key/info?key={key}")).await.status == 404
    })
    .await;
    for world in worlds {
        world.stop().await;
    }
}

#[tokio::test]
async fn a_log_out_of_reach_refuses_changes_and_not_calls() {
    let folder = tempfile::tempdir().unwrap();
    let (log, away) = Distant::open(folder.path());
    let world = World::sharing(|_| {}, Options::default(), shared(&log)).await;
    let key = world.key(json!({})).await;
    away.store(true, Ordering::SeqCst);
    let (status, told) = change(&world, "/key/block", json!({ "key": key })).await;
    assert_eq!(status, 503);
    assert!(told.contains("no broker of k1:9092 answers"), "{told}");
    world.provider.script(plain("up-1"));
    assert_eq!(world.chat(&key, json!({})).await.status, 200);
    until("readiness tells", async || {
        let told = world.get("/health/readiness").await;
        assert_eq!(told.status, 200, "{}", told.text);
        told.text.contains("config as of version 1, ") && told.text.contains("no broker of k1:9092")
    })
    .await;
    away.store(false, Ordering::SeqCst);
    until("changes are taken again", async || {
        change(&world, "/key/block", json!({ "key": key })).await.0 == 200
    })
    .await;
    until("readiness is clean", async || {
        world.get("/health/readiness").await.json()["degraded"] == json!([])
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn without_log_and_snapshot_nobody_is_told_that_a_key_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let (log, away) = Distant::open(folder.path());
    EventLog::append(
        &*log,
        Topic::Config,
        Partition(0),
        key_event("sk-a-key-of-the-log", "alice"),
    )
    .await
    .unwrap();
    away.store(true, Ordering::SeqCst);
    let late = Shared {
        caught_up: false,
        ..shared(&log)
    };
    let world = World::sharing(|_| {}, Options::default(), late).await;
    let told = world.get("/health/readiness").await;
    assert_eq!(told.status, 503);
    assert!(
        told.text.contains("config: not read from the log yet"),
        "{}",
        told.text
    );
    for key in [MASTER, "sk-a-key-of-the-log"] {
        let told = world.chat(key, json!({})).await;
        assert_eq!((told.status, told.header("retry-after")), (503, "1"));
    }
    assert_eq!(world.get("/health/liveliness").await.status, 200);
    away.store(false, Ordering::SeqCst);
    until("it is ready", async || {
        world.get("/health/readiness").await.status == 200
    })
    .await;
    world.provider.script(plain("up-1"));
    let told = world.chat("sk-a-key-of-the-log", json!({})).await;
    assert_eq!(told.status, 200, "{}", told.text);
    world.stop().await;
}

/// Fills a log, follows it, and leaves a snapshot.
async fn kept(folder: &Path, log: &Arc<Distant>) -> Snapshot {
    let snapshot = Snapshot {
        path: folder.join("snapshots").join("config"),
        origin: "a log".to_owned(),
    };
    for n in 0..3 {
        let body = key_event(&format!("sk-key-number-{n}"), &format!("alias-{n}"));
        EventLog::append(&**log, Topic::Config, Partition(0), body)
            .await
            .unwrap();
    }
    let follow = Follow::start(log.clone(), directory(), Some(snapshot.clone()));
    assert!(follow.watch().caught_up(PATIENCE).await);
    follow.stop().await;
    assert!(snapshot.path.is_file());
    snapshot
}

#[tokio::test]
async fn a_start_without_the_log_goes_by_the_snapshot_and_catches_up_later() {
    let folder = tempfile::tempdir().unwrap();
    let (log, away) = Distant::open(&folder.path().join("log"));
    let snapshot = kept(folder.path(), &log).await;
    let body = key_event("sk-key-number-3", "alias-3");
    EventLog::append(&*log, Topic::Config, Partition(0), body)
        .await
        .unwrap();
    away.store(true, Ordering::SeqCst);
    let late = Shared {
        snapshot: Some(snapshot),
        caught_up: false,
        ..shared(&log)
    };
    let world = World::sharing(|_| {}, Options::default(), late).await;
    let told = world.get("/health/readiness").await;
    assert_eq!(told.status, 200);
    assert!(
        told.json()["degraded"][0]
            .as_str()
            .unwrap()
            .starts_with("config as of version 3, "),
        "{}",
        told.text
    );
    let known = world
        .gateway
        .directory
        .key(&KeyHash::of("sk-key-number-1"))
        .expect("from the snapshot");
    assert_eq!(known.key_alias.as_deref(), Some("alias-1"));
    assert_eq!(known.quota.max_budget, Some(NanoUsd::from_usd(3)));
    assert_eq!(known.quota.budget_duration.as_deref(), Some("monthly"));
    assert_eq!(known.models.len(), 2);
    world.provider.script(plain("up-1"));
    assert_eq!(
        world.chat("sk-key-number-0", json!({})).await.status,
        200,
        "calls go on"
    );
    away.store(false, Ordering::SeqCst);
    assert!(world.follow.watch().caught_up(PATIENCE).await);
    assert_eq!(world.follow.watch().state().version, 4);
    assert_eq!(world.gateway.directory.keys().len(), 4);
    world.stop().await;
}

#[tokio::test]
async fn a_snapshot_with_any_wrong_byte_is_no_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let (log, away) = Distant::open(&folder.path().join("log"));
    let snapshot = kept(folder.path(), &log).await;
    let good = std::fs::read(&snapshot.path).unwrap();
    away.store(true, Ordering::SeqCst);
    let starts_with_it = |snapshot: &Snapshot| {
        let projection = directory();
        let follow = Follow::start(log.clone(), projection.clone(), Some(snapshot.clone()));
        let grounded = follow.watch().is_grounded();
        assert_eq!(
            projection.keys().len(),
            if grounded { 3 } else { 0 },
            "all or nothing"
        );
        grounded
    };
    assert!(starts_with_it(&snapshot));
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&snapshot.path, bad).unwrap();
        assert!(!starts_with_it(&snapshot), "byte {at}");
    }
    for length in [0, 3, good.len() / 2, good.len() - 1] {
        std::fs::write(&snapshot.path, &good[..length]).unwrap();
        assert!(!starts_with_it(&snapshot), "{length} bytes");
    }
    std::fs::write(&snapshot.path, &good).unwrap();
    let elsewhere = Snapshot {
        origin: "another log".to_owned(),
        ..snapshot.clone()
    };
    assert!(!starts_with_it(&elsewhere));
    // The log in reach, what is damaged is read again and written anew.
    std::fs::write(&snapshot.path, &good[..9]).unwrap();
    away.store(false, Ordering::SeqCst);
    let follow = Follow::start(log.clone(), directory(), Some(snapshot.clone()));
    assert!(follow.watch().caught_up(PATIENCE).await);
    follow.stop().await;
    away.store(true, Ordering::SeqCst);
    assert!(starts_with_it(&snapshot));
}

#[tokio::test]
async fn a_log_that_ends_before_the_snapshot_is_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Distant::open(&folder.path().join("log"));
    let snapshot = kept(folder.path(), &log).await;
    let (other, _) = Distant::open(&folder.path().join("other"));
    let body = key_event("sk-another-world", "bob");
    EventLog::append(&*other, Topic::Config, Partition(0), body)
        .await
        .unwrap();
    let projection = directory();
    let follow = Follow::start(other, projection.clone(), Some(snapshot));
    assert!(follow.watch().caught_up(PATIENCE).await);
    assert_eq!(follow.watch().state().version, 1);
    let keys: Vec<_> = projection.keys();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].key_alias.as_deref(), Some("bob"));
}

#[tokio::test]
async fn what_cannot_be_read_is_stepped_over_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Distant::open(folder.path());
    for body in [
        key_event("sk-key-number-0", "a"),
        Bytes::from_static(b"nonsense"),
        key_event("sk-key-number-1", "b"),
    ] {
        EventLog::append(&*log, Topic::Config, Partition(0), body)
            .await
            .unwrap();
    }
    let projection = directory();
    let follow = Follow::start(log, projection.clone(), None);
    assert!(follow.watch().caught_up(PATIENCE).await);
    let state = follow.watch().state();
    assert_eq!((state.version, state.stepped_over), (3, 1));
    assert_eq!(projection.keys().len(), 2);
}

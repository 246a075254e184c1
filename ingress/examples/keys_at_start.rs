//! How long a start takes to know its keys: `keys_at_start KEYS DIR`. Prints the time from the log alone, and
//! from a snapshot.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingress::directory::{Directory, KeyRecord, Quota};
use ingress::follow::{Follow, Snapshot};
use journal::{Journal, Options};
use schemas::{ConfigEntity, ConfigEvent, ConfigOp, Event, KeyHash, Micros, Partition, Topic};

const WITHIN: Duration = Duration::from_secs(120);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, keys, dir] = &arguments[..] else {
        return Err("usage: keys_at_start KEYS DIR".into());
    };
    let (keys, dir): (u32, &Path) = (keys.parse()?, Path::new(dir));
    let (log, _) = Journal::open(&dir.join("config"), Options::default())?;
    for number in 0..keys {
        log.append(Topic::Config, Partition(0), &event(number)?)?;
    }
    log.sync()?;
    let snapshot = Snapshot {
        path: dir.join("snapshots").join("config"),
        origin: "measured".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for from in ["log", "snapshot"] {
            let directory = Arc::new(Directory::new("UTC".parse()?, Quota::default()));
            let began = Instant::now();
            let follow = Follow::start(
                Arc::new(log.clone()),
                directory.clone(),
                Some(snapshot.clone()),
            );
            let known = follow.watch().caught_up(WITHIN).await;
            let took = began.elapsed();
            if !known || directory.keys().len() != keys as usize {
                return Err("the keys were not read".into());
            }
            eprintln!("{keys} keys from the {from}: {:.3} s", took.as_secs_f64());
            let began = Instant::now();
            follow.stop().await;
            eprintln!("  left behind in {:.3} s", began.elapsed().as_secs_f64());
        }
        Ok(())
    })
}

fn event(number: u32) -> Result<Vec<u8>, serde_json::Error> {
    let key = KeyRecord {
        key_name: "sk-...abcd".into(),
        key_alias: Some(format!("service-{number}").into()),
        team_id: Some(format!("team-{}", number % 500).into()),
        models: vec!["gpt-4o".into(), "claude-sonnet".into()],
        quota: Quota::budget(
            Some(schemas::NanoUsd::from_usd(50)),
            Some(&config::Period::Monthly),
        ),
        created_at: Micros(1),
        ..KeyRecord::default()
    };
    let event = ConfigEvent {
        event_time: Micros(1),
        entity: ConfigEntity::Key,
        id: KeyHash::of(&format!("sk-key-{number}")).to_string().into(),
        op: ConfigOp::Put,
        body: serde_json::to_string(&key)?.into(),
        actor: "master".into(),
    };
    Ok(event.body())
}

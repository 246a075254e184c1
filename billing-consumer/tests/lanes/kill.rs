//! A process that ends itself at each step of both lanes, again and again, and what is left in the end.

use std::process::{Command, Stdio};
use std::time::Duration;

use billing_consumer::fail_point::Step;

use crate::engine;
use crate::world::{World, catalog, logs, usage};

const CHILD_DIR: &str = "BILLING_TEST_CHILD_DIR";
const CHILD_STORE: &str = "BILLING_TEST_CHILD_STORE";
const EVENTS: u64 = 300;

/// Not a test of its own: brings everything to its sinks and writes down the spend, unless it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_a_child_it_bills() {
    let (Ok(dir), Ok(store)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_STORE)) else {
        return;
    };
    let (addr, database) = store.split_once('/').unwrap();
    let mut world = World::new(Some(engine::connect(addr.parse().unwrap(), database)));
    (world.log, world.dead_letters) = logs(dir.as_ref());
    world.catalog.store(catalog().into());
    world.settings.store_batch = 40;
    world.settings.store_every = Duration::ZERO;
    world.settings.budget_batch = 50;
    world.settings.budget_commit_every = Duration::ZERO;
    world.start();
    world.ready().await;
    world.drain().await;
    let used = world.spend().await.used;
    std::fs::write(std::path::Path::new(&dir).join("spend"), used.to_string()).unwrap();
}

/// Ends at `fail`; without one, when it is done. Says whether it did.
fn child(dir: &std::path::Path, store: &str, fail: Option<&str>) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "kill::as_a_child_it_bills"])
        .env(CHILD_DIR, dir)
        .env(CHILD_STORE, store)
        .env_remove("TOLLGATE_FAIL")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(fail) = fail {
        command.env("TOLLGATE_FAIL", fail);
    }
    command.status().unwrap().success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_step_nothing_is_lost_or_doubled() {
    for step in Step::ALL {
        let (database, store) = engine::database().await;
        let address = format!("{}/{database}", engine::shared());
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = logs(dir.path());
        for call in 1..=EVENTS {
            log.append(schemas::Topic::Usage, schemas::Partition(0), &body(call))
                .unwrap();
        }
        log.sync().unwrap();
        drop(log);
        let name = step.name();
        for fail in [
            format!("{name}:1"),
            format!("{name}:3"),
            format!("{name}:2"),
        ] {
            let ended = child(dir.path(), &address, Some(&fail));
            // Each life brings some of it; one that has too little left to get there may end well.
            assert!(!ended || !fail.ends_with(":1"), "{fail} was not passed");
        }
        assert!(child(dir.path(), &address, None), "the last life ends well");
        let sum = EVENTS * (EVENTS + 1) / 2;
        let spend = std::fs::read_to_string(dir.path().join("spend")).unwrap();
        assert_eq!(
            spend.parse(),
            Ok(schemas::NanoUsd(i64::try_from(sum).unwrap())),
            "{name}"
        );
        let ledger = "SELECT count(), toInt64(sum(amount) * 1000000000) FROM cost_ledger FINAL";
        assert_eq!(
            engine::ask(&store, ledger).await,
            format!("{EVENTS}\t{sum}"),
            "{name}"
        );
        let rows = "SELECT count(), uniqExact(request_id) FROM usage_rows FINAL";
        assert_eq!(
            engine::ask(&store, rows).await,
            format!("{EVENTS}\t{EVENTS}"),
            "{name}"
        );
    }
}

fn body(call: u64) -> Vec<u8> {
    schemas::Event::body(&usage(call, i64::try_from(call).unwrap()))
}

//! The child's life: killed, started again, ended in order, and never in the way of another.

use std::time::Duration;

use analytics::Batch;
use analytics::embedded::{Supervisor, SupervisorError, SupervisorOptions};
use schemas::Pseq;

use crate::world::{World, batch, child, free_addr, now};

fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn lives(pid: u32) -> bool {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::test_kill_process(pid).is_ok()
}

/// As the store lane does: the same buffer until it is in.
async fn insist(world: &World, batch: &Batch) {
    while let Err(error) = world.store.insert(batch).await {
        assert!(!error.is_poison(), "{error}");
        world
            .supervisor
            .wait_ready(Duration::from_secs(60))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_loses_nothing_and_doubles_nothing() {
    const BATCHES: u64 = 40;
    const ROWS: u64 = 2_000;
    let world = World::start().await;
    let ts = now();
    let mut killed = Vec::new();
    for number in 0..BATCHES {
        let batch = batch(1, number * ROWS + 1..=(number + 1) * ROWS, ts);
        if number % 8 == 3 {
            // Somewhere within the insert: the kill races it, at another place each time.
            let pid = world.supervisor.pid().unwrap();
            let pause = Duration::from_millis(number / 2);
            let ((), ()) = tokio::join!(insist(&world, &batch), async {
                tokio::time::sleep(pause).await;
                kill(pid, rustix::process::Signal::KILL);
            });
            let mut ready = world.supervisor.ready();
            ready.wait_for(|ready| *ready).await.unwrap();
            killed.push(pid);
        } else {
            insist(&world, &batch).await;
        }
    }
    assert_eq!(killed.len(), 5);
    assert!(!killed.contains(&world.supervisor.pid().unwrap()));
    let total = BATCHES * ROWS;
    assert_eq!(world.store.high_water().await.unwrap()[0].pseq, Pseq(total));
    let expected = format!("{total}\t{}", (1..=total).sum::<u64>());
    let sum = "SELECT count(), toInt64(sum(amount) * 1000000000) FROM cost_ledger FINAL";
    assert_eq!(world.ask(sum).await, expected);
    assert_eq!(
        world.ask("SELECT count() FROM usage_rows FINAL").await,
        total.to_string()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_an_end_in_order() {
    let world = World::start().await;
    world.store.insert(&batch(1, 1..=10, now())).await.unwrap();
    let (addr, dir) = (world.addr, world.dir);
    let pid = world.supervisor.pid().unwrap();
    world.supervisor.shutdown().await;
    assert!(!lives(pid));

    let path = dir.path().to_owned();
    let again =
        Supervisor::start(SupervisorOptions::new(addr), move || child(&path, addr)).unwrap();
    again.wait_ready(Duration::from_secs(60)).await.unwrap();
    assert_eq!(world.store.high_water().await.unwrap()[0].pseq, Pseq(10));
    let pid = again.pid().unwrap();
    drop(again);
    assert!(!lives(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let error = Supervisor::start(SupervisorOptions::new(addr), move || child(&path, addr))
        .err()
        .unwrap();
    assert!(matches!(error, SupervisorError::PortInUse(_)));
    assert!(
        error.to_string().contains(&addr.port().to_string()),
        "{error}"
    );
    // The child itself says the same, for whoever starts it without a supervisor.
    let output = child(dir.path(), addr)
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains(&format!("port {}", addr.port())),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_has_one_process() {
    let world = World::start().await;
    let output = child(world.dir.path(), free_addr())
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("is another process using it?"), "{said}");
    assert_eq!(world.ask("SELECT 1").await, "1");
}

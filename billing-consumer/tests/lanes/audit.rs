//! The audit over real tables: clean when all is well, and never when one event or one nano-dollar is off.

use std::sync::Arc;
use std::time::Duration;

use billing_consumer::audit::{Auditor, Parts, Report, Verdict};
use journal::EventLog;
use schemas::{
    AuditEvent, AuditKind, BudgetRef, Event, LastPseq, Meter, Micros, NanoUsd, Partition, Quantity,
    Topic,
};

use crate::engine;
use crate::world::{World, usage};

const EVENTS: u64 = 50;

/// A world in which everything was brought and told; one event is a dead letter.
async fn world() -> World {
    let (_, store) = engine::database().await;
    let mut world = World::new(Some(store));
    world.settings.audit_every = Duration::ZERO;
    world.settings.store_batch = 20;
    world.start();
    for call in 1..EVENTS {
        world
            .append(&usage(call, 1_000 + i64::try_from(call).unwrap()))
            .await;
    }
    let mut negative = usage(EVENTS, 5);
    negative.meters.0 = vec![Quantity {
        meter: Meter::OutputText,
        quantity: -5,
    }];
    world.append(&negative).await;
    heartbeat(&world, EVENTS).await;
    world.brought(EVENTS).await;
    world.drain().await;
    world
}

async fn heartbeat(world: &World, last: u64) {
    let body = beat(last, EVENTS).body().into();
    EventLog::append(&world.log, Topic::Audit, Partition(0), body)
        .await
        .unwrap();
}

fn beat(last: u64, opened: u64) -> AuditEvent {
    AuditEvent {
        event_time: Micros(1),
        kind: AuditKind::Heartbeat,
        last: [(Topic::Usage, last), (Topic::Requests, opened)]
            .map(|(topic, last)| LastPseq {
                topic: topic as u32,
                of_partition: 0,
                last,
            })
            .into(),
        depth_bytes: 0,
        open_calls: 0,
        blocks: Vec::new(),
    }
}

pub async fn audit(world: &World) -> Report {
    audit_within(world, Duration::ZERO).await
}

async fn audit_within(world: &World, wait: Duration) -> Report {
    let parts = Parts {
        audit: vec![Arc::new(world.log.clone())],
        dead_letters: vec![Arc::new(world.dead_letters.clone())],
        store: world.store.clone().unwrap(),
        budgets: Some(world.budgets.clone()),
    };
    let auditor = Auditor::begin(parts).await.unwrap();
    auditor.run(wait).await.unwrap()
}

/// Names of the checks that failed, with their words.
fn failed(report: &Report) -> Vec<(&'static str, String)> {
    let words = |verdict: &Verdict| match verdict {
        Verdict::Failed(words) => Some(words.join("; ")),
        Verdict::Ok | Verdict::Skipped(_) => None,
    };
    let checks = report.checks.iter();
    checks
        .filter_map(|check| Some((check.name, words(&check.verdict)?)))
        .collect()
}

fn number(report: &Report, name: &str) -> u64 {
    let mut numbers = report.checks.iter().flat_map(|check| &check.numbers);
    let found = numbers.find(|(known, _)| *known == name).unwrap();
    found.1.parse().unwrap()
}

#[tokio::test]
async fn a_clean_world_is_found_clean() {
    let world = world().await;
    let report = audit(&world).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.checks.len(), 6);
    assert_eq!(number(&report, "events"), EVENTS);
    assert_eq!(number(&report, "rows"), EVENTS - 1);
    assert_eq!(number(&report, "dead letters"), 1);
    assert_eq!(number(&report, "by both"), EVENTS, "{report}");
    assert_eq!(
        number(&report, "nano-USD in them"),
        2 * (49 * 1_000 + 49 * 25)
    );
}

#[tokio::test]
async fn one_event_that_is_gone_is_found() {
    let world = world().await;
    let store = world.store.clone().unwrap();
    for table in ["usage_rows", "cost_ledger"] {
        let gone = format!("ALTER TABLE {table} DELETE WHERE pseq = 7 SETTINGS mutations_sync = 2");
        engine::ask(&store, &gone).await;
    }
    let report = audit(&world).await;
    let failed = failed(&report);
    let names: Vec<_> = failed.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "every event has its rows",
            "lanes and ledger agree",
            "spend is the ledger's",
            "every call ends once"
        ],
        "{report}"
    );
    assert!(failed[0].1.contains("7 to 7"), "{report}");
    assert_eq!(
        number(&report, "missing"),
        2,
        "one row of each table: {report}"
    );
}

#[tokio::test]
async fn one_nano_dollar_is_found_wherever_it_is() {
    let world = world().await;
    let budget = BudgetRef {
        budget: "key:k".into(),
        window_start: Micros(0),
        window_end: Micros(i64::MAX),
    };
    let mut state = budgets::Restored {
        windows: Vec::new(),
        standing: budgets::Budgets::standing(&*world.budgets).await.unwrap(),
    };
    for window in ["key:k", "global"] {
        let spend = budgets::Budgets::spend(&*world.budgets, &[(window.into(), Micros(0))]).await;
        state.windows.push(budgets::RestoredWindow {
            budget: BudgetRef {
                budget: window.into(),
                ..budget.clone()
            },
            used: spend.unwrap()[0].used,
        });
    }
    state.windows[0].used = NanoUsd(state.windows[0].used.0 + 1);
    budgets::Budgets::restore(&*world.budgets, &state)
        .await
        .unwrap();
    let report = audit(&world).await;
    let found = failed(&report);
    assert_eq!(found.len(), 1, "{report}");
    assert!(found[0].1.contains("budget key:k from 0"), "{report}");
    state.windows[0].used = NanoUsd(state.windows[0].used.0 - 1);
    budgets::Budgets::restore(&*world.budgets, &state)
        .await
        .unwrap();
    assert!(audit(&world).await.is_clean());

    // In the ledger: two events swap a nano-dollar, so that no sum changes.
    let store = world.store.clone().unwrap();
    let swap = "ALTER TABLE cost_ledger UPDATE amount = amount + if(pseq = 3, 1, -1) * toDecimal64('0.000000001', 9) \
                WHERE pseq IN (3, 4) SETTINGS mutations_sync = 2";
    engine::ask(&store, swap).await;
    let report = audit(&world).await;
    let names: Vec<_> = failed(&report).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["lanes and ledger agree"], "{report}");
}

#[tokio::test]
async fn an_event_that_never_came_is_found() {
    let world = world().await;
    heartbeat(&world, EVENTS + 1).await;
    let report = audit(&world).await;
    let names: Vec<_> = failed(&report).iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["every event has its rows", "every event is settled"],
        "{report}"
    );
}

/// What an unreadable record has told of may be missing.
#[tokio::test]
async fn evidence_that_cannot_be_read_is_no_evidence() {
    let world = world().await;
    let garbage = b"garbage".to_vec().into();
    EventLog::append(&world.log, Topic::Audit, Partition(0), garbage)
        .await
        .unwrap();
    let report = audit(&world).await;
    let failed = failed(&report);
    assert_eq!(failed.len(), 1, "{report}");
    assert!(failed[0].1.contains("cannot be read"), "{report}");
}

/// Events come all the time, so that the tables are never where the budget state is: what is compared is what both
/// had at one place of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_world_under_load_is_found_clean() {
    let (_, store) = engine::database().await;
    let mut world = World::new(Some(store));
    world.settings.audit_every = Duration::from_millis(100);
    world.start();
    let log = world.log.clone();
    let feed = tokio::spawn(async move {
        for call in 1.. {
            let body = usage(call, 10).body().into();
            let appended = EventLog::append(&log, Topic::Usage, Partition(0), body);
            appended.await.unwrap();
            if call % 20 == 0 {
                let body = beat(call, call).body().into();
                let appended = EventLog::append(&log, Topic::Audit, Partition(0), body);
                appended.await.unwrap();
            }
        }
    });
    for least in [200, 600] {
        world.brought(least).await;
        let report = audit_within(&world, Duration::from_secs(60)).await;
        assert!(report.is_clean(), "{report}");
        assert!(number(&report, "events") >= least / 20 * 20, "{report}");
    }
    feed.abort();
}

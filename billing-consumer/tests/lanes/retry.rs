//! Dead letters that are brought again: billed once, however often, and the books agree.

use std::sync::Arc;

use billing_consumer::dead_letters::DeadLetters;
use billing_consumer::mend::{self, Outcome, Retried, Way};
use journal::{EventLog, Position, Record};
use schemas::{Event, Identity, NanoUsd, Partition, Pseq, SourceId, Topic};

use crate::world::{World, now, usage};
use crate::{audit, engine};

async fn retry(world: &World, way: Way) -> Vec<Retried> {
    let letters: Arc<dyn EventLog> = Arc::new(world.dead_letters.clone());
    let store_stands = match &world.store {
        Some(store) => Some(store.standing().await.unwrap()),
        None => None,
    };
    let catalog = world.catalog.load_full();
    let parts = mend::Parts {
        log: &world.log,
        dead_letters: &[letters],
        way,
        store: world.store.as_ref(),
        store_stands: store_stands.as_ref(),
        budgets_stand: None,
        catalog: &catalog,
    };
    mend::retry(&parts, |_| true).await.unwrap()
}

fn outcomes(retried: &[Retried]) -> Vec<&Outcome> {
    retried.iter().map(|retried| &retried.outcome).collect()
}

/// Given up by an older version, billable by this one.
#[tokio::test]
async fn what_both_lanes_gave_up_goes_into_the_journal_once_more() {
    let mut world = World::new(None);
    let letters = DeadLetters::new(Arc::new(world.dead_letters.clone()));
    for (pseq, body) in [(7, usage(7, 30).body()), (8, b"garbage".to_vec())] {
        let record = Record {
            topic: Topic::Usage,
            identity: Identity {
                source_id: SourceId(5),
                partition: Partition(0),
                pseq: Pseq(pseq),
            },
            position: Position(0),
            version: pseq,
            body: body.into(),
        };
        for lane in ["budget", "store"] {
            letters.put(lane, &record, "too new", now()).await.unwrap();
        }
    }
    let closed = retry(&world, Way::Closed).await;
    assert!(
        matches!(outcomes(&closed)[..], [Outcome::Later(_), Outcome::Bad(_)]),
        "{closed:?}"
    );
    let sent = retry(&world, Way::Journal).await;
    let [Outcome::Sent(name), Outcome::Bad(_)] = outcomes(&sent)[..] else {
        panic!("{sent:?}");
    };
    let again = retry(&world, Way::Journal).await;
    assert_eq!(outcomes(&again)[0], &Outcome::Billed(*name));
    world.start();
    world.brought(1).await;
    world.ready().await;
    assert_eq!(world.spend().await.used, NanoUsd(30));
}

/// The tables refuse rows for a while, so that only they lack the events.
#[tokio::test]
async fn what_the_tables_refused_is_put_into_them() {
    let (_, store) = engine::database().await;
    let mut world = World::new(Some(store.clone()));
    world.settings.audit_every = std::time::Duration::ZERO;
    store.migrate().await.unwrap();
    let status = async |kind: &str| {
        let alter = format!("ALTER TABLE usage_rows MODIFY COLUMN status {kind}");
        engine::ask(&store, &alter).await;
    };
    world.start();
    world.append(&usage(1, 10)).await;
    world.brought(1).await;
    // What is sent does not fit any more.
    status("UInt8").await;
    for call in 2..=4 {
        world.append(&usage(call, 10)).await;
    }
    world.brought(4).await;
    assert_eq!(world.status().store.dead_letters, 3);
    assert_eq!(world.status().budget.dead_letters, 0);
    let bad = retry(&world, Way::Closed).await;
    assert!(
        bad.len() == 3 && bad.iter().all(|bad| matches!(bad.outcome, Outcome::Bad(_))),
        "{bad:?}"
    );
    status("UInt16").await;
    world.append(&usage(5, 10)).await;
    world.brought(5).await;
    world.drain().await;
    let stored = retry(&world, Way::Closed).await;
    assert_eq!(outcomes(&stored), [&Outcome::Stored; 3]);
    let again = retry(&world, Way::Closed).await;
    assert!(
        again
            .iter()
            .all(|again| again.outcome == Outcome::Billed(again.event)),
        "{again:?}"
    );
    let ledger = "SELECT count(), sum(amount) FROM cost_ledger FINAL";
    assert_eq!(engine::ask(&store, ledger).await, "5\t0.00000005");
    let report = audit::audit(&world).await;
    assert!(report.is_clean(), "{report}");
    world.restart();
    world.ready().await;
    assert_eq!(world.spend().await.used, NanoUsd(50));
}

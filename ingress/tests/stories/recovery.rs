//! Calls that a crash left open.

use schemas::{Event, Meter, Micros, Outcome, Partition, Progress, StreamMark, Topic};
use serde_json::json;

use crate::provider::plain;
use crate::world::{World, events, open_journal};

/// A journal as a killed gateway leaves it: an ADMIT without its end, with a mark, and one without.
async fn killed() -> tempfile::TempDir {
    let world = World::start().await;
    world.provider.script(plain("up-1"));
    let key = world.key(json!({ "max_budget": 1 })).await;
    world.chat(&key, json!({})).await;
    let (admits, _) = world.events();
    let folder = world.stop().await;
    let journal = open_journal(folder.path());
    for (number, marked) in [(1, true), (2, false)] {
        let mut admit = admits[0].clone();
        admit.request_id.0 = [number; 16];
        journal
            .append(Topic::Requests, Partition(3), &admit.body())
            .unwrap();
        for output in if marked { vec![40, 90] } else { vec![] } {
            let mark = StreamMark {
                provider: admit.provider.clone(),
                model: admit.model.clone(),
                deployment: admit.deployment.clone(),
                attempt_no: 1,
                input_tokens: 11,
                output_tokens: output,
            };
            let progress = Progress {
                event_time: Micros(1),
                request_id: admit.request_id,
                mark,
                beside: Vec::new(),
            };
            journal
                .append(Topic::Progress, Partition(3), &progress.body())
                .unwrap();
        }
    }
    folder
}

#[tokio::test]
async fn each_is_billed_once_from_its_last_mark() {
    let folder = killed().await;
    for (start, found) in [(1, 2), (2, 0)] {
        let journal = open_journal(folder.path());
        assert_eq!(
            ingress::recover(&journal, Micros(2)).await.unwrap().len(),
            found,
            "start {start}"
        );
    }
    let (admits, usages) = events(&open_journal(folder.path()));
    assert_eq!((admits.len(), usages.len()), (3, 3));
    let of = |number: u8| {
        usages
            .iter()
            .find(|usage| usage.request_id.0 == [number; 16])
            .unwrap()
    };
    for usage in [of(1), of(2)] {
        assert_eq!(
            (usage.outcome, usage.estimated, usage.last),
            (Outcome::Abandoned, true, true)
        );
        assert_eq!(
            usage.budgets, admits[0].budgets,
            "billed where it was checked"
        );
        assert_eq!(usage.hold, admits[0].hold);
    }
    assert_eq!(
        (
            of(1).meters.get(Meter::InputText),
            of(1).meters.get(Meter::OutputText)
        ),
        (11, 90)
    );
    assert_eq!(of(2).meters.get(Meter::OutputText), 0);
    assert!(
        of(2).meters.get(Meter::InputText) > 0,
        "the prompt was sent"
    );
}

/// Killed in the middle of closing them, the next start closes the rest.
#[tokio::test]
async fn a_start_that_is_killed_too_loses_nothing() {
    let folder = killed().await;
    {
        let journal = open_journal(folder.path());
        let (_, usages) = events(&journal);
        let mut first = usages[0].clone();
        first.request_id.0 = [1; 16];
        first.outcome = Outcome::Abandoned;
        journal
            .append_final(Topic::Usage, Partition(3), &first.body())
            .unwrap();
    }
    let journal = open_journal(folder.path());
    assert_eq!(
        ingress::recover(&journal, Micros(2)).await.unwrap().len(),
        1
    );
    assert_eq!(events(&journal).1.len(), 3);
}

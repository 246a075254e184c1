//! A client that leaves stops the provider, and pays for what was produced.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::provider::{INPUT_NANO, OUTPUT_NANO, Script};
use tests::{Shape, World};

tests::in_both_shapes!(
    a_hang_up_stops_the_upstream_call_and_is_billed,
    a_plain_call_is_cancelled_too,
);

async fn a_hang_up_stops_the_upstream_call_and_is_billed(shape: Shape) {
    let world = World::start(shape).await;
    let script = Script {
        pace: Duration::from_millis(20),
        ..Script::of_tokens(1_000)
    };
    world.provider.script("scripted-upstream", script);
    let key = world.key(json!({"max_budget": 1})).await;
    // A machine may be busy for a second, but not each time.
    let mut took = Vec::new();
    while took.iter().all(|took| *took >= Duration::from_secs(1)) {
        assert!(took.len() < 3, "the upstream call went on for {took:?}");
        let streamed = world.chat_as(&key, "tell me everything").read(6).await;
        let left = Instant::now();
        assert_eq!(streamed.chunks.len(), 6);
        let calls = took.len() as u64 + 1;
        world
            .until(
                || "the provider to notice",
                || world.provider.books().cancelled == calls,
            )
            .await;
        let noticed = world.provider.last_cancel().unwrap();
        took.push(noticed.saturating_duration_since(left));
    }
    let calls = took.len();

    world.rows(calls).await;
    let row = world.sql(
        "select outcome, estimated, sum(input_tokens), sum(output_tokens) from usage_rows final \
         group by outcome, estimated",
    );
    let fields: Vec<&str> = row.split('\t').collect();
    assert_eq!(&fields[..2], ["cancelled", "true"], "{row}");
    let books = world.provider.books();
    let produced: u64 = fields[3].parse().unwrap();
    // Five tokens were read before the client left; more were under way.
    assert!(
        (5 * calls as u64..=books.completion_tokens + calls as u64).contains(&produced),
        "{row} against {books:?}"
    );
    let input: u64 = fields[2].parse().unwrap();
    assert!(input >= calls as u64, "the prompt was read");
    let bill = u64::try_from(world.ledger().0).unwrap();
    assert_eq!(bill, input * INPUT_NANO + produced * OUTPUT_NANO);
    assert_eq!(world.spend_of(&key).await, world.ledger());
}

/// A plain call whose client leaves is not left running either.
async fn a_plain_call_is_cancelled_too(shape: Shape) {
    let world = World::start(shape).await;
    let script = Script {
        delay: Duration::from_secs(30),
        ..Script::default()
    };
    world.provider.script("scripted-upstream", script);
    let key = world
        .key(json!({"max_budget": 1, "max_parallel_requests": 1}))
        .await;
    let chat = world.chat_as(&key, "hi");
    let waiting = tokio::spawn({
        let chat = chat.clone();
        async move { chat.try_send().await.is_ok() }
    });
    while world.provider.books().requests == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waiting.abort();
    assert!(waiting.await.is_err());
    world.rows(1).await;
    assert_eq!(
        world.sql("select outcome, last from usage_rows final"),
        "cancelled\ttrue"
    );
    world
        .provider
        .script("scripted-upstream", Script::default());
    assert_eq!(chat.send().await.status, 200, "slot and hold came back");
}

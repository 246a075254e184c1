//! Fault proof 4: one budget, five hundred clients, and everything that counts it killed.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use schemas::NanoUsd;
use serde_json::json;
use tests::client::Answered;
use tests::provider::Script;
use tests::{Chat, Shape, World};

use crate::books::{close, overshoot};
use crate::load::{Saw, Seen, marked, next_marker};
use crate::table::Row;
use tests::parts::Parts;

const LIMIT: NanoUsd = NanoUsd(1_000_000_000);
const CLIENTS: usize = 500;

/// Calls until its budget says that waiting does not help.
async fn client(http: reqwest::Client, urls: Vec<String>, key: String, at: usize, seen: Seen) {
    let mut turn = at;
    loop {
        turn += 1;
        let marker = next_marker();
        let chat = Chat::new(&http, &urls[turn % urls.len()], &key, "scripted", "hi");
        let answer = marked(chat, &marker)
            .with("max_tokens", 250)
            .try_send()
            .await;
        let saw = match &answer {
            Err(_) => Saw::Break,
            Ok(answer) if answer.status == 200 => Saw::End,
            Ok(answer) => Saw::Refusal(answer.status),
        };
        seen.push(marker, saw);
        let is_over =
            |answer: &Answered| answer.status == 429 && answer.header("x-should-retry") == "false";
        if answer.as_ref().is_ok_and(is_over) {
            return;
        }
        if saw != Saw::End {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

pub async fn no_overshoot(mut random: StdRng) -> Row {
    let mut row = Row::of(
        "500 clients on one budget of $1.00; ingress, billing and Redis killed",
        1_500,
    );
    let parts = Parts::start().await;
    let mut world = World::with(Shape::Split, "").on(&parts).start().await;
    let script = Script {
        delay: Duration::from_millis(100),
        ..Script::of_tokens(800)
    };
    world.provider.script("scripted-upstream", script);
    let fields = json!({"max_budget": LIMIT, "budget_duration": "monthly"});
    let (key, seen) = (world.key(fields).await, Seen::default());
    let urls: Vec<String> = world.ingresses.iter().map(|one| one.url()).collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|at| {
            tokio::spawn(client(
                world.http.clone(),
                urls.clone(),
                key.clone(),
                at,
                seen.clone(),
            ))
        })
        .collect();

    let calls = |random: &mut StdRng, from: u64| from + random.random_range(0..60);
    let enough = calls(&mut random, 100);
    world.until(|| "calls", || seen.ended() >= enough).await;
    let victim = random.random_range(0..world.ingresses.len());
    world.ingresses[victim].kill();
    world.ingresses[victim].again();
    let enough = calls(&mut random, 250);
    world.until(|| "calls", || seen.ended() >= enough).await;
    let victim = random.random_range(0..world.billing.len());
    world.billing[victim].kill();
    world.billing[victim].again();
    let enough = calls(&mut random, 400);
    world.until(|| "calls", || seen.ended() >= enough).await;
    parts.budgets.kill();
    parts.budgets.restart().await;

    let all = async {
        for client in clients {
            client.await.expect("a client");
        }
    };
    tokio::time::timeout(Duration::from_secs(300), all)
        .await
        .unwrap_or_else(|_| panic!("told to come back for ever\n{}", world.log()));
    world.ready().await;
    row.overshoot = overshoot(&world, LIMIT);
    close(&world, &seen, std::slice::from_ref(&key), &mut row).await;
    row.overshoot = row.overshoot.max(overshoot(&world, LIMIT));
    let used = world.spend_of(&key).await;
    crate::say(&format!("{used} of {LIMIT} USD was used"));
    assert!(used <= LIMIT, "{used} of {LIMIT}");
    assert!(used.0 * 10 > LIMIT.0 * 9, "only {used} of {LIMIT} was used");
    row.runs = 1;
    row
}

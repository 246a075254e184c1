//! A second attempt beside a slow first one: the first good answer is used, and both are billed.

use std::time::Duration;

use config::Config;
use journal::{Journal, Options, Position};
use schemas::{Micros, NanoUsd, Outcome, Topic};
use serde_json::json;

use crate::failover::{broken, header, second};
use crate::provider::{Provider, STREAM_HEAD, Step, chunk, last_chunk, plain, stream};
use crate::world::{MASTER, World, bill, events};

/// `one` stands at two providers, the first of which is asked first.
async fn hedging(change: impl FnOnce(&mut Config)) -> (World, Provider) {
    let other = Provider::start().await;
    let base = other.base();
    let world = World::with(|config| {
        let mut second = second(&base, "one");
        second.hints.order = 1;
        config.models.push(second);
        config.routing.hedge_after = Some(Duration::from_millis(50));
        change(config);
    })
    .await;
    (world, other)
}

#[tokio::test]
async fn a_slow_answer_is_hedged_and_both_are_billed() {
    for streamed in [false, true] {
        let (world, other) = hedging(|_| {}).await;
        world.provider.script(vec![Step::Stall]);
        other.script(if streamed {
            stream("up-2")
        } else {
            plain("up-2")
        });
        let told = world.chat(MASTER, json!({ "stream": streamed })).await;
        assert_eq!(told.status, 200, "{}", told.text);
        assert_eq!(
            header(&told, "x-litellm-model-id"),
            Some("one-at-the-second")
        );
        let usages = world.ended(2).await;
        assert_eq!((&*usages[0].model, &*usages[1].model), ("up-1", "up-2"));
        let tried: Vec<_> = usages.iter().map(|u| (u.attempt_no, u.last)).collect();
        assert_eq!(tried, [(1, false), (2, true)]);
        assert_eq!(usages[0].outcome, Outcome::Cancelled);
        assert!(usages[0].estimated && usages[0].meters.input_tokens() > 0);
        assert_eq!(usages[1].outcome, Outcome::Ok);
        let why: Vec<_> = usages[1].attempts.iter().map(|a| &*a.why).collect();
        assert_eq!(why, ["first", "hedge"]);
        assert_eq!(world.gateway.budgets.stats().open, 0);
    }
}

/// Only where the file asks for it.
#[tokio::test]
async fn without_the_setting_a_slow_answer_is_waited_for() {
    let (world, other) = hedging(|config| config.routing.hedge_after = None).await;
    let mut script = vec![Step::Pause(Duration::from_millis(200))];
    script.extend(plain("up-1"));
    world.provider.script(script);
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert!(other.bodies().is_empty());
    world.ended(1).await;
}

/// A keep-alive is no answer that has begun.
#[tokio::test]
async fn a_stream_that_only_keeps_its_line_open_is_hedged_too() {
    let (world, other) = hedging(|_| {}).await;
    let waiting = vec![
        Step::Send(STREAM_HEAD.into()),
        chunk(": PROCESSING\n\n"),
        Step::Stall,
    ];
    world.provider.script(waiting);
    other.script(stream("up-2"));
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    assert!(
        told.is_done() && !told.text.contains("PROCESSING"),
        "{}",
        told.text
    );
    assert_eq!(
        header(&told, "x-litellm-model-id"),
        Some("one-at-the-second")
    );
    world.ended(2).await;
}

/// Killed while both are on their way, the next start bills both: the log knows of each before it goes out.
#[tokio::test]
async fn both_are_billed_after_a_crash() {
    for limited in [false, true] {
        let (world, other) = hedging(|_| {}).await;
        world.provider.script(vec![Step::Stall]);
        other.script(vec![Step::Stall]);
        let key = match limited {
            true => world.key(json!({ "max_budget": 1 })).await,
            false => MASTER.to_owned(),
        };
        let call = world
            .http
            .post(world.url("/v1/chat/completions"))
            .bearer_auth(&key)
            .json(&crate::world::request(json!({ "max_tokens": 100 })));
        let call = tokio::spawn(call.send());
        while other.bodies().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // What a crash leaves: the log as it stands now.
        let left = tempfile::tempdir().unwrap();
        let journal = Journal::open(&left.path().join("journal"), Options::default());
        let journal = journal.unwrap().0;
        let topics = [Topic::Requests, Topic::Progress, Topic::Usage];
        for record in world.gateway.journal.scan(&topics, Position(0)).unwrap() {
            let record = record.unwrap();
            let partition = record.identity.partition;
            journal
                .append(record.topic, partition, &record.body)
                .unwrap();
        }
        call.abort();
        for found in [1, 0] {
            let closed = ingress::recover(&journal, Micros(2)).await.unwrap();
            assert_eq!(closed.len(), found);
        }
        let (admits, usages) = events(&journal);
        let open: Vec<_> = usages
            .iter()
            .filter(|usage| usage.outcome == Outcome::Abandoned)
            .collect();
        let told: Vec<_> = open
            .iter()
            .map(|usage| (usage.attempt_no, usage.last, &*usage.deployment))
            .collect();
        assert_eq!(
            told,
            [(1, false, "id-of-one"), (2, true, "one-at-the-second")]
        );
        assert!(open.iter().all(|usage| usage.estimated));
        let bills: Vec<NanoUsd> = usages.iter().map(bill).collect();
        let all = bills
            .iter()
            .fold(NanoUsd::ZERO, |sum, one| sum.saturating_add(*one));
        if limited {
            // All that was held, for both, and no more.
            let held = open[1].hold;
            assert!(held > admits[0].hold);
            assert_eq!(all, held);
        } else {
            assert_eq!(bills.len(), 2);
            assert!(bills.iter().all(|bill| *bill > NanoUsd::ZERO));
        }
    }
}

#[tokio::test]
async fn the_first_may_still_win() {
    let (world, other) = hedging(|_| {}).await;
    let word = std::sync::Arc::new(tokio::sync::Notify::new());
    let mut script = vec![Step::Wait(word.clone())];
    script.extend(plain("up-1"));
    world.provider.script(script);
    other.script(vec![Step::Stall]);
    let told = async {
        let told = world.chat(MASTER, json!({})).await;
        assert_eq!(told.status, 200, "{}", told.text);
        told
    };
    let asked = async {
        while other.bodies().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        word.notify_one();
    };
    let (told, ()) = tokio::join!(told, asked);
    assert_ne!(
        header(&told, "x-litellm-model-id"),
        Some("one-at-the-second")
    );
    // What ended first has the lower number.
    let usages = world.ended(2).await;
    let tried: Vec<_> = usages
        .iter()
        .map(|u| (u.attempt_no, u.last, &*u.model))
        .collect();
    assert_eq!(tried, [(1, false, "up-2"), (2, true, "up-1")]);
    assert_eq!(usages[0].outcome, Outcome::Cancelled);
    assert_eq!(world.gateway.budgets.stats().open, 0);
}

#[tokio::test]
async fn a_hedge_that_fails_leaves_the_first_one_alone() {
    let error = r#"data: {"error":{"message":"overloaded","code":529}}"#;
    let begins_so = [
        Step::Send(STREAM_HEAD.into()),
        chunk(&format!("{error}\n\n")),
        last_chunk(),
    ];
    for (streamed, fails, answers) in [
        (false, broken(), plain("up-1")),
        (true, begins_so.to_vec(), stream("up-1")),
    ] {
        let (world, other) = hedging(|_| {}).await;
        let word = std::sync::Arc::new(tokio::sync::Notify::new());
        let mut script = vec![Step::Wait(word.clone())];
        script.extend(answers);
        world.provider.script(script);
        other.script(fails);
        let failed = async {
            while !world.get("/health").await.text.contains(r#""failures":1"#) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            word.notify_one();
        };
        let call = world.chat(MASTER, json!({ "stream": streamed }));
        let (told, ()) = tokio::join!(call, failed);
        assert_eq!(told.status, 200, "{}", told.text);
        assert!(!told.text.contains("overloaded"), "{}", told.text);
        let usages = world.ended(1).await;
        assert_eq!((usages.len(), usages[0].attempt_no), (1, 2));
        assert_eq!(&*usages[0].model, "up-1");
    }
}

/// Both at their worst must fit in; what is held more is known to the log before it is used.
#[tokio::test]
async fn a_hedge_needs_room_in_the_budget() {
    let text = "word ".repeat(200);
    let ask = || {
        let messages = json!([{ "role": "user", "content": text }]);
        json!({ "max_tokens": 100, "messages": messages })
    };
    for (limit, hedged) in [(0.1, true), (0.0014, false)] {
        let (world, other) = hedging(|config| {
            config.models[0].timeouts.total = Duration::from_millis(300);
            // The hedge is the one attempt more.
            config.routing.retries.count = Some(1);
        })
        .await;
        world.provider.script(vec![Step::Stall]);
        other.script(plain("up-2"));
        let key = world.key(json!({ "max_budget": limit })).await;
        let told = world.chat(&key, ask()).await;
        assert_eq!(told.status == 200, hedged, "{limit}: {}", told.text);
        assert_eq!(other.bodies().len(), usize::from(hedged));
        let usages = world.ended(if hedged { 3 } else { 1 }).await;
        assert!(usages.last().unwrap().last);
        if hedged {
            assert_eq!(usages[0].error_code.as_deref(), Some("hedged"));
            assert!(usages[0].meters.0.is_empty() && usages[0].hold > NanoUsd(2_000_000));
        }
        let stats = world.gateway.budgets.stats();
        assert_eq!((stats.open, stats.cost_over_hold), (0, 0));
    }
}

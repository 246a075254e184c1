//! No budget is ever overspent, and every refusal says which it is.

use std::time::{Duration, Instant};

use schemas::NanoUsd;
use serde_json::json;
use tests::provider::{OUTPUT_NANO, Script};
use tests::{Provider, Shape, World};

tests::in_both_shapes!(
    three_hundred_calls_at_once_on_a_budget_worth_ten,
    a_refusal_tells_holds_from_spend,
    caps_are_the_clients_own_or_told,
    a_team_and_everyone_share_one_budget,
    rate_limits_hold_and_say_which,
    limits_of_a_deployment_hold_for_all_ingresses_together,
    an_unpriced_model_is_visible_and_never_outruns_a_budget,
    a_customers_budget_holds_on_every_ingress_and_after_a_kill,
);

/// What one call of `capped` costs: one word in, 500 tokens out.
const CALL: NanoUsd = NanoUsd(1_000 + 500 * 2_000);

fn long_answers(provider: &Provider) {
    provider.script(
        "scripted-upstream",
        Script {
            delay: Duration::from_millis(20),
            ..Script::of_tokens(800)
        },
    );
}

async fn three_hundred_calls_at_once_on_a_budget_worth_ten(shape: Shape) {
    let world = World::start(shape).await;
    long_answers(&world.provider);
    let budget = NanoUsd(CALL.0 * 10);
    let key = world
        .key(json!({"max_budget": budget, "budget_duration": "monthly"}))
        .await;
    let deadline = Instant::now() + Duration::from_secs(120);
    let callers = (0..300).map(|_| {
        let chat = world.chat_as(&key, "hi").with("max_tokens", 500);
        tokio::spawn(async move {
            loop {
                assert!(Instant::now() < deadline, "told to come back for ever");
                let answer = chat.send().await;
                if answer.status == 200 {
                    return true;
                }
                assert_eq!(
                    (answer.status, answer.error_type().as_str()),
                    (429, "budget_exceeded"),
                    "{}",
                    answer.text
                );
                if answer.header("x-should-retry") == "false" {
                    assert!(
                        answer.message().contains("Budget has been exceeded!"),
                        "{}",
                        answer.text
                    );
                    return false;
                }
                assert_eq!(answer.header("retry-after"), "1");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    });
    let mut served = 0;
    for caller in callers.collect::<Vec<_>>() {
        served += u64::from(caller.await.unwrap());
    }
    assert!(
        world.invoice() <= budget,
        "overspent: {} of {budget}",
        world.invoice()
    );
    assert!(served >= 9, "{served} served");
    assert_eq!(world.provider.books().completed, served);
    world.rows(usize::try_from(served).unwrap()).await;
    assert_eq!(world.spend_of(&key).await, world.invoice());
}

/// A refusal that open holds cause is worth a retry; one that spend causes is not, until the reset.
async fn a_refusal_tells_holds_from_spend(shape: Shape) {
    let world = World::start(shape).await;
    world.provider.script(
        "scripted-upstream",
        Script {
            stall_after: Some(1),
            ..Script::of_tokens(500)
        },
    );
    let budget = NanoUsd(CALL.0 + CALL.0 / 2);
    let key = world
        .key(json!({"max_budget": budget, "budget_duration": "1d"}))
        .await;
    let chat = world.chat_as(&key, "hi").with("max_tokens", 500);

    let holding = chat.clone();
    let open = tokio::spawn(async move { holding.read(3).await });
    while world.provider.books().requests == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let held = chat.send().await;
    assert_eq!(
        (held.status, held.header("retry-after")),
        (429, "1"),
        "{}",
        held.text
    );
    assert_eq!(held.header("x-should-retry"), "");
    open.abort();
    assert!(open.await.is_err());

    world
        .provider
        .script("scripted-upstream", Script::of_tokens(500));
    loop {
        let answer = chat.send().await;
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.header("retry-after"), "1", "{}", answer.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let spent = chat.send().await;
    assert_eq!(
        (spent.status, spent.header("x-should-retry")),
        (429, "false"),
        "{}",
        spent.text
    );
    let seconds: u64 = spent.header("retry-after").parse().unwrap();
    assert!(
        (1..=86_400).contains(&seconds),
        "the reset is at midnight, not in {seconds} s"
    );
    assert!(world.invoice() <= budget);
}

/// A client's own cap is never lowered; where it set none, what the budget affords is sent and told.
async fn caps_are_the_clients_own_or_told(shape: Shape) {
    let world = World::start(shape).await;
    world
        .provider
        .script("scripted-upstream", Script::of_tokens(5_000));
    let sent = |at: usize| -> serde_json::Value {
        serde_json::from_slice(&world.provider.bodies()[at]).unwrap()
    };

    // No hard budget: the request goes out as it came.
    let free = world.key(json!({})).await;
    let open = world.chat_as(&free, "hi").send().await;
    assert_eq!(
        (open.status, open.header("x-tollgate-output-cap")),
        (200, "")
    );
    assert_eq!(sent(0)["max_tokens"], json!(null));
    assert_eq!(sent(0)["max_completion_tokens"], json!(null));

    // A hard budget and no cap of the client's: what it affords, at most the model's maximum.
    let poor = world.key(json!({"max_budget": "0.001"})).await;
    let capped = world.chat_as(&poor, "hi").send().await;
    assert_eq!(capped.status, 200, "{}", capped.text);
    let cap: u64 = capped.header("x-tollgate-output-cap").parse().unwrap();
    assert!(cap > 0 && cap * OUTPUT_NANO < 1_000_000);
    let upstream = sent(1);
    let told = upstream["max_completion_tokens"]
        .as_u64()
        .or(upstream["max_tokens"].as_u64());
    assert_eq!(told, Some(cap));
    assert_eq!(capped.json()["usage"]["completion_tokens"], json!(cap));

    let rich = world.key(json!({"max_budget": 100})).await;
    let most = world.chat_as(&rich, "hi").send().await;
    assert_eq!(
        most.header("x-tollgate-output-cap"),
        "1000",
        "the model's maximum"
    );

    // The client's own cap does not fit: refused, nothing sent.
    let before = world.provider.books().requests;
    let other = world.key(json!({"max_budget": "0.001"})).await;
    let refused = world
        .chat_as(&other, "hi")
        .with("max_tokens", 5_000)
        .send()
        .await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert_eq!(world.provider.books().requests, before);
}

/// Team and global budgets bind their keys together; the refusal names whose budget it is.
async fn a_team_and_everyone_share_one_budget(shape: Shape) {
    let world = World::with(shape, "  global_max_budget: 0.0045\n")
        .start()
        .await;
    world
        .provider
        .script("scripted-upstream", Script::of_tokens(500));
    let id = &world
        .team(json!({"team_alias": "search", "max_budget": "0.0022"}))
        .await;
    let (a, b) = (
        world.key(json!({"team_id": id})).await,
        world.key(json!({"team_id": id})).await,
    );
    let call = |key: &str| world.chat_as(key, "hi").with("max_tokens", 500);
    assert_eq!(call(&a).send().await.status, 200);
    assert_eq!(call(&b).send().await.status, 200);
    let refused = call(&a).send().await;
    assert_eq!(refused.status, 429);
    assert!(refused.message().contains("Team"), "{}", refused.text);
    assert!(refused.message().contains("search"), "{}", refused.text);

    let loner = world.key(json!({})).await;
    assert_eq!(call(&loner).send().await.status, 200);
    assert_eq!(call(&loner).send().await.status, 200);
    let refused = call(&loner).send().await;
    assert_eq!(refused.status, 429);
    assert!(
        refused.message().to_lowercase().contains("global"),
        "{}",
        refused.text
    );
}

/// Requests, tokens and parallel calls, each with its own words.
async fn rate_limits_hold_and_say_which(shape: Shape) {
    let world = World::start(shape).await;
    let rpm = world.key(json!({"rpm_limit": 2})).await;
    let statuses = [
        world.chat_as(&rpm, "hi").send().await.status,
        world.chat_as(&rpm, "hi").send().await.status,
    ];
    let third = world.chat_as(&rpm, "hi").send().await;
    // The minute may have turned between the calls: then the third passes.
    if third.status == 429 {
        assert_eq!(statuses, [200, 200]);
        assert!(
            third
                .message()
                .contains("Limit type: requests. Current limit: 2"),
            "{}",
            third.text
        );
        assert!(third.header("retry-after").parse::<u64>().unwrap() <= 60);
    } else {
        let fourth = world.chat_as(&rpm, "hi").send().await.status;
        let fifth = world.chat_as(&rpm, "hi").send().await.status;
        assert!(fourth == 429 || fifth == 429);
    }

    let tpm = world.key(json!({"tpm_limit": 50})).await;
    let refused = world
        .chat_as(&tpm, "hi")
        .with("max_tokens", 500)
        .send()
        .await;
    assert_eq!(refused.status, 429);
    assert!(
        refused.message().contains("Limit type: tokens"),
        "{}",
        refused.text
    );

    world.provider.script(
        "scripted-upstream",
        Script {
            stall_after: Some(1),
            ..Script::default()
        },
    );
    let one = world.key(json!({"max_parallel_requests": 1})).await;
    let before = world.provider.books().requests;
    let chat = world.chat_as(&one, "hi");
    let holding = chat.clone();
    let open = tokio::spawn(async move { holding.read(9).await });
    while world.provider.books().requests == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = chat.send().await;
    assert_eq!(refused.status, 429);
    assert!(
        refused
            .message()
            .contains("Limit type: max_parallel_requests"),
        "{}",
        refused.text
    );
    // The slot comes back with the client that leaves.
    open.abort();
    assert!(open.await.is_err());
    world
        .provider
        .script("scripted-upstream", Script::default());
    let deadline = Instant::now() + Duration::from_secs(60);
    while chat.send().await.status != 200 {
        assert!(Instant::now() < deadline, "the slot leaks");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two deployments of one name with three slots together, whichever ingress a call comes through.
async fn limits_of_a_deployment_hold_for_all_ingresses_together(shape: Shape) {
    const SLOTS: usize = 3;
    let provider = Provider::start().await;
    let models: String = [("narrow-one", 1), ("narrow-two", 2)]
        .iter()
        .map(|(model, slots)| {
            format!(
                "  - model_name: narrow\n    litellm_params:\n      model: openai/{model}\n      \
                 api_base: {}\n      api_key: sk-narrow\n      max_parallel_requests: {slots}\n",
                provider.base_url()
            )
        })
        .collect();
    let paced = format!(
        "  - model_name: paced\n    litellm_params:\n      model: openai/paced\n      api_base: {}\n      \
         api_key: sk-narrow\n      rpm: {SLOTS}\n",
        provider.base_url()
    );
    let models = models + &paced;
    let world = World::with(shape, "").models(&models).start().await;
    for model in ["narrow-one", "narrow-two"] {
        provider.script(
            model,
            Script {
                stall_after: Some(1),
                ..Script::default()
            },
        );
    }
    let mut open = tokio::task::JoinSet::new();
    for _ in 0..4 * SLOTS {
        let chat = world
            .chat("hi")
            .with("model", "narrow")
            .with("stream", true);
        open.spawn(async move { chat.send().await });
    }
    // Those that found a slot never end.
    for _ in 0..3 * SLOTS {
        let refused = open.join_next().await.unwrap().unwrap();
        assert_eq!(refused.status, 429, "{}", refused.text);
        assert!(
            refused
                .message()
                .contains("Limit type: max_parallel_requests"),
            "{}",
            refused.text
        );
        assert_eq!(refused.header("retry-after"), "1");
    }
    assert_eq!(provider.books().requests, SLOTS as u64);
    open.shutdown().await;
    for model in ["narrow-one", "narrow-two"] {
        provider.script(model, Script::default());
    }
    let chat = world.chat("hi").with("model", "narrow");
    let deadline = Instant::now() + Duration::from_secs(60);
    while chat.send().await.status != 200 {
        assert!(Instant::now() < deadline, "the slots leak");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Calls a minute: as many as the deployment may have, from all of them at once.
    let minute = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60;
    let began = minute();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 * SLOTS {
        let chat = world.chat("hi").with("model", "paced");
        calls.spawn(async move { chat.send().await.status });
    }
    let statuses = calls.join_all().await;
    let answered = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)));
    let turned = minute() != began;
    assert!(
        answered == SLOTS || (turned && answered <= 2 * SLOTS),
        "{statuses:?}"
    );
}

/// A model without a known price is never free by silence.
async fn an_unpriced_model_is_visible_and_never_outruns_a_budget(shape: Shape) {
    let world = World::start(shape).await;
    let free = world.key(json!({})).await;
    let chat = world.chat_as(&free, "hi").with("model", "unpriced");
    assert_eq!(chat.send().await.status, 200);
    world.rows(1).await;
    assert_eq!(
        world.sql("select count() from usage_rows final where not priced"),
        "1"
    );

    let capped = world.key(json!({"max_budget": "2.5"})).await;
    let chat = world.chat_as(&capped, "hi").with("model", "unpriced");
    let mut served = 0;
    while chat.send().await.status == 200 {
        served += 1;
        assert!(
            served < 10,
            "an unpriced model under a budget goes on for ever"
        );
    }
    assert!(world.spend_of(&capped).await <= NanoUsd(2_500_000_000));
}

/// `max_end_user_budget`: nobody has made these customers known before.
async fn a_customers_budget_holds_on_every_ingress_and_after_a_kill(shape: Shape) {
    let budget = NanoUsd(CALL.0 * 3);
    let extra = format!("litellm_settings:\n  max_end_user_budget: {budget}\n");
    let mut world = World::with(shape, &extra).start().await;
    long_answers(&world.provider);
    let ask = async |world: &World, customer: &str| {
        let chat = world.chat("hi").with("max_tokens", 500);
        chat.with("user", customer).send().await
    };
    // A hold is a bit more than a call comes to: two fit for certain, and no third one in its worst case.
    for status in [200, 200, 429, 429] {
        let told = ask(&world, "eve").await;
        assert_eq!(told.status, status, "{}", told.text);
        if status == 429 {
            assert!(told.message().contains("Customer: eve"), "{}", told.text);
        }
    }
    assert_eq!(ask(&world, "bob").await.status, 200);
    world.rows(3).await;
    for ingress in &mut world.ingresses {
        ingress.again();
    }
    for at in 0..world.ingresses.len() {
        world.ingresses[at].ready().await;
    }
    for _ in 0..world.ingresses.len() {
        assert_eq!(ask(&world, "eve").await.status, 429);
    }
    assert_eq!(ask(&world, "bob").await.status, 200);
    world.rows(4).await;
    assert_eq!(world.ledger(), world.invoice());
}

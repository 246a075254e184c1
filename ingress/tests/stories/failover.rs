//! What happens when a provider does not answer: another one, under one budget of attempts and one bill.

use std::time::Duration;

use config::{Config, FailureKind, ModelEntry};
use schemas::{NanoUsd, Outcome};
use serde_json::json;

use crate::provider::{Provider, STREAM_HEAD, Step, plain, stream, whole};
use crate::world::{MASTER, Told, World, entry, in_one_minute};

pub const ERROR: &str = r#"{"error":{"message":"down","type":"server_error","code":null}}"#;

pub fn broken() -> Vec<Step> {
    whole("500 Oops", "application/json", "", ERROR)
}

/// `one` at a second provider too, under an id of its own.
pub fn second(base: &str, name: &str) -> ModelEntry {
    ModelEntry {
        deployment_id: format!("{name}-at-the-second"),
        ..entry(base, name, "up-2")
    }
}

/// `one` stands at the first provider, `spare` at the second.
pub async fn with_spare(change: impl FnOnce(&mut Config)) -> (World, Provider) {
    let spare = Provider::start().await;
    let base = spare.base();
    let world = World::with(|config| {
        config.models.push(second(&base, "spare"));
        config.routing.fallbacks.default = vec!["spare".into()];
        change(config);
    })
    .await;
    (world, spare)
}

pub fn header<'a>(told: &'a Told, name: &str) -> Option<&'a str> {
    told.headers.get(name).and_then(|value| value.to_str().ok())
}

#[tokio::test]
async fn a_failure_before_the_answer_is_not_seen() {
    let (world, spare) = with_spare(|_| {}).await;
    world.provider.script(broken());
    spare.script(plain("up-2"));
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(header(&told, "x-litellm-attempted-fallbacks"), Some("1"));
    assert_eq!(header(&told, "x-litellm-attempted-retries"), Some("0"));
    assert_eq!(header(&told, "x-litellm-max-fallbacks"), Some("1"));
    assert_eq!(
        header(&told, "x-litellm-model-id"),
        Some("spare-at-the-second")
    );
    assert_eq!(header(&told, "x-litellm-model-group"), Some("spare"));
    // A 500 produced nothing: one record, priced by the model that served it.
    let usages = world.ended(1).await;
    let tried: Vec<_> = usages[0]
        .attempts
        .iter()
        .map(|a| (&*a.deployment, &*a.why, a.failure.as_deref(), a.status))
        .collect();
    assert_eq!(
        tried,
        [
            ("id-of-one", "first", Some("internal_server_error"), 500),
            ("spare-at-the-second", "fallback", None, 200)
        ]
    );
    assert_eq!((usages[0].attempt_no, &*usages[0].model), (2, "up-2"));
    assert_eq!(usages[0].outcome, Outcome::Ok);
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_byte_goes_on_elsewhere() {
    let (world, spare) = with_spare(|_| {}).await;
    world
        .provider
        .script(vec![Step::Send(STREAM_HEAD.into()), Step::Cut]);
    spare.script(stream("up-2"));
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    assert_eq!(told.status, 200);
    assert!(told.text.ends_with("data: [DONE]\n\n"), "{}", told.text);
    assert!(!told.text.contains("error"), "{}", told.text);
    // It had begun, so it may charge: its prompt is on the bill, the answer is another record.
    let usages = world.ended(2).await;
    let tried: Vec<_> = usages.iter().map(|u| (u.attempt_no, u.last)).collect();
    assert_eq!(tried, [(1, false), (2, true)]);
    // The chain stands on the last record.
    assert_eq!((usages[0].attempts.len(), usages[1].attempts.len()), (0, 2));
    assert_eq!(&*usages[0].model, "up-1");
    assert!(usages[0].estimated && usages[0].meters.input_tokens() > 0);
}

#[tokio::test]
async fn what_is_no_answer_is_not_passed_on() {
    let html = whole("200 OK", "text/html", "", "<html>");
    let cut = whole("200 OK", "application/json", "", r#"{"id":"c-1","choi"#);
    for script in [html, cut] {
        let (world, spare) = with_spare(|_| {}).await;
        world.provider.script(script);
        spare.script(plain("up-2"));
        let told = world.chat(MASTER, json!({})).await;
        assert_eq!(told.status, 200, "{}", told.text);
        assert!(told.text.contains("hello"));
    }
}

#[tokio::test]
async fn a_silent_provider_is_left_after_its_own_time() {
    let (world, spare) = with_spare(|config| {
        config.models[0].timeouts.total = Duration::from_millis(200);
    })
    .await;
    world.provider.script(vec![Step::Stall]);
    spare.script(plain("up-2"));
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let usages = world.ended(2).await;
    assert_eq!(usages[0].error_code.as_deref(), Some("timeout_error"));
    assert_eq!(usages[0].status, 408);
}

#[tokio::test]
async fn when_all_fail_the_last_failure_is_told_once() {
    let (world, spare) = with_spare(|config| config.routing.retries.count = Some(0)).await;
    world.provider.script(broken());
    spare.script(whole(
        "429 Slow down",
        "application/json",
        "retry-after: 7\r\n",
        r#"{"error":{"message":"slow","code":"rate_limit"}}"#,
    ));
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(
        (told.status, header(&told, "retry-after")),
        (429, Some("7"))
    );
    assert_eq!(world.provider.bodies().len(), 1);
    assert_eq!(spare.bodies().len(), 1);
    world.ended(1).await;
}

#[tokio::test]
async fn fallbacks_follow_only_the_failures_that_are_listed() {
    let (world, spare) = with_spare(|config| {
        config.routing.fallbacks.on = Some(vec![FailureKind::Timeout]);
    })
    .await;
    world.provider.script(broken());
    spare.script(plain("up-2"));
    assert_eq!(world.chat(MASTER, json!({})).await.status, 500);
    assert!(spare.bodies().is_empty());
}

#[tokio::test]
async fn a_callers_mistake_goes_nowhere_else() {
    let (world, spare) = with_spare(|_| {}).await;
    let body = r#"{"error":{"message":"no such role","type":"invalid_request_error"}}"#;
    world
        .provider
        .script(whole("400 Bad", "application/json", "", body));
    assert_eq!(world.chat(MASTER, json!({})).await.status, 400);
    assert!(spare.bodies().is_empty());
}

/// Lists of their own for what a provider says of the prompt, by its words where it has no code for it; without
/// them the general list follows.
#[tokio::test]
async fn prompts_that_are_refused_take_their_own_lists() {
    let error = |message: &str, code: &str| {
        let error = json!({ "message": message, "type": "invalid_request_error", "code": code });
        let body = json!({ "error": error }).to_string();
        whole("400 Bad", "application/json", "", &body)
    };
    let too_long = [
        error("too long", "context_length_exceeded"),
        error("prompt is too long: 9 tokens > 8 maximum", ""),
    ];
    let refused = [
        error("no", "content_policy_violation"),
        error("it triggered our content management policy", ""),
    ];
    for own in [true, false] {
        let (wide, bold) = (Provider::start().await, Provider::start().await);
        let bases = [wide.base(), bold.base()];
        let (world, spare) = with_spare(|config| {
            config.models.push(second(&bases[0], "wide"));
            config.models.push(second(&bases[1], "bold"));
            if own {
                let list = |name: &str| [("one".to_owned(), vec![name.to_owned()])].into();
                config.routing.fallbacks.context_window = list("wide");
                config.routing.fallbacks.content_policy = list("bold");
            }
        })
        .await;
        for provider in [&spare, &wide, &bold] {
            provider.script(plain("up-2"));
        }
        for script in too_long.iter().chain(&refused) {
            world.provider.script(script.clone());
            let told = world.chat(MASTER, json!({})).await;
            assert_eq!(told.status, 200, "{}", told.text);
        }
        let asked = [&wide, &bold, &spare].map(|provider| provider.bodies().len());
        assert_eq!(asked, if own { [2, 2, 0] } else { [0, 0, 4] });
    }
}

#[tokio::test]
async fn retries_are_the_clients_to_ask_for() {
    let world = World::start().await;
    world.provider.script(broken());
    let told = world.chat(MASTER, json!({ "num_retries": 2 })).await;
    assert_eq!(told.status, 500);
    let bodies = world.provider.bodies();
    assert_eq!(bodies.len(), 3);
    let usages = world.ended(1).await;
    let why: Vec<_> = usages[0].attempts.iter().map(|a| &*a.why).collect();
    assert_eq!(why, ["first", "retry", "retry"]);
    assert!(usages[0].attempts.iter().skip(1).all(|a| a.wait_us > 0));
    assert!(bodies.iter().all(|body| !body.contains("num_retries")));
    // Alone, and nothing said: what the provider answered is told at once.
    world.chat(MASTER, json!({})).await;
    assert_eq!(world.provider.bodies().len(), 4);
}

#[tokio::test]
async fn clients_bring_their_own_fallbacks_within_what_their_key_may_use() {
    let (world, spare) = with_spare(|config| config.routing.fallbacks.default.clear()).await;
    world.provider.script(broken());
    spare.script(plain("up-2"));
    let own = json!({ "fallbacks": ["spare"] });
    assert_eq!(world.chat(MASTER, own.clone()).await.status, 200);
    let key = world.key(json!({ "models": ["one"] })).await;
    assert_eq!(world.chat(&key, own).await.status, 403);
}

#[tokio::test]
async fn one_that_cools_down_is_not_asked() {
    let other = Provider::start().await;
    let base = other.base();
    let world = World::with(|config| {
        config.models.push(second(&base, "one"));
        config.routing.cooldown.time = Duration::from_secs(60);
        config.routing.retries.count = Some(1);
    })
    .await;
    let slow = whole("429 No", "application/json", "", ERROR);
    world.provider.script(slow.clone());
    other.script(plain("up-2"));
    for _ in 0..20 {
        assert_eq!(world.chat(MASTER, json!({})).await.status, 200);
    }
    assert!(world.provider.bodies().len() <= 1);
    // Both: nothing is sent, and the client is told when to come back.
    other.script(slow);
    world.chat(MASTER, json!({})).await;
    let seen = (world.provider.bodies().len(), other.bodies().len());
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(told.status, 429, "{}", told.text);
    assert!(
        told.text
            .contains("No deployments available for selected model, Try again in")
    );
    assert!(header(&told, "retry-after").is_some());
    assert_eq!((world.provider.bodies().len(), other.bodies().len()), seen);
}

/// `used + held` never passes the limit: the second attempt goes out only if what the first may have cost
/// and its own worst case fit in together.
#[tokio::test]
async fn another_attempt_never_overspends_a_budget() {
    // A prompt of 1,100 bytes and 100 tokens of answer: 0.0013 USD are held, and 0.0003 may be charged
    // for the first attempt.
    let text = "word ".repeat(200);
    let ask = || {
        let messages = json!([{ "role": "user", "content": text }]);
        json!({ "max_tokens": 100, "stream": true, "messages": messages })
    };
    let cut = || vec![Step::Send(STREAM_HEAD.into()), Step::Cut];
    for (limit, answered) in [(0.1, true), (0.0014, false)] {
        let (world, spare) = with_spare(|_| {}).await;
        world.provider.script(cut());
        spare.script(stream("up-2"));
        let key = world.key(json!({ "max_budget": limit })).await;
        let told = world.chat(&key, ask()).await;
        assert_eq!(told.status == 200, answered, "{limit}: {}", told.text);
        assert_eq!(spare.bodies().len(), usize::from(answered));
        let usages = world.ended(if answered { 2 } else { 1 }).await;
        assert!(usages.last().unwrap().last);
        let stats = world.gateway.budgets.stats();
        assert_eq!((stats.open, stats.cost_over_hold), (0, 0));
        assert!(usages.iter().all(|usage| usage.hold > NanoUsd::ZERO));
    }
}

#[tokio::test]
async fn a_deployments_own_limit_sends_calls_on() {
    let asked = in_one_minute(async || {
        let (world, spare) = with_spare(|config| {
            config.models[0].limits.rpm = Some(2);
        })
        .await;
        world.provider.script(plain("up-1"));
        spare.script(plain("up-2"));
        for _ in 0..5 {
            assert_eq!(world.chat(MASTER, json!({})).await.status, 200);
        }
        let usages = world.ended(5).await;
        assert!(usages.iter().all(|usage| usage.attempt_no == 1));
        assert_eq!(world.gateway.budgets.stats().open, 0);
        (world.provider.bodies().len(), spare.bodies().len())
    });
    assert_eq!(asked.await, (2, 3));
}

#[tokio::test]
async fn a_full_deployment_without_another_is_a_limit() {
    let world = World::with(|config| config.models[0].limits.rpm = Some(1)).await;
    world.provider.script(plain("up-1"));
    assert_eq!(world.chat(MASTER, json!({})).await.status, 200);
    let told = in_one_minute(async || {
        world.chat(MASTER, json!({})).await;
        world.chat(MASTER, json!({})).await
    });
    let told = told.await;
    assert_eq!(told.status, 429);
    assert!(
        told.text.contains("Rate limit exceeded for model: one"),
        "{}",
        told.text
    );
}

#[tokio::test]
async fn names_with_weights_answer_for_each_other() {
    let other = Provider::start().await;
    let base = other.base();
    let world = World::with(|config| {
        config.models.push(ModelEntry {
            upstream_model: "up-1".to_owned(),
            ..second(&base, "two")
        });
        config.routing.weights = [("one".to_owned(), 0.6), ("two".to_owned(), 0.4)].into();
    })
    .await;
    world.provider.script(plain("up-1"));
    other.script(plain("up-1"));
    for name in ["one", "two", "up-1", "one", "one"] {
        assert_eq!(
            world.chat(MASTER, json!({ "model": name })).await.status,
            200
        );
    }
    assert_eq!(
        (world.provider.bodies().len(), other.bodies().len()),
        (3, 2)
    );
}

#[tokio::test]
async fn long_prompts_skip_small_windows_and_take_their_own_list() {
    let (world, spare) = with_spare(|config| {
        config.models[0].limits.max_input_tokens = Some(50);
        config.routing.pre_call_checks = true;
        let list = vec!["spare".to_owned()];
        config.routing.fallbacks.default.clear();
        config.routing.fallbacks.context_window = [("one".to_owned(), list)].into();
    })
    .await;
    world.provider.script(plain("up-1"));
    spare.script(plain("up-2"));
    let says = |text: &str| json!({ "messages": [{ "role": "user", "content": text }] });
    // More bytes than the window has tokens, and yet it fits.
    let short = "a long word: ".repeat(8);
    assert_eq!(world.chat(MASTER, says(&short)).await.status, 200);
    assert_eq!(
        (world.provider.bodies().len(), spare.bodies().len()),
        (1, 0)
    );
    let long = "a b c d ".repeat(50);
    assert_eq!(world.chat(MASTER, says(&long)).await.status, 200);
    assert_eq!(
        (world.provider.bodies().len(), spare.bodies().len()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_prompt_that_fits_nowhere_is_refused_unsent() {
    let world = World::with(|config| {
        config.models[0].limits.max_input_tokens = Some(50);
        config.routing.pre_call_checks = true;
    })
    .await;
    let long = "a b c d ".repeat(50);
    let body = json!({ "messages": [{ "role": "user", "content": long }] });
    let told = world.chat(MASTER, body).await;
    assert_eq!(told.status, 400);
    assert!(
        told.text.contains("context_length_exceeded"),
        "{}",
        told.text
    );
    assert!(world.provider.bodies().is_empty());
}

#[tokio::test]
async fn thresholds_send_small_calls_to_the_cheap_model() {
    let (world, cheap) = with_spare(|config| {
        config.routing.cost_threshold = Some(NanoUsd(1_000_000));
        config.models[0].hints.cost = Some(NanoUsd(30_000_000));
        for model in &mut config.models {
            model.upstream_model = format!("unpriced-{}", model.upstream_model);
        }
        let last = config.models.last_mut().unwrap();
        last.hints.cost = Some(NanoUsd(500_000));
    })
    .await;
    world.provider.script(plain("up-1"));
    cheap.script(plain("up-2"));
    // 0.03 USD per 1,000 tokens: 1,000 tokens of answer are over the threshold, 5 are below.
    assert_eq!(
        world
            .chat(MASTER, json!({ "max_tokens": 1000 }))
            .await
            .status,
        200
    );
    assert_eq!(
        (world.provider.bodies().len(), cheap.bodies().len()),
        (1, 0)
    );
    assert_eq!(
        world.chat(MASTER, json!({ "max_tokens": 5 })).await.status,
        200
    );
    assert_eq!(
        (world.provider.bodies().len(), cheap.bodies().len()),
        (1, 1)
    );
}

/// Two deployments of `one`, each with limits of its own.
async fn narrow(change: impl Fn(&mut ModelEntry)) -> (World, Provider) {
    let other = Provider::start().await;
    let base = other.base();
    let world = World::with(|config| {
        config.models.push(second(&base, "one"));
        for model in &mut config.models {
            if &*model.model_name == "one" {
                change(model);
            }
        }
        config.routing.retries.count = Some(0);
    })
    .await;
    (world, other)
}

fn served_by(told: &Told) -> String {
    told.header("x-litellm-model-id").to_owned()
}

#[tokio::test]
async fn a_full_deployment_leaves_the_call_to_another_and_the_last_one_says_which_limit() {
    let (world, other) = narrow(|model| model.limits.rpm = Some(1)).await;
    for provider in [&world.provider, &other] {
        for _ in 0..4 {
            provider.script(plain("up-1"));
        }
    }
    let mut served = Vec::new();
    let refused = loop {
        let told = world.chat(MASTER, json!({})).await;
        if told.status != 200 {
            break told;
        }
        served.push(served_by(&told));
        // The minute turns at most once.
        assert!(served.len() <= 4, "a limit of 1 is passed: {served:?}");
    };
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(
        refused
            .message()
            .contains("Limit type: requests. Current limit: 1"),
        "{}",
        refused.text
    );
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    served.sort_unstable();
    served.dedup();
    assert_eq!(served, ["id-of-one", "one-at-the-second"]);
}

#[tokio::test]
async fn slots_and_tokens_of_a_deployment_come_back() {
    let (world, other) = narrow(|model| {
        model.limits.max_parallel_requests = Some(1);
        model.limits.tpm = Some(100_000);
    })
    .await;
    for provider in [&world.provider, &other] {
        provider.script(vec![Step::Send(STREAM_HEAD.into()), Step::Stall]);
    }
    let mut open = Vec::new();
    for _ in 0..2 {
        let sent = reqwest::Client::new()
            .post(world.url("/v1/chat/completions"))
            .bearer_auth(MASTER)
            .json(&crate::world::request(json!({ "stream": true })))
            .send();
        open.push(tokio::spawn(sent));
    }
    while world.provider.bodies().len() + other.bodies().len() < 2 {
        tokio::task::yield_now().await;
    }
    let refused = world.chat(MASTER, json!({})).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(
        refused.message().contains("max_parallel_requests"),
        "{}",
        refused.text
    );
    assert_eq!(refused.header("retry-after"), "1");
    for call in open {
        call.abort();
    }
    // What failed without an answer gives back its tokens as well.
    for provider in [&world.provider, &other] {
        for _ in 0..3 {
            provider.script(broken());
        }
    }
    let mut failed = 0;
    while failed < 3 {
        let told = world.chat(MASTER, json!({ "max_tokens": 60_000 })).await;
        assert!(!told.text.contains("Limit type: tokens"), "{}", told.text);
        failed += usize::from(told.status == 500);
        tokio::task::yield_now().await;
    }
}

//! A file that changes while calls are open.

use std::time::Duration;

use config::Strategy;
use futures_util::StreamExt;
use ingress::reload::ReloadError;
use schemas::NanoUsd;
use serde_json::json;

use crate::provider::{Provider, Step, plain, stream, tokens, whole};
use crate::world::{MASTER, World, bill, entry, request};

const ERROR: &str = r#"{"error":{"message":"down","type":"server_error","code":null}}"#;

#[tokio::test]
async fn an_open_stream_ends_as_it_began() {
    let world = World::start().await;
    let mut steps = stream("up-1");
    steps.insert(3, Step::Hold);
    world.provider.script(steps);
    let open = world
        .http
        .post(world.url("/v1/chat/completions"))
        .bearer_auth(MASTER)
        .body(request(json!({ "stream": true })).to_string())
        .send()
        .await
        .unwrap();
    let mut open = open.bytes_stream();
    let mut text = open.next().await.unwrap().unwrap().to_vec();
    // Its model goes, and another comes.
    let base = world.provider.base();
    world
        .reload(|config| config.models = vec![entry(&base, "two", "up-2")])
        .await
        .unwrap();
    assert_eq!(world.chat(MASTER, json!({})).await.status, 400);
    world.provider.let_go();
    while let Some(more) = open.next().await {
        text.extend(more.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("w4") && text.ends_with("data: [DONE]\n\n"),
        "{text}"
    );
    world.provider.script(plain("up-2"));
    assert_eq!(
        world.chat(MASTER, json!({ "model": "two" })).await.status,
        200
    );
    let usages = world.ended(2).await;
    assert_eq!((&*usages[0].model, &*usages[1].model), ("up-1", "up-2"));
    assert!(bill(&usages[0]) > NanoUsd::ZERO && !usages[0].estimated);
    world.stop().await;
}

#[tokio::test]
async fn what_is_learnt_of_a_deployment_survives_what_does_not_change_it() {
    let spare = Provider::start().await;
    let base = spare.base();
    let world = World::start().await;
    let with_spare = |config: &mut config::Config| {
        let mut second = entry(&base, "one", "up-2");
        second.deployment_id = "the-spare".into();
        config.models.push(second);
        config.routing.cooldown.allowed_fails = Some(0);
        config.routing.cooldown.time = Duration::from_secs(600);
    };
    world.reload(with_spare).await.unwrap();
    world
        .provider
        .script(whole("500 Oops", "application/json", "", ERROR));
    spare.script(plain("up-2"));
    // Until the first was tried, failed and was left alone.
    while world.provider.bodies().is_empty() {
        assert_eq!(world.chat(MASTER, json!({})).await.status, 200);
    }
    let answered = |world: &World| {
        let models = world.gateway.models.load();
        let (_, one) = models
            .deployments()
            .find(|(_, d)| &*d.id == "id-of-one")
            .unwrap();
        (
            one.state.cooled_until(world.gateway.moment()).is_some(),
            one.metrics
                .requests
                .load(std::sync::atomic::Ordering::Relaxed),
        )
    };
    let before = answered(&world);
    assert!(before.0);
    // Another rule, another default time-out for all: the same deployments.
    world
        .reload(|config| {
            with_spare(config);
            config.routing.strategy = Strategy::LeastBusy;
            for model in &mut config.models {
                model.timeouts.total = Duration::from_secs(19);
            }
        })
        .await
        .unwrap();
    assert_eq!(answered(&world), before);
    let connections = spare.connections();
    for _ in 0..4 {
        let told = world.chat(MASTER, json!({})).await;
        assert_eq!(
            (told.status, told.header("x-litellm-model-id")),
            (200, "the-spare")
        );
    }
    // Each of the two serving threads may open one of its own.
    assert!(
        spare.connections() <= connections.max(2),
        "connections are kept"
    );
    // Another key is another chance; what was counted stays.
    world
        .reload(|config| {
            with_spare(config);
            config.models[0].api_key = Some(config::Secret::new("sk-a-new-one"));
        })
        .await
        .unwrap();
    assert_eq!(answered(&world), (false, before.1));
    world.stop().await;
}

#[tokio::test]
async fn settings_of_calls_change_and_a_fault_changes_nothing() {
    let world = World::start().await;
    world.provider.script(plain("up-1"));
    world
        .reload(|config| {
            config.limits.body_bytes_max = 40;
            config.budgets.global_max_budget = Some(NanoUsd(1));
            config.routing.aliases.insert("alias".into(), "one".into());
        })
        .await
        .unwrap();
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(told.status, 413, "{}", told.text);
    world
        .reload(|config| {
            config.budgets.global_max_budget = Some(NanoUsd(1));
            config.budgets.refusal_status = 402;
            config.routing.aliases.insert("alias".into(), "one".into());
        })
        .await
        .unwrap();
    let told = world.chat(MASTER, json!({ "model": "alias" })).await;
    assert_eq!(told.status, 402, "{}", told.text);

    let error = world
        .reload(|config| config.models[1].api_base = "not a url".into())
        .await
        .unwrap_err();
    assert!(matches!(error, ReloadError::File(_)), "{error}");
    assert!(
        error.to_string().contains("model up-2: its api_base"),
        "{error}"
    );
    assert_eq!(
        world.chat(MASTER, json!({ "model": "alias" })).await.status,
        402
    );
    world.gateway.reloads.standing.failed(&error.to_string());
    let ready = world.get("/health/readiness").await;
    assert_eq!(ready.status, 200);
    assert!(
        ready
            .text
            .contains("the configuration file is not in force"),
        "{}",
        ready.text
    );
    let metrics = world.get("/metrics").await.text;
    assert!(
        metrics.contains("tollgate_config_reload_failures_total 1"),
        "{metrics}"
    );

    world.reload(|_| {}).await.unwrap();
    assert_eq!(world.chat(MASTER, json!({})).await.status, 200);
    assert_eq!(
        world.get("/health/readiness").await.json()["degraded"],
        json!([])
    );
    world.stop().await;
}

#[tokio::test]
async fn time_outs_of_connections_change_without_a_start() {
    let world = World::start().await;
    let mut steps = tokens("up-1", 2);
    steps.push(Step::Stall);
    world.provider.script(steps);
    world
        .reload(|config| config.models[0].timeouts.idle = Duration::from_millis(150))
        .await
        .unwrap();
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    assert!(
        !told.is_done() && told.text.contains("timeout"),
        "{}",
        told.text
    );
    world.provider.script(vec![Step::Stall]);
    world
        .reload(|config| config.models[0].timeouts.first_byte = Some(Duration::from_millis(150)))
        .await
        .unwrap();
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    assert_eq!(told.status, 408, "{}", told.text);
    world.stop().await;
}

#[tokio::test]
async fn metrics_take_no_path_that_is_a_route_already() {
    let world = World::start().await;
    for taken in ["/health", "/v1/chat/completions", "/routes", "/key/info"] {
        let refused = world
            .reload(|config| config.server.metrics.path = Some(taken.to_owned()))
            .await;
        let told = refused.unwrap_err().to_string();
        assert!(told.contains(taken), "{told}");
    }
    let moved = world.reload(|config| config.server.metrics.path = Some("/internal".to_owned()));
    moved.await.unwrap();
    assert_eq!(world.get("/internal").await.status, 200);
}

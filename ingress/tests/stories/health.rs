//! How deployments do, as calls and checks find it; and what LiteLLM's clients ask a proxy of itself.

use std::time::Duration;

use config::{AlertPost, AlertShape, Alerts, Looks, ModelEntry, PaidCheck, Secret};
use schemas::{NanoUsd, Outcome};
use serde_json::json;

use crate::failover::{ERROR, second, with_spare};
use crate::provider::{Provider, plain, whole};
use crate::world::{MASTER, PATIENCE, World};

#[tokio::test]
async fn health_tells_what_calls_and_free_checks_found() {
    let (world, spare) = with_spare(|config| {
        assert_eq!(config.routing.health.interval, Duration::from_secs(30));
        config.routing.health.interval = Duration::from_millis(50);
        // Nobody said `background_health_checks: true`, so this costs nothing either.
        config.models[0].hints.check.paid = Some(PaidCheck {
            max_tokens: 1,
            model: None,
        });
        config.routing.cooldown.time = Duration::from_secs(60);
        config
            .models
            .retain(|model| model.model_name == "one" || model.model_name == "spare");
    })
    .await;
    // Answers anything, its list of models too.
    world.provider.script(plain("up-1"));
    spare.script(whole("503 Down", "application/json", "", ERROR));
    let health = async || -> serde_json::Value {
        serde_json::from_str(&world.get("/health").await.text).unwrap()
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let told = health().await;
        if told["unhealthy_count"] == 1 {
            assert_eq!(
                told["unhealthy_endpoints"][0]["model_id"],
                "spare-at-the-second"
            );
            assert_eq!(told["healthy_endpoints"][0]["model_name"], "one");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{told}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // No paid call is made, and the list is not for everybody.
    let heads = [world.provider.heads(), spare.heads()].concat();
    assert!(heads.iter().all(|head| head.starts_with("GET /v1/models ")));
    let nobody = world.http.get(world.url("/health")).send().await.unwrap();
    assert_eq!(nobody.status(), 401);
}

/// However many deployments a provider has under one key, its list is asked for once a round.
#[tokio::test]
async fn deployments_at_one_place_are_looked_at_once() {
    let world = World::with(|config| {
        config.models.truncate(2);
        for at in 0..8 {
            let mut again = config.models[0].clone();
            again.deployment_id = format!("again-{at}");
            config.models.push(again);
        }
        config.models[1].api_key = Some(Secret::new("sk-of-another"));
        config.routing.health.looks = Looks::All;
        config.routing.health.interval = Duration::from_secs(3_600);
    })
    .await;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let told = world.get("/health").await.json();
        let all = told["healthy_endpoints"].as_array().unwrap();
        if all
            .iter()
            .filter(|one| one["checked_s_ago"].is_number())
            .count()
            == 10
        {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{told}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut keys: Vec<String> = world
        .provider
        .heads()
        .iter()
        .filter_map(|head| {
            head.lines()
                .find_map(|line| line.strip_prefix("authorization: "))
        })
        .map(str::to_owned)
        .collect();
    keys.sort();
    assert_eq!(keys, ["Bearer sk-of-another", "Bearer sk-upstream-secret"]);
}

/// `enable_health_check_routing`: what a check found down is asked last.
#[tokio::test]
async fn what_a_check_finds_down_is_asked_last_where_the_file_says_so() {
    for steer in [true, false] {
        let other = Provider::start().await;
        let base = other.base();
        let world = World::with(|config| {
            config.models.truncate(1);
            config.models.push(second(&base, "one"));
            config.routing.health.looks = Looks::All;
            config.routing.health.interval = Duration::from_millis(50);
            config.routing.health.steer = steer;
        })
        .await;
        world.provider.script(plain("up-1"));
        other.script(whole("503 Down", "application/json", "", ERROR));
        let deadline = std::time::Instant::now() + PATIENCE;
        while world.get("/health").await.json()["unhealthy_count"] != 1 {
            assert!(std::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..30 {
            assert_eq!(world.chat(MASTER, json!({})).await.status, 200);
        }
        let heads = other.heads();
        let called = heads.iter().any(|head| head.starts_with("POST "));
        assert_eq!(called, !steer);
    }
}

/// Only where the file asks for it, and then it is on the operator's bill like any other call.
#[tokio::test]
async fn a_paid_check_is_asked_for_and_billed() {
    let (world, spare) = with_spare(|config| {
        config.routing.health.looks = Looks::All;
        config.routing.health.interval = Duration::from_millis(50);
        config
            .models
            .retain(|model| model.model_name == "one" || model.model_name == "spare");
        config.models[0].hints.check.paid = Some(PaidCheck {
            max_tokens: 1,
            model: Some("openai/up-1".to_owned()),
        });
        config.models[1].hints.check.disabled = true;
    })
    .await;
    world.provider.script(plain("up-1"));
    let usage = world.ended(1).await.remove(0);
    assert_eq!(usage.outcome, Outcome::Ok);
    assert_eq!(
        &*usage.deployment,
        &*world.gateway.config().models[0].deployment_id
    );
    assert!(usage.meters.output_tokens() > 0 && crate::world::bill(&usage) > NanoUsd::ZERO);
    assert_eq!(usage.attribution.key, None);
    let tags: Vec<&str> = usage.attribution.tags.iter().map(|tag| &**tag).collect();
    assert_eq!(tags, ["litellm-internal-health-check"]);
    let sent = world.provider.bodies().remove(0);
    assert!(sent.contains(r#""max_tokens":1"#), "{sent}");
    // Paid ones are far apart, and who is not to be looked at is not.
    assert_eq!(
        world
            .gateway
            .config()
            .routing
            .health
            .interval_paid
            .as_secs(),
        300
    );
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let told = world.get("/health?model=one").await.json();
        assert_eq!(
            (&told["healthy_count"], &told["unhealthy_count"]),
            (&json!(1), &json!(0))
        );
        let one = &told["healthy_endpoints"][0];
        assert_eq!(one["check"], "paid call");
        if one["checked_s_ago"].is_number() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{told}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.provider.bodies().len(), 1);
    assert!(spare.heads().is_empty());
}

#[tokio::test]
async fn metrics_tell_how_each_deployment_does() {
    let (world, spare) = with_spare(|config| {
        config.routing.cooldown.time = Duration::from_secs(60);
        config.models.push(ModelEntry {
            deployment_id: "one-again".to_owned(),
            ..config.models[0].clone()
        });
    })
    .await;
    world
        .provider
        .script(whole("429 No", "application/json", "", ERROR));
    spare.script(plain("up-2"));
    assert_eq!(world.chat(MASTER, json!({})).await.status, 200);
    let text = world.get("/metrics").await.text;
    let value = |name: &str, id: &str| -> Option<f64> {
        let label = format!("model_id=\"{id}\"");
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")) && line.contains(&label))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let (state, left) = (
        "litellm_deployment_state",
        "tollgate_deployment_cooldown_seconds",
    );
    assert_eq!(value(state, "spare-at-the-second"), Some(0.0));
    assert_eq!(value(left, "spare-at-the-second"), Some(0.0));
    assert_eq!(value(state, "one-again"), Some(2.0));
    assert!(value(left, "one-again").unwrap() > 50.0);
    for (name, id, count) in [
        ("litellm_deployment_cooled_down", "one-again", 1.0),
        ("litellm_deployment_cooled_down", "spare-at-the-second", 0.0),
        (
            "litellm_deployment_successful_fallbacks",
            "spare-at-the-second",
            1.0,
        ),
        (
            "litellm_deployment_failed_fallbacks",
            "spare-at-the-second",
            0.0,
        ),
        ("litellm_deployment_failure_responses", "one-again", 1.0),
    ] {
        assert_eq!(value(name, id), Some(count), "{name} {id}");
    }
    let first = "tollgate_deployment_time_to_first_token_seconds";
    assert!(value(first, "spare-at-the-second").unwrap() > 0.0);
    assert_eq!(value(first, "one-again"), None);
}

#[tokio::test]
async fn what_a_proxy_tells_of_itself_has_litellms_shape() {
    let world = World::start().await;
    let told = world.get("/health/shared-status").await.json();
    assert_eq!(told["shared_health_check_enabled"], false);
    assert_eq!(world.get("/test").await.json(), json!({ "route": "/test" }));
    let ready = world.get("/health/readiness").await.json();
    assert_eq!(ready["status"], "connected");
    for name in ["db", "litellm_version", "last_updated"] {
        assert!(ready[name].is_string(), "{ready}");
    }
    // Whatever is listed is there, for the method that is listed.
    let told = world.get("/routes").await.json();
    let routes = told["routes"].as_array().unwrap();
    for route in routes {
        let path = route["path"].as_str().unwrap();
        let path = path.replace("{model}", "one").replace("{id}", "id-of-one");
        let method = route["methods"][0].as_str().unwrap().parse().unwrap();
        let answer = world.http.request(method, world.url(&path));
        let status = answer.send().await.unwrap().status().as_u16();
        assert!(![404, 405].contains(&status), "{path}: {status}");
    }
    let listed = |path: &str| routes.iter().any(|route| route["path"] == path);
    for path in [
        "/v1/chat/completions",
        "/v2/rerank",
        "/openai/deployments/{model}/embeddings",
        "/key/generate",
        "/model/{id}/update",
        "/spend/logs",
        "/cache/ping",
        "/metrics",
        "/routes",
    ] {
        assert!(listed(path), "{path}");
    }
    for path in [
        "/health",
        "/health/services",
        "/health/shared-status",
        "/routes",
        "/test",
    ] {
        let nobody = world.http.get(world.url(path)).send().await.unwrap();
        assert_eq!(nobody.status(), 401, "{path}");
    }
}

/// A test of what is set up is an alert that goes there and nowhere else; of anything else, a refusal that says why.
#[tokio::test]
async fn an_alert_can_be_seen_to_arrive() {
    let world = World::with(|config| {
        let post = |shape| AlertPost {
            url: Secret::new("http://127.0.0.1:1/"),
            shape,
            budgets: true,
            exceptions: true,
        };
        config.alerts = Some(Alerts {
            budgets: true,
            exceptions: true,
            posts: vec![post(AlertShape::Slack)],
        });
    })
    .await;
    let alerts = world.gateway.alerts.as_ref().unwrap();
    let mut inbox = alerts.inbox().unwrap();
    let ask = async |service: &str| {
        let route = format!("/health/services?service={service}");
        world.get(&route).await
    };
    let told = ask("slack").await;
    assert_eq!(
        (told.status, &told.json()["status"]),
        (200, &json!("success"))
    );
    let sent = inbox.try_recv().unwrap();
    assert!(sent.goes_to(&alerts.posts()[0]), "{sent:?}");
    for (service, says) in [
        ("webhook", "is not set up"),
        ("langfuse", "does not take effect"),
        ("what", "must be one of slack,"),
    ] {
        let told = ask(service).await;
        assert_eq!(told.status, 400, "{service}");
        assert!(told.message().contains(says), "{}", told.text);
    }
    assert!(inbox.try_recv().is_err());
    let key = world.key(json!({})).await;
    let url = world.url("/health/services?service=slack");
    let sent = world.http.get(url).bearer_auth(&key).send().await.unwrap();
    assert_eq!(sent.status(), 403);
}

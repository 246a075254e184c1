//! Answers that are not what they seem, and what nobody is to see of the other side.

use std::sync::Arc;

use async_trait::async_trait;
use ingress::{Complete, Found, Lookup, SemanticCache, Ticket, Unavailable};
use schemas::{Attribution, NanoUsd, Outcome};
use serde_json::json;

use crate::failover::{header, with_spare};
use crate::provider::{STREAM_HEAD, Step, chunk, last_chunk, plain, stream, whole};
use crate::world::{INPUT, MASTER, OUTPUT, Shared, Told, World, bill, request};

const JSON: &str = "application/json";

/// Some gateways say so of a model that failed behind them.
#[tokio::test]
async fn an_error_is_one_whatever_its_status_says() {
    let error = r#"{"error":{"message":"it fell over","code":503}}"#;
    let (world, spare) = with_spare(|_| {}).await;
    world.provider.script(whole("200 OK", JSON, "", error));
    spare.script(plain("up-2"));
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(header(&told, "x-litellm-attempted-fallbacks"), Some("1"));
    let usage = world.ended(1).await.remove(0);
    assert_eq!(usage.attempts[0].status, 503, "an error is not billed");

    let world = World::start().await;
    for streamed in [false, true] {
        world.provider.script(whole("200 OK", JSON, "", error));
        let told = world.chat(MASTER, json!({ "stream": streamed })).await;
        assert_eq!(
            (told.status, told.header("x-litellm-response-cost")),
            (503, "0.0")
        );
        assert!(told.message().ends_with("it fell over"), "{}", told.text);
    }
    let usages = world.ended(2).await;
    assert!(usages.iter().all(|usage| usage.outcome == Outcome::Error));
}

/// A provider that does not stream has made its answer all the same.
#[tokio::test]
async fn a_whole_answer_where_a_stream_was_asked_for_is_billed() {
    let (world, spare) = with_spare(|_| {}).await;
    world.provider.script(plain("up-1"));
    spare.script(stream("up-2"));
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    assert!(
        told.is_done() && !told.text.contains("\"error\""),
        "{}",
        told.text
    );
    let usages = world.ended(2).await;
    assert_eq!((usages[0].last, usages[0].estimated), (false, false));
    let cost = NanoUsd(10 * INPUT + 5 * OUTPUT);
    assert_eq!((bill(&usages[0]), bill(&usages[1])), (cost, cost));
}

/// However it is cut, and whatever it is called: nobody has seen anything of it yet.
#[tokio::test]
async fn a_stream_that_begins_with_an_error_goes_on_elsewhere() {
    let error = r#"{"error":{"message":"overloaded","code":529}}"#;
    let (first, rest) = error.split_at(9);
    let cut = vec![
        Step::Send(STREAM_HEAD.into()),
        chunk(&format!("data: {first}")),
        Step::Pause(std::time::Duration::from_millis(30)),
        chunk(&format!("{rest}\n\n")),
        last_chunk(),
    ];
    let named = vec![
        Step::Send(STREAM_HEAD.into()),
        chunk("event: error\ndata: {\"type\":\"error\",\"message\":\"overloaded\"}\n\n"),
        last_chunk(),
    ];
    for script in [cut, named] {
        let (world, spare) = with_spare(|_| {}).await;
        world.provider.script(script);
        spare.script(stream("up-2"));
        let told = world.chat(MASTER, json!({ "stream": true })).await;
        assert!(told.is_done(), "{}", told.text);
        assert!(!told.text.contains("overloaded"), "{}", told.text);
        world.ended(1).await;
    }
}

/// An empty account is no fault of the caller's.
#[tokio::test]
async fn what_is_the_deployments_fault_is_asked_elsewhere() {
    let error = r#"{"error":{"message":"no","code":null}}"#;
    for status in ["402 Pay", "405 Not that", "409 Conflict", "410 Gone"] {
        let (world, spare) = with_spare(|_| {}).await;
        world.provider.script(whole(status, JSON, "", error));
        spare.script(plain("up-2"));
        let told = world.chat(MASTER, json!({})).await;
        assert_eq!(told.status, 200, "{status}: {}", told.text);
    }
}

/// Neither of the two sees what is meant for the gateway alone.
#[tokio::test]
async fn nothing_of_one_side_is_shown_to_the_other() {
    let world = World::start().await;
    let more =
        "set-cookie: session=of-the-provider\r\nkeep-alive: timeout=5\r\nx-request-id: up-77\r\n";
    let body = crate::provider::completion("up-1", "");
    world.provider.script(whole("200 OK", JSON, more, &body));
    let sent = world
        .http
        .post(world.url("/v1/chat/completions"))
        .bearer_auth(MASTER)
        .header("cookie", "session=of-the-client")
        .header("x-api-key", "of-the-client")
        .header("x-forwarded-for", "10.1.2.3")
        .header("accept-encoding", "gzip, br")
        .header("traceparent", "00-1-2-01")
        .body(request(json!({})).to_string());
    let told = Told::read(sent.send().await.unwrap()).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let head = world.provider.heads().pop().unwrap();
    let mut names: Vec<&str> = head
        .lines()
        .skip(1)
        .map(|line| line.split_once(':').unwrap().0)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept-encoding",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "user-agent"
        ]
    );
    assert!(head.contains("accept-encoding: identity"), "{head}");
    let cookies = told
        .headers
        .keys()
        .filter(|name| name.as_str().contains("cookie"));
    assert_eq!(cookies.count(), 0);
    assert_eq!(told.header("llm_provider-keep-alive"), "");
    assert_eq!(told.header("llm_provider-x-request-id"), "up-77");

    // Some providers repeat the key that they do not know.
    let error = r#"{"error":{"message":"Incorrect API key provided: sk-upstream-secret."}}"#;
    world.provider.script(whole("401 No", JSON, "", error));
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(told.status, 401);
    assert_eq!(told.message(), "Incorrect API key provided: [redacted].");
}

/// A cache that waits for the same call of another, which never comes back.
struct Waits;

#[async_trait]
impl SemanticCache for Waits {
    async fn lookup(&self, _: Lookup<'_>) -> Found {
        std::future::pending().await
    }
    async fn store(&self, _: Ticket, _: Complete) {}
    async fn forget(&self, _: Option<&Attribution>, _: &str) -> Result<bool, Unavailable> {
        Err(Unavailable)
    }
    fn settings(&self, _: &config::Cache) {}
    fn state(&self) -> &'static str {
        "exact"
    }
    fn metrics(&self, _: &mut String) {}
}

#[tokio::test]
async fn nobody_waits_for_the_cache_beyond_their_own_deadline() {
    let shared = Shared {
        cache: Some(Arc::new(Waits)),
        ..Shared::default()
    };
    let world = World::sharing(|_| {}, journal::Options::default(), shared).await;
    let key = world.key(json!({ "max_budget": 1 })).await;
    let sent = world
        .http
        .post(world.url("/v1/chat/completions"))
        .bearer_auth(&key)
        .header("x-litellm-timeout", "0.2")
        .body(request(json!({})).to_string());
    let told = Told::read(sent.send().await.unwrap()).await;
    assert_eq!(told.status, 408, "{}", told.text);
    assert_eq!(told.json()["error"]["type"], "timeout_error");
    assert!(world.provider.bodies().is_empty(), "nothing was sent");
    let usage = world.ended(1).await.remove(0);
    assert_eq!(bill(&usage), NanoUsd::ZERO);
    assert_eq!(world.gateway.budgets.stats().open, 0);
}

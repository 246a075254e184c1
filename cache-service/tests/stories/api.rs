//! The same over HTTP.

use std::sync::Arc;

use cache_service::{CacheService, api};
use serde_json::{Value, json};

use crate::world::{answer, ask, exact_config, semantic_config};

struct Served {
    base: String,
    http: reqwest::Client,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Served {
    async fn start(cache: CacheService, token: Option<&str>) -> Self {
        // The workspace's HTTP client leaves the choice of a TLS provider to its user.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = api::router(Arc::new(cache), token.map(str::to_owned));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            base,
            http: reqwest::Client::new(),
            server,
        }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let sent = self
            .http
            .post(format!("{}{path}", self.base))
            .header("authorization", "Bearer secret");
        let reply = sent.body(body.to_string()).send().await.unwrap();
        (reply.status().as_u16(), reply.json().await.unwrap())
    }

    async fn look(&self, scope: &str, request: &Value) -> Value {
        let (status, reply) = self
            .post(
                "/v1/lookup",
                &json!({"scope": scope, "model": "m", "request": request}),
            )
            .await;
        assert_eq!(status, 200, "{reply}");
        reply
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let reply = self
            .http
            .get(format!("{}{path}", self.base))
            .send()
            .await
            .unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    }
}

fn wire(text: &str) -> Value {
    let answer = answer(text);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    json!({"body": body, "usage": {"prompt": 5, "completion": 7}, "cost_nano": 1_500, "model": "m", "created": 1, "provider": "p"})
}

#[tokio::test]
async fn a_gateway_looks_up_stores_and_deletes() {
    let served = Served::start(CacheService::open(semantic_config()).await.unwrap(), None).await;
    let question = ask("How do I reset my password?");
    let miss = served.look("a", &question).await;
    assert_eq!(
        (&miss["outcome"], &miss["reason"]),
        (&json!("miss"), &json!("not-found"))
    );
    let store = json!({"ticket": miss["ticket"], "answer": wire("Like this.")});
    let (status, stored) = served.post("/v1/store", &store).await;
    assert_eq!((status, &stored["stored"]), (200, &json!(true)));
    assert_eq!(
        served.post("/v1/store", &store).await.0,
        404,
        "a ticket is used once"
    );

    let hit = served.look("a", &ask("How can I reset my password?")).await;
    assert_eq!(
        (&hit["outcome"], &hit["kind"], &hit["entry"]),
        (&json!("hit"), &json!("semantic"), &stored["entry"]),
        "needs the embedding model: run through ./tollgate test"
    );
    assert!(hit["similarity"].as_f64().unwrap() >= 0.90);
    assert_eq!(hit["answer"], wire("Like this."));
    assert_eq!(served.look("a", &question).await["kind"], "exact");
    assert_eq!(served.look("b", &question).await["outcome"], "miss");

    let (_, metrics) = served.get("/metrics").await;
    assert!(
        metrics.contains("outcome=\"hit-semantic\",reason=\"\"} 1"),
        "{metrics}"
    );
    assert!(served.get("/cache/ping").await.1.contains("local-semantic"));
    let entry = format!(
        "{}/v1/entries/{}",
        served.base,
        stored["entry"].as_str().unwrap()
    );
    assert_eq!(
        served
            .http
            .delete(format!("{entry}?scope=b"))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    assert_eq!(
        served.http.delete(&entry).send().await.unwrap().status(),
        200
    );
    assert_eq!(served.look("a", &question).await["outcome"], "miss");
}

#[tokio::test]
async fn the_api_wants_its_token_and_says_what_it_cannot_read() {
    let served = Served::start(
        CacheService::open(exact_config()).await.unwrap(),
        Some("secret"),
    )
    .await;
    assert_eq!(served.get("/metrics").await.0, 401);
    assert_eq!(
        served.get("/health/liveliness").await,
        (200, "\"I'm alive!\"".to_owned())
    );
    assert!(
        served
            .get("/health/readiness")
            .await
            .1
            .contains("\"status\":\"healthy\"")
    );
    let (status, error) = served
        .post(
            "/v1/lookup",
            &json!({"scope": "a", "model": "m", "request": {}, "typo": 1}),
        )
        .await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (400, &json!("invalid_request"))
    );
    assert!(error["error"]["message"].as_str().unwrap().contains("typo"));
    assert_eq!(served.look("a", &json!({})).await["reason"], "unreadable");
    // Requests that wait for each other do so here.
    let first = served.look("a", &ask("Hi")).await;
    let asked = ask("Hi");
    let answered = json!({"ticket": first["ticket"], "answer": wire("Hello")});
    let (second, stored) = tokio::join!(
        served.look("a", &asked),
        served.post("/v1/store", &answered)
    );
    assert_eq!((stored.0, &second["outcome"]), (200, &json!("hit")));
    assert_eq!(served.post("/v1/clear", &json!({})).await.0, 200);
    assert_eq!(served.look("a", &asked).await["outcome"], "miss");
}

//! A cache in another process, as a gateway asks it: within its time, or not at all.

use std::sync::Arc;
use std::time::Duration;

use cache_service::breaker::State;
use cache_service::client::{RemoteTicket, Reply};
use cache_service::{
    CacheService, Client, ClientConfig, Controls, EntryId, HitKind, Lookup, Policy, api,
};
use serde_json::Value;
use test_servers::free_port;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::world::{answer, ask, exact_config, semantic_config, until};

/// A cache behind an address; gone when dropped.
struct Served {
    cache: Arc<CacheService>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Served {
    async fn start(port: u16, cache: CacheService, token: Option<&str>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let cache = Arc::new(cache);
        let (served, token) = (Arc::clone(&cache), token.map(str::to_owned));
        let server = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            api::serve(listener, served, token, stopped).await.unwrap();
        });
        Self {
            cache,
            stop: Some(stop),
            server: Some(server),
        }
    }

    async fn exact(port: u16, token: Option<&str>) -> Self {
        let cache = CacheService::open(exact_config()).await.unwrap();
        Self::start(port, cache, token).await
    }

    async fn stop(mut self) {
        self.stop.take();
        self.server.take().unwrap().await.unwrap();
    }
}

/// With room for a busy machine.
fn config(port: u16) -> ClientConfig {
    ClientConfig {
        timeout: Duration::from_secs(20),
        ..ClientConfig::at(format!("http://127.0.0.1:{port}"))
    }
}

async fn look(client: &Client, body: &Value) -> Reply {
    let body = body.to_string();
    let lookup = Lookup {
        scope: "team \u{fc}",
        model: "m",
        body: body.as_bytes(),
        controls: Controls::default(),
        policy: &Policy::default(),
    };
    client.lookup(&lookup).await
}

async fn miss(client: &Client, body: &Value) -> (RemoteTicket, &'static str) {
    match look(client, body).await {
        Reply::Miss(ticket, reason) => (ticket, reason),
        other => panic!("no miss: {other:?}"),
    }
}

async fn hit(client: &Client, body: &Value) -> (HitKind, String, cache_service::Answer) {
    match look(client, body).await {
        Reply::Hit {
            kind,
            entry,
            answer,
            similarity,
        } => {
            assert!((0.9..=1.0).contains(&similarity));
            (kind, entry, answer)
        }
        other => panic!("no hit: {other:?}"),
    }
}

fn metrics(client: &Client) -> String {
    let mut out = String::new();
    client.prometheus(&mut out);
    out
}

#[tokio::test]
async fn a_gateway_asks_stores_and_deletes_over_one_connection() {
    let port = free_port();
    let cache = CacheService::open(semantic_config()).await.unwrap();
    let served = Served::start(port, cache, Some("secret")).await;
    let client = Client::new(ClientConfig {
        token: Some("secret".to_owned()),
        ..config(port)
    })
    .unwrap();
    let (ticket, reason) = miss(&client, &ask("How do I reset my password?")).await;
    assert_eq!(
        reason, "not-found",
        "needs the embedding model: run through ./tollgate test"
    );
    client.store(ticket, answer("Like this.")).await;
    let (kind, entry, got) = hit(&client, &ask("How can I reset my password?")).await;
    assert_eq!((kind, got), (HitKind::Semantic, answer("Like this.")));
    assert_eq!(
        hit(&client, &ask("How do I reset my password?")).await.0,
        HitKind::Exact
    );
    assert!(matches!(
        look(&client, &serde_json::json!({})).await,
        Reply::Bypass("unreadable")
    ));
    assert!(matches!(
        look(&client, &ask(&"x".repeat(300_000))).await,
        Reply::Bypass("too-large")
    ));
    let id = EntryId::parse(&entry).unwrap();
    assert!(!client.delete(id, Some("team u")).await.unwrap());
    assert!(client.delete(id, Some("team \u{fc}")).await.unwrap());
    assert!(!client.delete(id, None).await.unwrap());
    miss(&client, &ask("How do I reset my password?")).await;
    client.drain().await;
    let told = metrics(&client);
    assert!(
        told.contains("tollgate_cache_service_connections_total 1\n")
            || told.contains("tollgate_cache_service_connections_total 2\n"),
        "a second only where a ticket was given back at the same time: {told}"
    );
    assert!(
        told.contains("lookups_total{result=\"answered\"} 5"),
        "{told}"
    );
    assert!(told.contains("stores_total{result=\"kept\"} 1"), "{told}");
    served.stop().await;
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_shown_nowhere() {
    let port = free_port();
    let served = Served::exact(port, Some("secret")).await;
    for token in [None, Some("hunter2")] {
        let config = ClientConfig {
            token: token.map(str::to_owned),
            ..config(port)
        };
        assert!(!format!("{config:?}").contains("hunter2"));
        let client = Client::new(config).unwrap();
        let (ticket, reason) = miss(&client, &ask("Hi")).await;
        assert_eq!(reason, "cache-unavailable");
        client.store(ticket, answer("Hello")).await;
        assert!(metrics(&client).contains("result=\"failed\"} 1"));
    }
    assert_eq!(served.cache.stats().stored, 0);
    for (url, token) in [
        ("https://127.0.0.1:1", None),
        ("http://u:p@127.0.0.1:1", None),
        ("127.0.0.1:1", None),
        ("http://127.0.0.1:1/path", None),
        ("http://127.0.0.1:1", Some("a\nb")),
    ] {
        let config = ClientConfig {
            token: token.map(str::to_owned),
            ..ClientConfig::at(url)
        };
        assert!(Client::new(config).is_err(), "{url}");
    }
}

#[tokio::test]
async fn a_cache_that_is_gone_is_left_alone_until_it_is_back() {
    let port = free_port();
    let served = Served::exact(port, None).await;
    let client = Client::new(config(port)).unwrap();
    let (ticket, _) = miss(&client, &ask("Hi")).await;
    served.stop().await;
    assert_eq!(client.state(), State::Closed);
    until("the breaker to open", async || {
        assert_eq!(miss(&client, &ask("Hi")).await.1, "cache-unavailable");
        client.state() == State::Open
    })
    .await;
    // Nothing of this is an error.
    client.store(ticket, answer("Hello")).await;
    assert_eq!(miss(&client, &ask("Hi")).await.1, "cache-unavailable");
    let told = metrics(&client);
    assert!(told.contains("breaker{state=\"open\"} 1"), "{told}");
    assert!(told.contains("breaker_opened_total 1"), "{told}");

    let again = Served::exact(port, None).await;
    let mut ticket = None;
    until("the breaker to close", async || {
        let (held, _) = miss(&client, &ask("Hi")).await;
        let closed = client.state() == State::Closed;
        ticket = Some(held);
        closed
    })
    .await;
    client.store(ticket.unwrap(), answer("Hello")).await;
    assert_eq!(hit(&client, &ask("Hi")).await.0, HitKind::Exact);
    again.stop().await;
}

#[tokio::test]
async fn a_cache_that_is_slow_is_not_waited_for() {
    // It accepts, reads, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut some = [0; 16];
            let _ = stream.read(&mut some).await;
            open.push(stream);
        }
    });
    let client = Client::new(ClientConfig {
        timeout: Duration::from_millis(30),
        ..config(port)
    })
    .unwrap();
    until("the breaker to open", async || {
        assert_eq!(miss(&client, &ask("Hi")).await.1, "cache-unavailable");
        client.state() == State::Open
    })
    .await;
    assert!(metrics(&client).contains("lookups_total{result=\"timeout\"} 5"));
    silent.abort();
}

#[tokio::test]
async fn identical_requests_wait_for_the_first_across_gateways() {
    let port = free_port();
    let served = Served::exact(port, None).await;
    let (one, two) = (
        Client::new(config(port)).unwrap(),
        Client::new(config(port)).unwrap(),
    );
    let (ticket, _) = miss(&one, &ask("Hi")).await;
    let ask_hi = ask("Hi");
    let (followed, ()) = tokio::join!(hit(&two, &ask_hi), one.store(ticket, answer("Hello")));
    assert_eq!(followed.2, answer("Hello"));

    // A leader whose call comes to nothing lets the next one go ahead.
    let (ticket, _) = miss(&one, &ask("Bye")).await;
    let ask_bye = ask("Bye");
    let ((ticket, reason), ()) = tokio::join!(miss(&two, &ask_bye), async { drop(ticket) });
    assert!(["follower-wait", "no-model"].contains(&reason), "{reason}");
    two.store(ticket, answer("Goodbye")).await;
    assert_eq!(hit(&one, &ask("Bye")).await.2, answer("Goodbye"));
    assert_eq!(served.cache.stats().flights, 0);
    served.stop().await;
}

#[tokio::test]
async fn an_answer_reaches_a_cache_that_did_not_see_the_question() {
    let port = free_port();
    let served = Served::exact(port, None).await;
    let client = Client::new(config(port)).unwrap();
    let (ticket, _) = miss(&client, &ask("Hi")).await;
    served.stop().await;
    let again = Served::exact(port, None).await;
    client.store(ticket, answer("Hello")).await;
    assert_eq!(hit(&client, &ask("Hi")).await.2, answer("Hello"));
    assert_eq!(again.cache.stats().stored, 1);
    again.stop().await;
}

//! What asking a cache costs: in this process, over HTTP on loopback, and with its answers in Redis.
//!
//! `cargo run --release -p cache-service --example overhead [redis://…]`, with the environment that
//! `./tollgate env` prints. Each row: the same look-ups one after another on one thread, with the cache
//! on two others.

#![allow(clippy::print_stdout, reason = "a program that prints its findings")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_service::client::Reply;
use cache_service::{
    Answer, CacheConfig, CacheService, Client, ClientConfig, Controls, Lookup, Outcome, Policy,
    SharedConfig, Tokens, api,
};
use serde_json::json;

const ROUNDS: usize = 5_000;

fn body(question: &str) -> Vec<u8> {
    json!({"model": "m", "messages": [{"role": "system", "content": "You are helpful. ".repeat(20)}, {"role": "user", "content": question}]})
        .to_string()
        .into_bytes()
}

fn answer() -> Answer {
    let text = "An answer of some length, as they come. ".repeat(25);
    Answer {
        body: json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 80, "completion_tokens": 200, "total_tokens": 280}})
        .to_string()
        .into(),
        usage: Tokens { prompt: 80, completion: 200 },
        cost_nano: 1,
        model: "m".into(),
        created: 1,
        provider: "p".into(),
    }
}

fn lookup<'a>(body: &'a [u8], policy: &'a Policy) -> Lookup<'a> {
    Lookup {
        scope: "team",
        model: "m",
        body,
        controls: Controls::default(),
        policy,
    }
}

fn row(name: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "{name:<44} p50 {:>8.1} µs   p99 {:>8.1} µs   max {:>8.1} µs",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn main() {
    let serving = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let asking = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let redis = std::env::args().nth(1);
    for url in [None, redis]
        .into_iter()
        .collect::<std::collections::BTreeSet<_>>()
    {
        let place = if url.is_some() { "Redis" } else { "memory" };
        let config = CacheConfig {
            shared: url.map(SharedConfig::at),
            embed_budget: Duration::from_secs(1),
            ..CacheConfig::default()
        };
        let cache = Arc::new(
            serving
                .block_on(CacheService::open(config))
                .expect("a cache"),
        );
        println!("semantic: {}", cache.readiness().semantic);
        let (client, policy) = serving.block_on(async {
            while cache.readiness().shared.is_some_and(|shared| !shared.warm) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a port");
            let address = listener.local_addr().expect("an address");
            let served = Arc::clone(&cache);
            tokio::spawn(api::serve(
                listener,
                served,
                Some("t".into()),
                std::future::pending(),
            ));
            let client = Client::new(ClientConfig {
                token: Some("t".into()),
                timeout: Duration::from_secs(1),
                ..ClientConfig::at(format!("http://{address}"))
            });
            let policy = Policy {
                single_flight: false,
                ..Policy::default()
            };
            (client.expect("a client"), policy)
        });
        let known = body("How do I reset my password?");
        asking.block_on(async {
            if let Outcome::Miss(ticket, _) = cache.lookup(lookup(&known, &policy)).await {
                cache.store(ticket, answer()).await;
            }
            let near = body("How can I reset my password?");
            let system_only = body("Sum up what the assistant may do for me, please");
            for (what, body) in [
                ("exact hit", &known),
                ("semantic hit, vector remembered", &near),
                ("miss, vector remembered", &system_only),
            ] {
                let (mut here, mut there) = (Vec::new(), Vec::new());
                for round in 0..ROUNDS + 100 {
                    let start = Instant::now();
                    drop(cache.lookup(lookup(body, &policy)).await);
                    let middle = Instant::now();
                    let reply = client.lookup(&lookup(body, &policy)).await;
                    if round >= 100 {
                        here.push(middle - start);
                        there.push(middle.elapsed());
                    }
                    assert!(!matches!(reply, Reply::Bypass(_)));
                }
                row(&format!("{what}, {place}, in process"), here);
                row(&format!("{what}, {place}, over HTTP"), there);
            }
            let mut fresh = Vec::new();
            for round in 0..300 {
                let body = body(&format!(
                    "Which of the {round} rooms of the old house has the best view over the lake?"
                ));
                let start = Instant::now();
                drop(client.lookup(&lookup(&body, &policy)).await);
                fresh.push(start.elapsed());
            }
            row(
                &format!("new question (embedded), {place}, over HTTP"),
                fresh,
            );
        });
    }
}

//! How long a call waits, and for what: a connection, a first token, an attempt, the whole; before another attempt,
//! and until a deployment that failed is asked again.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use config::{Config, FailureKind};
use schemas::Outcome;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::failover::{ERROR, broken, header, second, with_spare};
use crate::provider::{Provider, STREAM_HEAD, Step, chunk, plain, stream, whole};
use crate::world::{MASTER, PATIENCE, Told, World, request};

const SOON: Duration = Duration::from_millis(200);

/// A place whose queue is full: whoever connects waits.
fn deaf() -> (Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(one) = TcpStream::connect_timeout(&address, SOON) {
        waiting.push(one);
        assert!(waiting.len() < 50, "it takes them all");
    }
    (socket, waiting)
}

#[tokio::test]
async fn a_connection_is_waited_for_by_its_own_time_and_costs_nothing() {
    let (deaf, _waiting) = tokio::task::spawn_blocking(deaf).await.unwrap();
    let address = deaf.local_addr().unwrap().as_socket().unwrap();
    let (world, spare) = with_spare(|config| {
        config.models[0].timeouts.connect = SOON;
        config.models[0].api_base = format!("http://{address}/v1");
    })
    .await;
    spare.script(plain("up-2"));
    let told = world.chat(MASTER, json!({})).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let usages = world.ended(1).await;
    let first = &usages[0].attempts[0];
    assert_eq!(
        (first.failure.as_deref(), first.status),
        (Some(FailureKind::Timeout.name()), 408)
    );
}

/// A head, or a comment that keeps the line open, is no first token.
#[tokio::test]
async fn a_first_token_is_waited_for_by_its_own_time() {
    let head = vec![Step::Send(STREAM_HEAD.into())];
    for silence in [vec![], vec![chunk(": PROCESSING\n\n")]] {
        let (world, spare) =
            with_spare(|config| config.models[0].timeouts.first_byte = Some(SOON)).await;
        let script = [head.clone(), silence, vec![Step::Stall]].concat();
        world.provider.script(script);
        spare.script(stream("up-2"));
        let told = world.chat(MASTER, json!({ "stream": true })).await;
        assert!(told.is_done(), "{}", told.text);
        assert!(!told.text.contains("PROCESSING") && !told.text.contains("error"));
        let usages = world.ended(2).await;
        assert_eq!(usages[0].error_code.as_deref(), Some("timeout_error"));
        assert!(usages[0].meters.input_tokens() > 0, "it may charge");
    }
}

/// A comment before the first token goes on to the client with it.
#[tokio::test]
async fn a_slow_first_token_in_time_is_an_answer() {
    let (world, spare) = with_spare(|config| {
        config.models[0].timeouts.first_byte = Some(PATIENCE);
    })
    .await;
    let mut script = stream("up-1");
    script.insert(1, chunk(": PROCESSING\n\n"));
    script.insert(2, Step::Pause(Duration::from_millis(50)));
    world.provider.script(script);
    let told = world.chat(MASTER, json!({ "stream": true })).await;
    assert!(
        told.is_done() && told.text.starts_with(": PROCESSING\n\n"),
        "{}",
        told.text
    );
    assert!(spare.bodies().is_empty());
}

/// Retries, other deployments and other names together: one deadline, the operator's or the client's own.
#[tokio::test]
async fn one_deadline_holds_for_all_attempts() {
    for (own, most) in [(None, 3), (Some("0.05"), 1)] {
        let (other, spare) = (Provider::start().await, Provider::start().await);
        let bases = [other.base(), spare.base()];
        let world = World::with(|config| {
            config.models.push(second(&bases[0], "one"));
            config.models.push(second(&bases[1], "spare"));
            for model in &mut config.models {
                model.timeouts.total = Duration::from_millis(100);
            }
            config.routing.deadline = Duration::from_millis(320);
            config.routing.retries.count = Some(20);
            config.routing.fallbacks.default = vec!["spare".into()];
            config.routing.fallbacks.attempts_each = 5;
        })
        .await;
        for provider in [&world.provider, &other, &spare] {
            provider.script(vec![Step::Stall]);
        }
        let mut post = world.http.post(world.url("/v1/chat/completions"));
        if let Some(own) = own {
            post = post.header("x-litellm-timeout", own);
        }
        let post = post.bearer_auth(MASTER).json(&request(json!({})));
        let told = Told::read(post.send().await.unwrap()).await;
        assert_eq!(told.status, 408, "{}", told.text);
        let asked: usize = [&world.provider, &other, &spare]
            .map(|provider| provider.bodies().len())
            .iter()
            .sum();
        // On a busy machine a deadline may pass before anything is sent.
        assert!(asked <= most, "{asked} attempts");
        let told = world.ended_at_last().await;
        assert!((1..=most).contains(&(told.attempt_no as usize)));
    }
}

/// What was waited before the second attempt, in microseconds.
async fn waited(more: &str, wait: Duration) -> u64 {
    let world = World::with(|config| {
        config.routing.retries.count = Some(1);
        config.routing.retries.wait = wait;
    })
    .await;
    world
        .provider
        .script(whole("429 Slow", "application/json", more, ERROR));
    assert_eq!(world.chat(MASTER, json!({})).await.status, 429);
    let usages = world.ended(1).await;
    assert_eq!(usages[0].attempts.len(), 2);
    usages[0].attempts[1].wait_us
}

/// The longest of the provider's word, `retry_after`, and a time that grows and is never the same twice.
#[tokio::test]
async fn another_attempt_waits_for_whoever_asks_for_most() {
    let (theirs, ours, nobodys) = tokio::join!(
        waited("retry-after: 1\r\n", Duration::from_millis(10)),
        waited("", Duration::from_millis(700)),
        waited("", Duration::ZERO),
    );
    assert_eq!((theirs, ours), (1_000_000, 700_000));
    assert!((250_000..=500_000).contains(&nobodys), "{nobodys}");
}

/// `one` at a provider that fails and at one that does not.
async fn half_broken(change: impl FnOnce(&mut Config)) -> (World, Provider) {
    let good = Provider::start().await;
    let base = good.base();
    let world = World::with(|config| {
        config.models.push(second(&base, "one"));
        change(config);
    })
    .await;
    world.provider.script(broken());
    good.script(plain("up-2"));
    (world, good)
}

#[tokio::test]
async fn failures_are_allowed_up_to_a_number_and_then_time_is_given() {
    let (world, _good) = half_broken(|config| {
        config.routing.cooldown.allowed_fails = Some(1);
        config.routing.cooldown.time = Duration::from_secs(60);
    })
    .await;
    for _ in 0..40 {
        let told = world.chat(MASTER, json!({})).await;
        assert_eq!(told.status, 200, "{}", told.text);
    }
    assert_eq!(world.provider.bodies().len(), 2, "one is allowed");

    // When the time is over it is asked again.
    let (world, _good) = half_broken(|config| {
        config.routing.cooldown.allowed_fails = Some(0);
        config.routing.cooldown.time = Duration::from_millis(50);
    })
    .await;
    let deadline = Instant::now() + PATIENCE;
    while world.provider.bodies().len() < 3 {
        assert_eq!(world.chat(MASTER, json!({})).await.status, 200);
        assert!(Instant::now() < deadline, "it is never asked again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let (world, _good) = half_broken(|config| {
        config.routing.cooldown.allowed_fails = Some(0);
        config.routing.cooldown.disabled = true;
    })
    .await;
    for _ in 0..40 {
        assert_eq!(world.chat(MASTER, json!({})).await.status, 200);
    }
    assert!(world.provider.bodies().len() > 2);
    let told = world.get("/health").await.json();
    assert_eq!(told["unhealthy_count"], 0, "{told}");
}

/// `max_retries_per_fallback`: attempts at each name that follows.
#[tokio::test]
async fn names_that_follow_are_asked_as_often_as_is_said() {
    for each in [1, 2] {
        let (world, spare) = with_spare(|config| {
            config.routing.retries.count = Some(0);
            config.routing.fallbacks.attempts_each = each;
        })
        .await;
        world.provider.script(broken());
        spare.script(broken());
        let told = world.chat(MASTER, json!({})).await;
        assert_eq!(told.status, 500);
        assert_eq!(header(&told, "x-litellm-attempted-fallbacks"), Some("1"));
        let asked = (world.provider.bodies().len(), spare.bodies().len());
        assert_eq!(asked, (1, usize::try_from(each).unwrap()));
        let usages = world.ended(1).await;
        assert_eq!(usages[0].outcome, Outcome::Error);
    }
}

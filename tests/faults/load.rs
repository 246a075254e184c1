//! Clients that keep calling through whatever happens, and remember what they saw of each call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tests::{Chat, World};
use tokio::task::JoinHandle;

/// What a client saw of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saw {
    /// Its end: whatever happens now, it is billed.
    End,
    /// A refusal: nothing was sent to a provider.
    Refusal(u16),
    /// The connection broke.
    Break,
}

/// Every call of a world, by its marker.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<(String, Saw)>>>);

impl Seen {
    pub fn all(&self) -> Vec<(String, Saw)> {
        self.0.lock().clone()
    }

    pub fn ended(&self) -> u64 {
        self.0
            .lock()
            .iter()
            .filter(|(_, saw)| *saw == Saw::End)
            .count() as u64
    }

    pub fn push(&self, marker: String, saw: Saw) {
        self.0.lock().push((marker, saw));
    }
}

/// What is to be called.
#[derive(Clone)]
pub struct Plan {
    pub keys: Vec<String>,
    /// So many calls are to be seen to their end.
    pub calls: u64,
    pub clients: u64,
    /// Every so many a stream; 0: none.
    pub streams: u64,
    /// Pause of each client between two calls.
    pub pause: Duration,
    pub max_tokens: Option<u64>,
}

impl Plan {
    pub fn of(keys: &[String], calls: u64) -> Self {
        Self {
            keys: keys.to_vec(),
            calls,
            clients: 8,
            streams: 3,
            pause: Duration::ZERO,
            max_tokens: None,
        }
    }
}

/// Running clients.
pub struct Load {
    clients: Vec<JoinHandle<()>>,
}

static MARKER: AtomicU64 = AtomicU64::new(0);

pub fn next_marker() -> String {
    format!("call-{}", MARKER.fetch_add(1, Ordering::Relaxed))
}

/// One marked call through an ingress.
pub fn marked(chat: Chat, marker: &str) -> Chat {
    chat.with("x_marker", marker)
        .header("x-litellm-call-id", marker)
}

impl Load {
    pub fn start(world: &World, seen: &Seen, plan: &Plan) -> Self {
        let urls: Arc<Vec<String>> =
            Arc::new(world.ingresses.iter().map(|one| one.url()).collect());
        let left = Arc::new(AtomicU64::new(plan.calls));
        let turn = Arc::new(AtomicU64::new(0));
        let clients = (0..plan.clients).map(|_| {
            let client = Client {
                http: world.http.clone(),
                urls: urls.clone(),
                left: left.clone(),
                turn: turn.clone(),
                plan: plan.clone(),
                seen: seen.clone(),
            };
            tokio::spawn(client.run())
        });
        Self {
            clients: clients.collect(),
        }
    }

    /// Waits until all calls were seen to their end.
    pub async fn over(self) {
        for client in self.clients {
            client.await.expect("a client");
        }
    }
}

struct Client {
    http: reqwest::Client,
    urls: Arc<Vec<String>>,
    left: Arc<AtomicU64>,
    turn: Arc<AtomicU64>,
    plan: Plan,
    seen: Seen,
}

impl Client {
    async fn run(self) {
        let patience = Duration::from_secs(150);
        let mut since = Instant::now();
        while self.take() {
            loop {
                let saw = self.call().await;
                if saw == Saw::End {
                    since = Instant::now();
                    break;
                }
                assert!(since.elapsed() < patience, "no call gets through: {saw:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            tokio::time::sleep(self.plan.pause).await;
        }
    }

    fn take(&self) -> bool {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }

    async fn call(&self) -> Saw {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let pick =
            |from: &[String]| from[usize::try_from(turn).expect("small") % from.len()].clone();
        let marker = next_marker();
        let chat = Chat::new(
            &self.http,
            &pick(&self.urls),
            &pick(&self.plan.keys),
            "scripted",
            "hi there",
        );
        let mut chat = marked(chat, &marker);
        if let Some(most) = self.plan.max_tokens {
            chat = chat.with("max_tokens", most);
        }
        let stream = self.plan.streams > 0 && turn.is_multiple_of(self.plan.streams);
        if stream {
            chat = chat.with("stream", true);
        }
        let saw = match chat.try_send().await {
            Err(_) => Saw::Break,
            Ok(answer) if answer.status != 200 => Saw::Refusal(answer.status),
            Ok(answer) if stream && !answer.text.contains("data: [DONE]") => Saw::Break,
            Ok(_) => Saw::End,
        };
        self.seen.push(marker, saw);
        saw
    }
}

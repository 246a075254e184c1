//! The broker and the two Redis that worlds of many processes share: started for the first world of a test
//! binary, stopped with the last one. Worlds are told apart by the prefix of their topics and keys.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use test_servers::redis::{ANSWERS, BUDGETS};
use test_servers::{Kafka, Redis};
use tokio::sync::Mutex;

/// A running broker and two Redis.
pub struct Parts {
    pub kafka: Kafka,
    /// Budget state.
    pub budgets: Redis,
    /// Cached answers.
    pub answers: Redis,
    worlds: AtomicU32,
}

/// What the worlds of this test binary share, while there is one.
static SHARED: Mutex<Weak<Parts>> = Mutex::const_new(Weak::new());

impl Parts {
    /// Those of this test binary.
    pub async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(parts) = shared.upgrade() {
            return parts;
        }
        let parts = Self::start().await;
        *shared = Arc::downgrade(&parts);
        parts
    }

    /// A broker and Redis of one's own.
    pub async fn start() -> Arc<Self> {
        let (kafka, budgets, answers) =
            tokio::join!(Kafka::start(), Redis::start(BUDGETS), Redis::start(ANSWERS));
        Arc::new(Self {
            kafka,
            budgets,
            answers,
            worlds: AtomicU32::new(0),
        })
    }

    /// A word that no other world on these parts has, nor begins with.
    pub fn next_prefix(&self) -> String {
        let number = self.worlds.fetch_add(1, Ordering::Relaxed);
        format!("world-{number:04}")
    }

    /// Deletes everything of one world from Redis.
    pub fn forget(&self, prefix: &str) {
        let script = "for _, key in ipairs(redis.call('keys', '*' .. ARGV[1] .. '*')) do redis.call('del', key) end";
        for redis in [&self.budgets, &self.answers] {
            command(redis, &["EVAL", script, "0", prefix]);
        }
    }

    /// Deletes everything from the Redis that keeps budget state.
    pub fn flush(&self) {
        command(&self.budgets, &["FLUSHALL"]);
    }
}

/// One command; its answer as Redis writes it.
fn command(redis: &Redis, words: &[&str]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    for words in [words, &["QUIT"]] {
        write!(stream, "*{}\r\n", words.len()).unwrap();
        for word in words {
            write!(stream, "${}\r\n{word}\r\n", word.len()).unwrap();
        }
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(!answer.starts_with('-'), "{words:?}: {answer}");
    answer
}

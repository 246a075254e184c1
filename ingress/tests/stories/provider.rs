//! A provider that does as it is told, down to the bytes on the wire, and keeps what it was sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// One step of an answer.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// Never goes on.
    Stall,
    /// Takes its time.
    Pause(Duration),
    /// Goes on when it is told to.
    Wait(Arc<Notify>),
    /// Goes on when it is let: [`Provider::let_go`].
    Hold,
    /// Closes the connection, wherever the answer stands.
    Cut,
}

#[derive(Debug, Default)]
struct Books {
    script: Vec<Step>,
    heads: Vec<String>,
    bodies: Vec<Vec<u8>>,
    connections: usize,
    hung_up: Option<Instant>,
}

pub struct Provider {
    address: SocketAddr,
    books: Arc<Mutex<Books>>,
    held: Arc<Notify>,
    task: JoinHandle<()>,
}

/// `HTTP/1.1 <status>` with a body of known length.
pub fn whole(status: &str, kind: &str, more: &str, body: &str) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n{more}\r\n{body}",
        body.len()
    );
    vec![Step::Send(head.into_bytes())]
}

pub fn completion(model: &str, usage: &str) -> String {
    format!(
        "{{\"id\":\"c-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"{model}\",\"choices\":[{{\"index\":0,\
         \"message\":{{\"role\":\"assistant\",\"content\":\"hello\"}},\"finish_reason\":\"stop\"}}]{usage}}}"
    )
}

pub const USAGE: &str =
    ",\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}";

/// A plain answer: 10 tokens in, 5 out.
pub fn plain(model: &str) -> Vec<Step> {
    whole(
        "200 OK",
        "application/json",
        "x-request-id: up-77\r\nx-ratelimit-limit-requests: 5000\r\n",
        &completion(model, USAGE),
    )
}

pub const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

pub fn frame(model: &str, delta: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"{model}\",\"choices\":[{{\"index\":0,\
         \"delta\":{delta},\"finish_reason\":{finish}}}],\"usage\":null}}\n\n"
    )
}

pub fn usage_frame(model: &str) -> String {
    format!(
        "data: {{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"{model}\",\"choices\":[]{USAGE}}}\n\n"
    )
}

/// As one chunk of a chunked body.
pub fn chunk(data: &str) -> Step {
    Step::Send(format!("{:x}\r\n{data}\r\n", data.len()).into_bytes())
}

pub fn last_chunk() -> Step {
    Step::Send(b"0\r\n\r\n".to_vec())
}

/// The opening of a stream and so many tokens.
pub fn tokens(model: &str, count: usize) -> Vec<Step> {
    let mut steps = vec![
        Step::Send(STREAM_HEAD.as_bytes().to_vec()),
        chunk(&frame(
            model,
            "{\"role\":\"assistant\",\"content\":\"\"}",
            "null",
        )),
    ];
    steps.extend((0..count).map(|at| {
        chunk(&frame(
            model,
            &format!("{{\"content\":\"w{at} \"}}"),
            "null",
        ))
    }));
    steps
}

/// A whole stream of five tokens with usage.
pub fn stream(model: &str) -> Vec<Step> {
    let mut steps = tokens(model, 5);
    steps.push(chunk(&frame(model, "{}", "\"stop\"")));
    steps.push(chunk(&usage_frame(model)));
    steps.push(chunk("data: [DONE]\n\n"));
    steps.push(last_chunk());
    steps
}

impl Provider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let books = Arc::new(Mutex::new(Books {
            script: plain("up-1"),
            ..Books::default()
        }));
        let shared = books.clone();
        let held = Arc::new(Notify::new());
        let holds = held.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().connections += 1;
                connections.spawn(serve(stream, shared.clone(), holds.clone()));
            }
        });
        Self {
            address,
            books,
            held,
            task,
        }
    }

    pub fn base(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub fn script(&self, steps: Vec<Step>) {
        self.books.lock().script = steps;
    }

    /// One answer that is held goes on.
    pub fn let_go(&self) {
        self.held.notify_one();
    }

    pub fn bodies(&self) -> Vec<String> {
        let books = self.books.lock();
        books
            .bodies
            .iter()
            .map(|body| String::from_utf8(body.clone()).unwrap())
            .collect()
    }

    pub fn heads(&self) -> Vec<String> {
        self.books.lock().heads.clone()
    }

    pub fn connections(&self) -> usize {
        self.books.lock().connections
    }

    /// When a client closed its connection in the middle of an answer.
    pub fn hung_up(&self) -> Option<Instant> {
        self.books.lock().hung_up
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, books: Arc<Mutex<Books>>, held: Arc<Notify>) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    while let Some((head, body)) = read(&mut stream, &mut buffer).await {
        let script = {
            let mut books = books.lock();
            books.heads.push(head);
            books.bodies.push(body);
            books.script.clone()
        };
        for step in script {
            let sent = match step {
                Step::Send(bytes) => stream.write_all(&bytes).await.is_ok(),
                Step::Cut => return,
                Step::Pause(time) => {
                    tokio::time::sleep(time).await;
                    true
                }
                Step::Wait(word) => {
                    word.notified().await;
                    true
                }
                Step::Hold => {
                    held.notified().await;
                    true
                }
                Step::Stall => !closed(&mut stream, Duration::from_secs(60)).await,
            };
            if !sent {
                books.lock().hung_up = Some(Instant::now());
                return;
            }
        }
    }
}

async fn closed(stream: &mut TcpStream, within: Duration) -> bool {
    let mut byte = [0];
    matches!(
        tokio::time::timeout(within, stream.read(&mut byte)).await,
        Ok(Ok(0) | Err(_))
    )
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                })
                .map_or(0, |length| length.parse().unwrap());
            if buffer.len() >= end + 4 + length {
                let rest = buffer.split_off(end + 4 + length);
                let body = buffer.split_off(end + 4);
                *buffer = rest;
                return Some((head, body));
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

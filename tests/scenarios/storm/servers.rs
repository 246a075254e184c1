//! Providers of which each fails in its own way, and keeps its own books.

use std::collections::HashMap;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Tokens of every complete answer, and of one that breaks off: these providers tell in each chunk what they
/// have charged so far, as vLLM does with `continuous_usage_stats`.
pub const PROMPT: u64 = 7;
pub const ANSWER: u64 = 3;
pub const BEGUN: u64 = 1;

/// A way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nobody listens.
    Refused,
    /// The answer begins, and its connection is reset.
    ResetInside,
    /// 429, with the time to come back.
    LimitedFor,
    /// 429, without.
    Limited,
    Broken,
    /// Silence instead of a first token.
    Slow,
    /// Some of the answer, then silence.
    Stalled,
    /// JSON that ends in the middle.
    Truncated,
    /// A web page.
    WrongType,
    /// A certificate that nobody has signed.
    Untrusted,
    /// Does not fail.
    Steady,
}

pub const WAYS: [Way; 10] = [
    Way::Refused,
    Way::ResetInside,
    Way::LimitedFor,
    Way::Limited,
    Way::Broken,
    Way::Slow,
    Way::Stalled,
    Way::Truncated,
    Way::WrongType,
    Way::Untrusted,
];

/// What a provider did, by its own count.
#[derive(Debug, Default)]
pub struct Books {
    pub requests: AtomicU64,
    /// Answers sent to their last byte.
    pub answered: AtomicU64,
    /// Streams that broke off after their first chunk.
    pub begun: AtomicU64,
    /// Charged for, and the caller was never told how much.
    pub untold: AtomicU64,
    /// How often each call came, by the number in its prompt.
    pub calls: Mutex<HashMap<u64, u64>>,
}

pub struct Server {
    pub way: Way,
    pub address: SocketAddr,
    pub books: Arc<Books>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let books = Arc::new(Books::default());
        let kept = books.clone();
        let task = match way {
            // The port was free a moment ago, and is again.
            Way::Refused => tokio::spawn(async move { drop(listener) }),
            _ => tokio::spawn(async move { accept(listener, way, kept).await }),
        };
        Self {
            way,
            address,
            books,
            task,
        }
    }

    pub fn base(&self) -> String {
        let scheme = if self.way == Way::Untrusted {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}/v1", self.address)
    }
}

async fn accept(listener: TcpListener, way: Way, books: Arc<Books>) {
    let mut connections = tokio::task::JoinSet::new();
    let tls = (way == Way::Untrusted).then(untrusted);
    while let Ok((stream, _)) = listener.accept().await {
        match &tls {
            Some(tls) => {
                let (tls, stream) = (tls.clone(), stream.into_std().unwrap());
                connections.spawn_blocking(move || shake_hands(tls, stream));
            }
            None => {
                connections.spawn(serve(stream, way, books.clone()));
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

fn untrusted() -> Arc<rustls::ServerConfig> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = CertificateDer::from_pem_slice(include_bytes!("nobody.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("nobody.key.pem")).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

/// Until the client sees the certificate and leaves.
fn shake_hands(tls: Arc<rustls::ServerConfig>, mut stream: std::net::TcpStream) {
    let limit = Some(Duration::from_secs(5));
    if stream.set_nonblocking(false).is_err() || stream.set_read_timeout(limit).is_err() {
        return;
    }
    if let Ok(mut session) = rustls::ServerConnection::new(tls) {
        let mut encrypted = rustls::Stream::new(&mut session, &mut stream);
        let _ = encrypted.read(&mut [0; 64]);
    }
}

async fn serve(mut stream: TcpStream, way: Way, books: Arc<Books>) {
    let mut buffer = Vec::new();
    while let Some(Request { streamed, call }) = request(&mut stream, &mut buffer).await {
        *books.calls.lock().unwrap().entry(call).or_default() += 1;
        let number = books.requests.fetch_add(1, SeqCst);
        // Every other call: a provider that is down for good is soon left alone.
        let fails = way != Way::Steady && number.is_multiple_of(2);
        if !fails {
            let sent = stream.write_all(&answer(streamed)).await;
            if sent.is_err() {
                return;
            }
            books.answered.fetch_add(1, SeqCst);
            continue;
        }
        let (bytes, then) = failure(way, streamed);
        // Before the first byte of it, so that the books are never behind the bill.
        let count = match way {
            Way::ResetInside | Way::Stalled | Way::Truncated if streamed => Some(&books.begun),
            Way::ResetInside | Way::Stalled | Way::Truncated | Way::Slow => Some(&books.untold),
            _ => None,
        };
        count.map(|count| count.fetch_add(1, SeqCst));
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        match then {
            Then::Next => {}
            Then::Close => return,
            Then::Reset => {
                // Then its end is a reset.
                let _ = stream.set_zero_linger();
                return;
            }
            Then::Silence => {
                // Until the client has had enough.
                let _ = stream.read(&mut [0; 64]).await;
                return;
            }
        }
    }
}

struct Request {
    streamed: bool,
    /// `call 17` of its prompt.
    call: u64,
}

/// Reads a request. None at the end of the connection.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: usize = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length:")?
                        .trim()
                        .parse()
                        .ok()
                })
                .unwrap_or(0);
            if body.len() >= length {
                let body = &body[..length];
                let number = body.split_once("\"call ").unwrap().1;
                let request = Request {
                    streamed: body.contains("\"stream\":true"),
                    call: number.split('"').next().unwrap().parse().unwrap(),
                };
                buffer.drain(..head.len() + 4 + length);
                return Some(request);
            }
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(count) if count > 0 => buffer.extend_from_slice(&more[..count]),
            _ => return None,
        }
    }
}

enum Then {
    Next,
    Close,
    Reset,
    Silence,
}

fn usage(answer: u64) -> String {
    format!(
        "{{\"prompt_tokens\":{PROMPT},\"completion_tokens\":{answer},\"total_tokens\":{}}}",
        PROMPT + answer
    )
}

fn whole(status: &str, kind: &str, more: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

fn delta(text: &str, finish: &str) -> String {
    chunk(&format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\
         \"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{finish}}}],\"usage\":{}}}\n\n",
        usage(BEGUN)
    ))
}

fn answer(streamed: bool) -> Vec<u8> {
    if !streamed {
        let body = format!(
            "{{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\
             \"message\":{{\"role\":\"assistant\",\"content\":\"calm again\"}},\"finish_reason\":\"stop\"}}],\"usage\":{}}}",
            usage(ANSWER)
        );
        return whole("200 OK", "application/json", "", &body);
    }
    let usage = format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{}}}\n\n",
        usage(ANSWER)
    );
    let done = "data: [DONE]\n\n";
    [
        STREAM.to_owned(),
        delta("calm ", "null"),
        delta("again", "\"stop\""),
        chunk(&usage),
        chunk(done),
        "0\r\n\r\n".to_owned(),
    ]
    .concat()
    .into_bytes()
}

/// The beginning of an answer.
fn begun(streamed: bool) -> Vec<u8> {
    if streamed {
        return [STREAM.to_owned(), delta("so ", "null")]
            .concat()
            .into_bytes();
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n";
    [head, r#"{"id""#].concat().into_bytes()
}

fn failure(way: Way, streamed: bool) -> (Vec<u8>, Then) {
    let error = r#"{"error":{"message":"not now","type":"server_error","code":null}}"#;
    let json = "application/json";
    match way {
        Way::LimitedFor => (
            whole("429 Slow down", json, "retry-after: 1\r\n", error),
            Then::Next,
        ),
        Way::Limited => (whole("429 Slow down", json, "", error), Then::Next),
        Way::Broken => (whole("500 Oops", json, "", error), Then::Next),
        Way::WrongType => (whole("200 OK", "text/html", "", "<html>hello"), Then::Next),
        Way::Truncated if !streamed => (
            whole(
                "200 OK",
                json,
                "",
                r#"{"id":"c","choices":[{"index":0,"mess"#,
            ),
            Then::Next,
        ),
        Way::ResetInside => (begun(streamed), Then::Reset),
        Way::Truncated => (begun(streamed), Then::Close),
        Way::Stalled => (begun(streamed), Then::Silence),
        _ => (Vec::new(), Then::Silence),
    }
}

//! A provider that does what a scenario tells it, and keeps its own books: what it was asked, what it
//! produced, what it charges. Speaks OpenAI's chat completions on a free loopback port.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Prices of the scripted model, nano-USD a token: as the world's configuration states them.
pub const INPUT_NANO: u64 = 1_000;
pub const OUTPUT_NANO: u64 = 2_000;

/// How the provider answers one model.
#[derive(Debug, Clone)]
pub struct Script {
    /// The answer, one text a token.
    pub tokens: Vec<String>,
    /// Before the first byte.
    pub delay: Duration,
    /// Between two tokens of a stream.
    pub pace: Duration,
    /// A stream stops sending after so many tokens, and stays open.
    pub stall_after: Option<usize>,
    /// A stream is cut off after so many tokens.
    pub drop_after: Option<usize>,
    /// Answer with this status and no completion.
    pub fail: Option<u16>,
    /// Whether usage is told at all.
    pub tells_usage: bool,
    /// Tokens of the prompt that were read from the provider's cache.
    pub cached: u64,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            tokens: ["Hello", " from", " the", " scripted", " provider"]
                .map(String::from)
                .to_vec(),
            delay: Duration::ZERO,
            pace: Duration::ZERO,
            stall_after: None,
            drop_after: None,
            fail: None,
            tells_usage: true,
            cached: 0,
        }
    }
}

impl Script {
    /// An answer of `count` tokens.
    #[must_use]
    pub fn of_tokens(count: usize) -> Self {
        Self {
            tokens: (0..count).map(|at| format!(" w{at}")).collect(),
            ..Self::default()
        }
    }
}

/// What the provider did, by its own count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Calls received.
    pub requests: u64,
    /// Calls answered to their end.
    pub completed: u64,
    /// Streams whose reader went away.
    pub cancelled: u64,
    pub prompt_tokens: u64,
    /// Tokens produced, of cancelled streams too.
    pub completion_tokens: u64,
    /// What it will put on its invoice, nano-USD.
    pub charged_nano: u64,
}

/// What one call did here. Calls are told apart by a field `x_marker` of the body, which reaches a provider
/// as every field that nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Called {
    pub requests: u64,
    pub completed: u64,
    /// What it will put on its invoice, nano-USD.
    pub charged_nano: u64,
}

/// The running provider. Stops when dropped.
pub struct Provider {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    scripts: Mutex<HashMap<String, Script>>,
    books: Mutex<Books>,
    calls: Mutex<HashMap<String, Called>>,
    bodies: Mutex<Vec<Bytes>>,
    headers: Mutex<Vec<HeaderMap>>,
    /// When the last reader of a stream went away.
    last_cancel: Mutex<Option<Instant>>,
    counter: AtomicU64,
}

impl Provider {
    pub async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/v1/chat/completions", post(chat))
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            shared,
            server,
        }
    }

    /// Where a deployment's `api_base` points.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// From now on, this upstream model answers so.
    pub fn script(&self, model: &str, script: Script) {
        self.shared.scripts.lock().insert(model.to_owned(), script);
    }

    pub fn books(&self) -> Books {
        self.shared.books.lock().clone()
    }

    /// What each marked call did.
    pub fn calls(&self) -> HashMap<String, Called> {
        self.shared.calls.lock().clone()
    }

    /// The bodies received, oldest first.
    pub fn bodies(&self) -> Vec<Bytes> {
        self.shared.bodies.lock().clone()
    }

    /// What was received so far is shown no more; the books keep it.
    pub fn forget(&self) {
        self.shared.bodies.lock().clear();
        self.shared.headers.lock().clear();
    }

    /// The headers received, oldest first.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.shared.headers.lock().clone()
    }

    pub fn last_cancel(&self) -> Option<Instant> {
        *self.shared.last_cancel.lock()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Words of all texts of the messages, at least one: the provider's way to count a prompt.
fn prompt_tokens(request: &Value) -> u64 {
    let mut words = 0;
    let mut texts = vec![&request["messages"]];
    while let Some(value) = texts.pop() {
        match value {
            Value::String(text) => words += text.split_whitespace().count() as u64,
            Value::Array(items) => texts.extend(items),
            Value::Object(object) => {
                texts.extend(
                    object
                        .iter()
                        .filter(|(k, _)| matches!(k.as_str(), "content" | "text"))
                        .map(|(_, v)| v),
                );
            }
            _ => {}
        }
    }
    words.max(1)
}

struct Answer {
    marker: Option<String>,
    id: String,
    model: String,
    tokens: Vec<String>,
    choices: u64,
    finish: &'static str,
    tool: Option<Value>,
    prompt: u64,
    cached: u64,
}

impl Answer {
    fn of(request: &Value, script: &Script, number: u64) -> Self {
        let cap = ["max_completion_tokens", "max_tokens"]
            .iter()
            .find_map(|name| request[*name].as_u64());
        let mut tokens = script.tokens.clone();
        let mut finish = "stop";
        if let Some(cap) = cap.filter(|cap| *cap < tokens.len() as u64) {
            tokens.truncate(cap as usize);
            finish = "length";
        }
        let tool = request["tools"]
            .get(0)
            .map(|tool| tool["function"]["name"].clone());
        if tool.is_some() {
            finish = "tool_calls";
        }
        Self {
            marker: marker(request),
            id: format!("chatcmpl-scripted-{number}"),
            model: request["model"].as_str().unwrap_or_default().to_owned(),
            tokens,
            choices: request["n"].as_u64().unwrap_or(1),
            finish,
            tool,
            prompt: prompt_tokens(request),
            cached: script.cached,
        }
    }

    fn usage(&self, produced: u64) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": produced,
            "total_tokens": self.prompt + produced,
            "prompt_tokens_details": { "cached_tokens": self.cached.min(self.prompt) },
            "completion_tokens_details": { "reasoning_tokens": 0 },
        })
    }

    fn tool_calls(&self, indexed: bool) -> Option<Value> {
        let name = self.tool.as_ref()?;
        let mut call = json!({"id": "call_1", "type": "function",
            "function": {"name": name, "arguments": "{\"city\":\"Berlin\"}"}});
        if indexed {
            call["index"] = json!(0);
        }
        Some(json!([call]))
    }
}

impl Shared {
    fn book(&self, answer: &Answer, produced: u64, completed: bool) {
        let charge = answer.prompt * INPUT_NANO + produced * OUTPUT_NANO;
        if let Some(marker) = &answer.marker {
            let mut calls = self.calls.lock();
            let call = calls.entry(marker.clone()).or_default();
            call.completed += u64::from(completed);
            call.charged_nano += charge;
        }
        let mut books = self.books.lock();
        books.prompt_tokens += answer.prompt;
        books.completion_tokens += produced;
        books.charged_nano += charge;
        if completed {
            books.completed += 1;
        } else {
            books.cancelled += 1;
            *self.last_cancel.lock() = Some(Instant::now());
        }
    }
}

fn marker(request: &Value) -> Option<String> {
    Some(request["x_marker"].as_str()?.to_owned())
}

async fn chat(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    shared.books.lock().requests += 1;
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    if let Some(marker) = marker(&request) {
        shared.calls.lock().entry(marker).or_default().requests += 1;
    } else {
        shared.headers.lock().push(headers);
        shared.bodies.lock().push(body);
    }
    let model = request["model"].as_str().unwrap_or_default();
    let script = shared
        .scripts
        .lock()
        .get(model)
        .cloned()
        .unwrap_or_default();
    tokio::time::sleep(script.delay).await;
    if let Some(status) = script.fail {
        let error =
            json!({"error": {"message": "scripted failure", "type": "server_error", "code": null}});
        return (StatusCode::from_u16(status).unwrap(), axum::Json(error)).into_response();
    }
    let number = shared.counter.fetch_add(1, Ordering::Relaxed);
    let answer = Answer::of(&request, &script, number);
    if request["stream"].as_bool() == Some(true) {
        let with_usage = request["stream_options"]["include_usage"].as_bool() == Some(true);
        stream(shared.clone(), answer, script, with_usage)
    } else {
        plain(&shared, &answer, &script)
    }
}

fn plain(shared: &Shared, answer: &Answer, script: &Script) -> Response {
    let produced = answer.tokens.len() as u64 * answer.choices;
    let choices: Vec<Value> = (0..answer.choices)
        .map(|index| {
            let message = match answer.tool_calls(false) {
                Some(calls) => json!({"role": "assistant", "content": null, "tool_calls": calls}),
                None => json!({"role": "assistant", "content": answer.tokens.concat()}),
            };
            json!({"index": index, "message": message, "finish_reason": answer.finish, "logprobs": null})
        })
        .collect();
    let mut completion = json!({
        "id": answer.id, "object": "chat.completion", "created": 1_790_000_000,
        "model": answer.model, "choices": choices,
    });
    if script.tells_usage {
        completion["usage"] = answer.usage(produced);
    }
    shared.book(answer, produced, true);
    axum::Json(completion).into_response()
}

/// Books the stream whichever way it ends: a reader that goes away drops it.
struct Open {
    shared: Arc<Shared>,
    answer: Answer,
    produced: u64,
    done: bool,
}

impl Open {
    /// Its end is the provider's own doing.
    fn finished(&mut self) {
        self.done = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.book(&self.answer, self.produced, self.done);
    }
}

fn stream(shared: Arc<Shared>, answer: Answer, script: Script, with_usage: bool) -> Response {
    let mut open = Open {
        shared,
        answer,
        produced: 0,
        done: false,
    };
    let frames = async_stream::stream! {
        let chunk = |open: &Open, index: u64, delta: Value, finish: Option<&str>| {
            let chunk = json!({
                "id": open.answer.id, "object": "chat.completion.chunk", "created": 1_790_000_000,
                "model": open.answer.model,
                "choices": [{"index": index, "delta": delta, "finish_reason": finish, "logprobs": null}],
            });
            Ok::<_, io::Error>(Bytes::from(format!("data: {chunk}\n\n")))
        };
        for index in 0..open.answer.choices {
            yield chunk(&open, index, json!({"role": "assistant", "content": ""}), None);
        }
        if let Some(calls) = open.answer.tool_calls(true) {
            open.produced += open.answer.tokens.len() as u64;
            yield chunk(&open, 0, json!({"tool_calls": calls}), None);
        } else {
            for at in 0..open.answer.tokens.len() {
                if script.stall_after == Some(at) {
                    std::future::pending::<()>().await;
                }
                if script.drop_after == Some(at) {
                    open.finished();
                    // What was sent is on its way before the cut, which would take it along.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    // Cuts the connection in the middle of the body.
                    yield Err(io::Error::other("scripted cut"));
                    return;
                }
                for index in 0..open.answer.choices {
                    open.produced += 1;
                    let text = open.answer.tokens[at].clone();
                    yield chunk(&open, index, json!({"content": text}), None);
                }
                if !script.pace.is_zero() {
                    tokio::time::sleep(script.pace).await;
                }
            }
        }
        for index in 0..open.answer.choices {
            yield chunk(&open, index, json!({}), Some(open.answer.finish));
        }
        if with_usage && script.tells_usage {
            let usage = json!({
                "id": open.answer.id, "object": "chat.completion.chunk", "created": 1_790_000_000,
                "model": open.answer.model, "choices": [], "usage": open.answer.usage(open.produced),
            });
            yield Ok(Bytes::from(format!("data: {usage}\n\n")));
        }
        open.finished();
        yield Ok(Bytes::from_static(b"data: [DONE]\n\n"));
    };
    (
        [("content-type", "text/event-stream")],
        Body::from_stream(frames),
    )
        .into_response()
}

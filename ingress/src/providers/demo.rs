//! The built-in model `tollgate/demo`: the same question always gets the same answer, without network
//! and without a provider's key. Its answers pass through the very code that relays a provider's.
//!
//! It says back what it heard. Tools are called when they are required or named in the question.
//! `[cached]` in the question reports half of the prompt as read from a cache, `[reasoning]` five tokens
//! of thought. A token is a word.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock;
use crate::upstream::Answer;

/// Thoughts of a question with `[reasoning]`.
const REASONING: usize = 5;

struct Reply {
    id: String,
    model: String,
    words: Vec<String>,
    calls: Vec<Value>,
    finish: &'static str,
    choices: u64,
    usage: Value,
}

/// Answers a request body, exactly as it would go out to a provider.
#[must_use]
pub fn answer(body: &Bytes, deadline: Instant) -> Answer {
    with(body, None, deadline)
}

/// Errors that LiteLLM's `mock_response` asks for by name.
/// <https://docs.litellm.ai/docs/proxy/reliability>
const MOCKED_ERRORS: &[(&str, u16, &str)] = &[
    ("litellm.RateLimitError", 429, "rate_limit_exceeded"),
    (
        "litellm.ContextWindowExceededError",
        400,
        "context_length_exceeded",
    ),
    ("litellm.InternalServerError", 500, "server_error"),
    (
        "Exception: content_filter_policy",
        400,
        "content_policy_violation",
    ),
];

/// The answer that a client asks for by `mock_response`: this text, or the error that it names. Nobody else is
/// asked. It is priced as its model's own would be, as LiteLLM does, so that budgets can be tried.
#[must_use]
pub fn mocked(body: &Bytes, text: &str, deadline: Instant) -> Answer {
    let named = MOCKED_ERRORS.iter().find(|(name, ..)| *name == text);
    let Some((name, status, code)) = named else {
        return with(body, Some(text), deadline);
    };
    let message = format!("this is a mock of {name}");
    let error =
        json!({ "error": { "message": message, "type": code, "param": null, "code": code } });
    let mut answer = Answer::local(
        &HeaderMap::new(),
        VecDeque::from([Bytes::from(error.to_string())]),
        deadline,
    );
    answer.status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
}

fn with(body: &Bytes, text: Option<&str>, deadline: Instant) -> Answer {
    let mut headers = HeaderMap::new();
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let reply = Reply::to(&request, body, text);
    let chunks = if request["stream"] == true {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        );
        reply.stream(request["stream_options"]["include_usage"] == true)
    } else {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        reply.plain()
    };
    Answer::local(&headers, chunks, deadline)
}

impl Reply {
    /// With a `text`, that is what is said, and no tool is called.
    fn to(request: &Value, body: &[u8], text: Option<&str>) -> Self {
        let messages = request["messages"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let texts: Vec<String> = messages
            .iter()
            .map(|message| text_of(&message["content"]))
            .collect();
        let question = texts.last().cloned().unwrap_or_default();
        let prompt: usize = texts.iter().map(|text| words(text).count().max(1)).sum();
        let calls = match text {
            Some(_) => Vec::new(),
            None => tool_calls(request, &question),
        };
        let said = text.map_or_else(|| format!("You said: {question}"), str::to_owned);
        let mut spoken: Vec<String> = if calls.is_empty() {
            words(&said).map(str::to_owned).collect()
        } else {
            Vec::new()
        };
        let thoughts = if question.contains("[reasoning]") {
            REASONING
        } else {
            0
        };
        let cap = ["max_completion_tokens", "max_tokens"]
            .iter()
            .find_map(|name| request[*name].as_u64());
        let cap = cap.map_or(usize::MAX, |cap| usize::try_from(cap).unwrap_or(usize::MAX));
        let mut finish = if calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        };
        if spoken.len() + thoughts > cap {
            spoken.truncate(cap.saturating_sub(thoughts));
            finish = "length";
        }
        let choices = request["n"].as_u64().unwrap_or(1).max(1);
        let each = spoken.len() + thoughts.min(cap) + calls.len();
        let output = each as u64 * choices;
        let cached = if question.contains("[cached]") {
            prompt / 2
        } else {
            0
        };
        Self {
            id: format!("chatcmpl-demo-{:016x}", fingerprint(body)),
            model: request["model"].as_str().unwrap_or("demo").to_owned(),
            words: spoken,
            calls,
            finish,
            choices,
            usage: json!({
                "prompt_tokens": prompt,
                "completion_tokens": output,
                "total_tokens": prompt as u64 + output,
                "prompt_tokens_details": { "cached_tokens": cached, "audio_tokens": 0 },
                "completion_tokens_details": { "reasoning_tokens": thoughts.min(cap) as u64 * choices, "audio_tokens": 0 },
            }),
        }
    }

    fn head(&self, object: &str) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": clock::now().as_secs(),
            "model": self.model,
            "system_fingerprint": "fp_tollgate_demo",
        })
    }

    fn plain(&self) -> VecDeque<Bytes> {
        let message = if self.calls.is_empty() {
            json!({ "role": "assistant", "content": self.words.concat(), "refusal": null })
        } else {
            json!({ "role": "assistant", "content": null, "tool_calls": self.calls, "refusal": null })
        };
        let choices: Vec<Value> = (0..self.choices)
            .map(|index| json!({ "index": index, "message": message, "logprobs": null, "finish_reason": self.finish }))
            .collect();
        let mut completion = self.head("chat.completion");
        completion["choices"] = choices.into();
        completion["usage"] = self.usage.clone();
        VecDeque::from([Bytes::from(completion.to_string())])
    }

    fn stream(&self, with_usage: bool) -> VecDeque<Bytes> {
        let mut chunks = VecDeque::new();
        let mut head = self.head("chat.completion.chunk");
        if with_usage {
            head["usage"] = Value::Null;
        }
        let mut push = |choices: Value, usage: Option<&Value>| {
            head["choices"] = choices;
            if let Some(usage) = usage {
                head["usage"] = usage.clone();
            }
            chunks.push_back(Bytes::from(format!("data: {head}\n\n")));
        };
        let delta = |index: u64, delta: Value, finish: Option<&str>| json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }]);
        for index in 0..self.choices {
            push(
                delta(
                    index,
                    json!({ "role": "assistant", "content": "", "refusal": null }),
                    None,
                ),
                None,
            );
        }
        for word in &self.words {
            for index in 0..self.choices {
                push(delta(index, json!({ "content": word }), None), None);
            }
        }
        for (at, call) in self.calls.iter().enumerate() {
            for index in 0..self.choices {
                // As OpenAI sends it: the name first, the arguments in a second piece.
                let mut first = call.clone();
                first["index"] = at.into();
                let arguments = std::mem::replace(&mut first["function"]["arguments"], "".into());
                push(delta(index, json!({ "tool_calls": [first] }), None), None);
                let rest = json!({ "index": at, "function": { "arguments": arguments } });
                push(delta(index, json!({ "tool_calls": [rest] }), None), None);
            }
        }
        for index in 0..self.choices {
            push(delta(index, json!({}), Some(self.finish)), None);
        }
        if with_usage {
            push(json!([]), Some(&self.usage));
        }
        chunks.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        chunks
    }
}

/// The text of a message, whether it is one or comes in parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts
                .iter()
                .filter_map(|part| part["text"].as_str())
                .collect();
            texts.join(" ")
        }
        _ => String::new(),
    }
}

/// Words, each with the space before it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let begin = rest.find(|c: char| !c.is_whitespace())?;
        let end = rest[begin..]
            .find(char::is_whitespace)
            .map_or(rest.len(), |at| begin + at);
        let (word, left) = rest.split_at(end);
        rest = left;
        Some(word)
    })
}

/// The tools that a request requires or its question names.
fn tool_calls(request: &Value, question: &str) -> Vec<Value> {
    let choice = &request["tool_choice"];
    if choice == "none" {
        return Vec::new();
    }
    let forced = choice["function"]["name"].as_str();
    let functions = request["tools"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|tool| &tool["function"]);
    let mut named: Vec<&Value> = functions
        .clone()
        .filter(|function| {
            function["name"].as_str().is_some_and(|name| match forced {
                Some(forced) => name == forced,
                None => question.contains(name),
            })
        })
        .collect();
    if named.is_empty() && choice == "required" {
        named.extend(functions.take(1));
    }
    let call = |(at, function): (usize, &Value)| {
        json!({
            "id": format!("call_demo_{at}"),
            "type": "function",
            "function": { "name": function["name"], "arguments": arguments(&function["parameters"]) },
        })
    };
    named.into_iter().enumerate().map(call).collect()
}

/// A value of the right type for each property.
fn arguments(parameters: &Value) -> String {
    let properties = parameters["properties"].as_object().into_iter().flatten();
    let filled: serde_json::Map<String, Value> = properties
        .map(|(name, schema)| {
            let value = match (schema["enum"].get(0), schema["type"].as_str()) {
                (Some(first), _) => first.clone(),
                (None, Some("number" | "integer")) => 1.into(),
                (None, Some("boolean")) => true.into(),
                (None, Some("array")) => json!([]),
                (None, Some("object")) => json!({}),
                _ => "demo".into(),
            };
            (name.clone(), value)
        })
        .collect();
    Value::Object(filled).to_string()
}

/// FNV-1a: the same in every run.
fn fingerprint(body: &[u8]) -> u64 {
    body.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

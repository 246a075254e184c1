//! A stored answer as a client asked for it: as JSON under a new id, or as the stream that the
//! provider might have sent. Never changes a word of the answer.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use unicode_segmentation::UnicodeSegmentation;

use crate::error::Error;

/// Characters of one chunk: from the first number on it ends at a word, at the second anywhere.
const CHUNK_MIN: usize = 20;
const CHUNK_MAX: usize = 40;

/// The answer under a new id, otherwise byte for byte as it was.
///
/// # Errors
/// When the stored body is not a JSON object with an id.
pub fn json(body: &[u8], id: &str) -> Result<Bytes, Error> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let head: Head<'_> = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let Some(old) = head.id else {
        return Ok(Bytes::copy_from_slice(body));
    };
    // The value is a slice of the body, so its place is the distance of the two addresses.
    let from = (old.get().as_ptr() as usize)
        .checked_sub(body.as_ptr() as usize)
        .ok_or_else(unreadable)?;
    let after = body.get(from + old.get().len()..).ok_or_else(unreadable)?;
    let id = Value::from(id).to_string();
    Ok([&body[..from], id.as_bytes(), after].concat().into())
}

/// The answer as server-sent events: the role first, the text in pieces of 20 to 40 characters that
/// never cut a grapheme, the reason of the end, the usage where it was asked for, and `[DONE]`.
///
/// # Errors
/// When the stored body is not a chat completion.
pub fn sse(body: &[u8], id: &str, created: i64, include_usage: bool) -> Result<Vec<Bytes>, Error> {
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(body) else {
        return Err(unreadable());
    };
    let Some(Value::Array(choices)) = answer.remove("choices") else {
        return Err(unreadable());
    };
    let usage = answer.remove("usage");
    answer.insert("id".to_owned(), id.into());
    answer.insert("object".to_owned(), "chat.completion.chunk".into());
    answer.insert("created".to_owned(), created.into());
    if include_usage {
        // OpenAI sends a null in every chunk but the last where usage was asked for.
        answer.insert("usage".to_owned(), Value::Null);
    }
    let mut stream = Stream {
        head: answer,
        events: Vec::new(),
    };
    for choice in choices {
        stream.choice(choice)?;
    }
    if include_usage && let Some(usage) = usage {
        stream.head.insert("usage".to_owned(), usage);
        stream.chunk(json!([]));
    }
    stream.events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Ok(stream.events)
}

struct Stream {
    /// What every chunk repeats.
    head: Map<String, Value>,
    events: Vec<Bytes>,
}

impl Stream {
    fn choice(&mut self, choice: Value) -> Result<(), Error> {
        let Value::Object(mut choice) = choice else {
            return Err(unreadable());
        };
        let Some(Value::Object(mut message)) = choice.remove("message") else {
            return Err(unreadable());
        };
        let index = choice.remove("index").unwrap_or_else(|| 0.into());
        let finish = choice.remove("finish_reason").unwrap_or(Value::Null);
        let role = message.remove("role").unwrap_or_else(|| "assistant".into());
        let content = message.remove("content").unwrap_or(Value::Null);
        message.retain(|_, v| !v.is_null());

        let mut first = json!({"role": role, "content": ""});
        // Thoughts come before the answer, in a field of their own; the rest with the role.
        for (name, value) in message {
            match value {
                Value::String(text) if name.starts_with("reasoning") => {
                    self.delta(&index, std::mem::replace(&mut first, Value::Null));
                    self.text(&index, &name, &text);
                }
                value if !first.is_null() => first[name] = value,
                value => self.delta(&index, json!({ name: value })),
            }
        }
        self.delta(&index, first);
        if let Value::String(text) = content {
            self.text(&index, "content", &text);
        }
        self.chunk(json!([{"index": index, "delta": {}, "finish_reason": finish}]));
        Ok(())
    }

    fn text(&mut self, index: &Value, field: &str, text: &str) {
        for piece in pieces(text) {
            self.delta(index, json!({ field: piece }));
        }
    }

    fn delta(&mut self, index: &Value, delta: Value) {
        if !delta.is_null() {
            self.chunk(json!([{"index": index, "delta": delta, "finish_reason": null}]));
        }
    }

    fn chunk(&mut self, choices: Value) {
        self.head.insert("choices".to_owned(), choices);
        let chunk = Value::Object(std::mem::take(&mut self.head));
        self.events.push(Bytes::from(format!("data: {chunk}\n\n")));
        if let Value::Object(head) = chunk {
            self.head = head;
        }
    }
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut chars = 0;
        let mut end = rest.len();
        let mut after_space = false;
        for (at, grapheme) in rest.grapheme_indices(true) {
            if chars >= CHUNK_MAX || (chars >= CHUNK_MIN && after_space) {
                end = at;
                break;
            }
            chars += grapheme.chars().count();
            after_space = grapheme.chars().all(char::is_whitespace);
        }
        let (piece, later) = rest.split_at(end);
        rest = later;
        Some(piece)
    })
}

fn unreadable() -> Error {
    Error::Request("the stored answer is not a chat completion".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Vec<u8> {
        json!({
            "id": "chatcmpl-old", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": "f",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": null}, "finish_reason": "stop", "logprobs": null}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
        })
        .to_string()
        .into_bytes()
    }

    fn events(text: &str, usage: bool) -> Vec<Value> {
        let events = sse(&answer(text), "chatcmpl-new", 9, usage).unwrap();
        let texts: Vec<_> = events
            .iter()
            .map(|e| {
                std::str::from_utf8(e)
                    .unwrap()
                    .strip_prefix("data: ")
                    .unwrap()
                    .strip_suffix("\n\n")
                    .unwrap()
            })
            .collect();
        assert_eq!(texts.last(), Some(&"[DONE]"));
        texts[..texts.len() - 1]
            .iter()
            .map(|t| serde_json::from_str(t).unwrap())
            .collect()
    }

    fn told(events: &[Value]) -> String {
        events
            .iter()
            .filter_map(|e| e["choices"][0]["delta"]["content"].as_str())
            .collect()
    }

    #[test]
    fn the_stream_tells_the_answer_word_for_word() {
        let family = "👩\u{200d}👩\u{200d}👧\u{200d}👦".repeat(30);
        for text in [
            "Short.",
            &"Some words of different lengths, again. ".repeat(20),
            &family,
            "e\u{301}".repeat(100).as_str(),
            "🇳🇴🇸🇪".repeat(40).as_str(),
        ] {
            let events = events(text, false);
            assert_eq!(told(&events), text);
            assert_eq!(
                events[0]["choices"][0]["delta"],
                json!({"role": "assistant", "content": ""})
            );
            let last = events.last().unwrap();
            assert_eq!(
                (
                    &last["choices"][0]["finish_reason"],
                    &last["choices"][0]["delta"]
                ),
                (&json!("stop"), &json!({}))
            );
            for event in &events {
                assert_eq!(
                    (&event["id"], &event["created"], &event["object"]),
                    (
                        &json!("chatcmpl-new"),
                        &json!(9),
                        &json!("chat.completion.chunk")
                    )
                );
                assert_eq!(event.get("usage"), None);
                let piece = event["choices"][0]["delta"]["content"]
                    .as_str()
                    .unwrap_or("");
                assert!(
                    !piece.starts_with(['\u{301}', '\u{200d}']),
                    "a grapheme was cut"
                );
            }
        }
    }

    #[test]
    fn usage_comes_last_and_only_where_asked_for() {
        let events = events("Hello there", true);
        let (last, before) = events.split_last().unwrap();
        assert_eq!(
            (&last["choices"], &last["usage"]["total_tokens"]),
            (&json!([]), &json!(8))
        );
        assert!(before.iter().all(|e| e["usage"].is_null()));
    }

    #[test]
    fn thoughts_come_before_the_answer() {
        let body = json!({"id": "x", "choices": [{"message": {"role": "assistant", "content": "B", "reasoning_content": "A"}, "finish_reason": "stop"}]});
        let events = sse(body.to_string().as_bytes(), "n", 0, false).unwrap();
        let text: String = events
            .iter()
            .map(|e| String::from_utf8_lossy(e).into_owned())
            .collect();
        assert!(text.find("reasoning_content").unwrap() < text.find("\"B\"").unwrap());
    }

    #[test]
    fn json_keeps_every_byte_but_the_id() {
        let body = br#"{ "z":1.50, "id" : "old\"x", "a":{"id":"inner"} }"#;
        assert_eq!(
            json(body, "new").unwrap(),
            &br#"{ "z":1.50, "id" : "new", "a":{"id":"inner"} }"#[..]
        );
        assert!(json(b"[]", "new").is_err());
    }
}

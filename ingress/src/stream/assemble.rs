//! A stream that ended well, put together as the plain answer that it would have been, for the cache.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The complete answer behind frames; `None` where they are not one of text alone, which is all that a
/// cache keeps.
#[must_use]
pub fn assemble(frames: &[u8], usage: &[u8]) -> Option<Bytes> {
    let mut head: Option<Map<String, Value>> = None;
    let mut texts: Vec<Map<String, Value>> = Vec::new();
    let mut finishes: Vec<Value> = Vec::new();
    for line in frames.split(|b| *b == b'\n') {
        let Some(data) = line.strip_prefix(b"data:") else {
            continue;
        };
        let Value::Object(mut chunk) = serde_json::from_slice(data.trim_ascii()).ok()? else {
            return None;
        };
        let choices = chunk.remove("choices").unwrap_or_default();
        head.get_or_insert(chunk);
        for choice in choices.as_array()? {
            let at = usize::try_from(choice["index"].as_u64()?)
                .ok()
                .filter(|at| *at < 128)?;
            if texts.len() <= at {
                texts.resize_with(at + 1, Map::new);
                finishes.resize(at + 1, Value::Null);
            }
            for (name, value) in choice["delta"].as_object()? {
                match (texts[at].get_mut(name), value) {
                    (_, Value::Null) => {}
                    (Some(Value::String(so_far)), Value::String(more)) if name != "role" => {
                        so_far.push_str(more)
                    }
                    (None | Some(Value::Null), Value::String(_)) => {
                        texts[at].insert(name.clone(), value.clone());
                    }
                    (Some(_), Value::String(_)) => {}
                    // Tool calls, audio: not kept.
                    _ => return None,
                }
            }
            if !choice["finish_reason"].is_null() {
                finishes[at] = choice["finish_reason"].clone();
            }
        }
    }
    let mut answer = head?;
    answer.insert("object".to_owned(), "chat.completion".into());
    let choices: Vec<Value> = texts
        .into_iter()
        .zip(finishes)
        .enumerate()
        .map(|(index, (message, finish))| json!({ "index": index, "message": message, "finish_reason": finish }))
        .collect();
    answer.insert("choices".to_owned(), choices.into());
    match serde_json::from_slice(usage) {
        Ok(usage) => answer.insert("usage".to_owned(), usage),
        Err(_) => answer.remove("usage"),
    };
    Some(Value::Object(answer).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_become_messages() {
        let frames = concat!(
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
            ": comment\n\n",
            "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Par\"},\"finish_reason\":null}]}\n\n",
            "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"is\"},\"finish_reason\":null}]}\n\n",
            "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        );
        let answer: Value =
            serde_json::from_slice(&assemble(frames.as_bytes(), b"{\"prompt_tokens\":1}").unwrap())
                .unwrap();
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(
            answer["choices"][0]["message"],
            json!({"role": "assistant", "content": "Paris"})
        );
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(answer["usage"]["prompt_tokens"], 1);
    }

    #[test]
    fn tool_calls_are_not_put_together() {
        let frame = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{}]},\"finish_reason\":null}]}\n\n";
        assert_eq!(assemble(frame, b""), None);
    }
}

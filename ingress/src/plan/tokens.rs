//! How many tokens a prompt has: counted by the vocabulary of the model that it may go to.

use routing::Encoding;

use crate::request::ModelRequest;
use crate::usage::tokens_of_bytes;

/// Longer prompts are counted off the serving thread.
pub const COUNTED_HERE: usize = 64 * 1024;
/// What frames a message.
pub const FRAMING: u64 = 4;

/// Tokens of the messages by each vocabulary, the first one first.
pub(super) async fn counted(
    encodings: Vec<Encoding>,
    request: &ModelRequest,
) -> (u64, Vec<(Encoding, u64)>) {
    let body = request.body.clone();
    let estimate = tokens_of_bytes(body.len() as u64);
    let count = move || {
        let Some((text, framing)) = texts(&body) else {
            return Vec::new();
        };
        let tokens = |encoding| (encoding, routing::count(encoding, &text) + framing);
        encodings.into_iter().map(tokens).collect()
    };
    let mut counted: Vec<_> = if request.body.len() <= COUNTED_HERE {
        count()
    } else {
        // It never panics; were it to, the estimate is what is left.
        tokio::task::spawn_blocking(count).await.unwrap_or_default()
    };
    if counted.is_empty() {
        return (estimate, counted);
    }
    let (_, first) = counted.remove(0);
    (first, counted)
}

/// Appends what of a message becomes tokens; none where it is no object.
pub fn push_text(message: &serde_json::Value, text: &mut String) -> Option<()> {
    for value in message.as_object()?.values() {
        match value {
            serde_json::Value::String(part) => text.push_str(part),
            serde_json::Value::Array(parts) => {
                for part in parts {
                    match part.get("text").and_then(serde_json::Value::as_str) {
                        Some(part) => text.push_str(part),
                        None if part.get("type").is_none() || part.get("function").is_some() => {
                            text.push_str(&part.to_string());
                        }
                        None => {}
                    }
                }
            }
            _ => {}
        }
        text.push('\n');
    }
    Some(())
}

/// What of a request becomes tokens: the texts of its messages and its tools, and what frames them.
fn texts(body: &[u8]) -> Option<(String, u64)> {
    let request: serde_json::Value = serde_json::from_slice(body).ok()?;
    let mut text = String::new();
    // <https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken>: 3 a message, 3 for the answer.
    let mut framing = 3;
    for message in request.get("messages")?.as_array()? {
        framing += FRAMING;
        push_text(message, &mut text)?;
    }
    for tools in ["tools", "functions", "response_format"] {
        if let Some(tools) = request.get(tools) {
            text.push_str(&tools.to_string());
        }
    }
    Some((text, framing))
}

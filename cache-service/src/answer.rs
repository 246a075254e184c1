//! Which answers may be kept: complete ones that ended by themselves, with text, without tool calls.

use serde_json::Value;

use crate::outcome::NotStored;

/// Why an answer must not be kept; `None` where it may.
pub(crate) fn refusal(body: &[u8]) -> Option<NotStored> {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Some(NotStored::Incomplete);
    };
    let Some(choices) = answer
        .get("choices")
        .and_then(Value::as_array)
        .filter(|c| !c.is_empty())
    else {
        return Some(NotStored::Incomplete);
    };
    if answer.get("error").is_some_and(|e| !e.is_null()) {
        return Some(NotStored::Incomplete);
    }
    choices.iter().find_map(choice)
}

fn choice(choice: &Value) -> Option<NotStored> {
    let Some(message) = choice.get("message") else {
        return Some(NotStored::Incomplete);
    };
    let set = |name: &str| {
        message
            .get(name)
            .filter(|v| !v.is_null() && v.as_array().is_none_or(|a| !a.is_empty()))
    };
    if set("tool_calls").is_some() || set("function_call").is_some() {
        return Some(NotStored::ToolCall);
    }
    if choice.get("finish_reason").and_then(Value::as_str) != Some("stop")
        || set("refusal").is_some()
    {
        return Some(NotStored::Incomplete);
    }
    match message.get("content").and_then(Value::as_str) {
        Some(text) if !text.trim().is_empty() => None,
        _ => Some(NotStored::Empty),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_complete_text_is_kept() {
        let of = |message: Value, finish: &str| {
            refusal(
                json!({"choices": [{"message": message, "finish_reason": finish}]})
                    .to_string()
                    .as_bytes(),
            )
        };
        let table = [
            (of(json!({"content": "Paris"}), "stop"), None),
            (
                of(json!({"content": "Par"}), "length"),
                Some(NotStored::Incomplete),
            ),
            (
                of(json!({"content": "Par"}), "content_filter"),
                Some(NotStored::Incomplete),
            ),
            (of(json!({"content": " "}), "stop"), Some(NotStored::Empty)),
            (
                of(json!({"content": null, "tool_calls": [{}]}), "tool_calls"),
                Some(NotStored::ToolCall),
            ),
            (of(json!({"content": "x", "tool_calls": []}), "stop"), None),
            (
                of(json!({"content": "x", "refusal": "no"}), "stop"),
                Some(NotStored::Incomplete),
            ),
            (refusal(b"{\"choices\":[]}"), Some(NotStored::Incomplete)),
            (refusal(b"data: x"), Some(NotStored::Incomplete)),
        ];
        for (row, (is, wanted)) in table.into_iter().enumerate() {
            assert_eq!(is, wanted, "row {row}");
        }
    }
}

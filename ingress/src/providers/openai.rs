//! The dialect of OpenAI's chat completions, spoken by most providers: which bytes of a request change
//! on their way out, and how an error of theirs is read.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::edit::Edits;
use crate::error::ProviderError;
use crate::models::Served;
use crate::params;
use crate::request::ModelRequest;
use crate::sse::{self, Event};

/// How much of an error that is no JSON is shown.
const SHOWN_MAX: usize = 500;

/// The body that goes to the provider: the client's bytes, but for the model's name where it differs,
/// members meant for us, the usage that we need on a stream, a cap that a budget sets, and what the
/// deployment's own parameters ask for.
#[must_use]
pub fn body(request: &ModelRequest, served: &Served, cap: Option<u64>) -> Bytes {
    let mut edits = Edits::default();
    rename(&mut edits, request, served);
    for ours in &request.ours {
        edits.remove_member(&request.body, ours.clone());
    }
    let asks_usage =
        request.stream && request.endpoint.has_stream_options() && !request.include_usage;
    let rules = served.params.as_deref();
    let cap = cap.or_else(|| rules?.max_tokens(request));
    let takes_options = rules.is_none_or(|rules| rules.takes_stream_options);
    if asks_usage && takes_options {
        match &request.stream_options_at {
            None => edits.insert(
                request.first_member,
                "\"stream_options\":{\"include_usage\":true},",
            ),
            Some(at) => edits.replace(at.clone(), with_usage(&request.body[at.clone()])),
        }
    }
    if let Some(cap) = cap {
        let names = request.endpoint.caps();
        let at = match names {
            [_, _] => usize::from(!takes_completion_cap(served)),
            _ => 0,
        };
        if let (Some(name), Some(null)) = (names.get(at), request.null_caps.get(at)) {
            match null {
                Some(null) => edits.replace(null.clone(), cap.to_string()),
                None => edits.insert(request.first_member, format!("\"{name}\":{cap},")),
            }
        }
    }
    if rules.is_some() || request.rules.is_some() {
        params::edit(&mut edits, request, served);
    }
    edits.apply(&request.body)
}

/// Puts the provider's name of the model where the client's stands.
fn rename(edits: &mut Edits, request: &ModelRequest, served: &Served) {
    let name = &*served.upstream_model;
    // A string always serialises.
    let quoted = || serde_json::to_string(name).unwrap_or_default();
    match &request.model_at {
        Some(at) if request.body[at.clone()] == *name.as_bytes() => {}
        Some(at) if request.form.is_some() => edits.replace(at.clone(), name.to_owned()),
        // Compared as the client wrote it: usually the same name in its quotes.
        Some(at) if is_quoted(&request.body[at.clone()], name) => {}
        Some(at) => edits.replace(at.clone(), quoted()),
        // Azure's own address names it already.
        None if request.form.is_some() => {}
        None if served
            .deployment
            .entry
            .names_model_in_path(request.endpoint.path()) => {}
        None => edits.insert(request.first_member, format!("\"model\":{},", quoted())),
    }
}

fn is_quoted(text: &[u8], name: &str) -> bool {
    text.strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        == Some(name.as_bytes())
}

/// OpenAI's reasoning models refuse `max_tokens`, and all its chat models take the newer name; servers
/// that only speak its dialect often know the older one alone.
fn takes_completion_cap(served: &Served) -> bool {
    let model = &*served.upstream_model;
    match &*served.deployment.provider {
        "openai" => true,
        "azure" => ["o1", "o3", "o4", "gpt-5"]
            .iter()
            .any(|family| model.starts_with(family)),
        _ => false,
    }
}

/// `stream_options` as sent, with usage asked for.
fn with_usage(options: &[u8]) -> Bytes {
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(options).unwrap_or_default();
    object.insert("include_usage".to_owned(), true.into());
    serde_json::to_vec(&object).unwrap_or_default().into()
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    message: Option<String>,
    detail: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ErrorFields {
    message: Option<String>,
    r#type: Option<String>,
    param: Option<String>,
    code: Option<serde_json::Value>,
}

/// The error that a stream begins with, where it begins with one.
#[must_use]
pub fn first_error(bytes: &[u8]) -> Option<ProviderError> {
    let end = sse::end(bytes);
    let frame = end.map_or(bytes, |end| &bytes[..end.length]);
    let event = Event::of(frame, end.is_some_and(|end| end.single))?;
    event.is_error().then(|| inside(&event.data))
}

/// The error that stands in the place of an answer, under a status that says that all is well.
#[must_use]
pub fn error_as_answer(body: &[u8]) -> Option<ProviderError> {
    let object = body.trim_ascii();
    sse::begins_with_error(object).then(|| inside(object))
}

/// An error that was sent as an answer. Its status is in it, or it is a failure.
fn inside(object: &[u8]) -> ProviderError {
    let mut found = error(StatusCode::BAD_GATEWAY, None, object);
    let status = found.code.as_deref().and_then(|code| code.parse().ok());
    if let Some(status) = status.and_then(|status| StatusCode::from_u16(status).ok())
        && (status.is_client_error() || status.is_server_error())
    {
        found.status = status;
    }
    found
}

/// Reads a provider's error, whatever shape it has.
#[must_use]
pub fn error(status: StatusCode, retry_after: Option<&HeaderValue>, body: &[u8]) -> ProviderError {
    let mut error = ProviderError {
        // What is neither an answer nor an error (a redirect, say) is a fault of the way there.
        status: if status.is_client_error() || status.is_server_error() {
            status
        } else {
            StatusCode::BAD_GATEWAY
        },
        message: String::new(),
        kind: None,
        param: None,
        code: None,
        retry_after: retry_after.cloned(),
    };
    if let Ok(parsed) = serde_json::from_slice::<ErrorBody<'_>>(body) {
        let raw = parsed.error.map_or("null", RawValue::get);
        let fields: Option<ErrorFields> = match parsed.error {
            Some(_) => serde_json::from_str(raw).ok(),
            // Some say it without the envelope.
            None => serde_json::from_slice(body)
                .ok()
                .filter(|fields: &ErrorFields| fields.message.is_some()),
        };
        if let Some(fields) = fields {
            error.message = fields.message.unwrap_or_default();
            error.kind = fields.r#type;
            error.param = fields.param;
            error.code = match fields.code {
                Some(serde_json::Value::String(code)) => Some(code),
                Some(serde_json::Value::Number(code)) => Some(code.to_string()),
                _ => None,
            };
        } else if let Ok(text) = serde_json::from_str::<String>(raw) {
            error.message = text;
        } else if let Some(text) = parsed.message {
            error.message = text;
        } else if let Some(detail) = parsed.detail {
            error.message = detail
                .as_str()
                .map_or_else(|| detail.to_string(), str::to_owned);
        }
    }
    if error.message.is_empty() {
        let text = String::from_utf8_lossy(body);
        let shown: String = text.trim().chars().take(SHOWN_MAX).collect();
        error.message = if shown.is_empty() {
            format!("the provider answered {status} without a message")
        } else {
            format!("the provider answered {status}: {shown}")
        };
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> ProviderError {
        error(StatusCode::from_u16(status).unwrap(), None, body.as_bytes())
    }

    #[test]
    fn errors_of_every_shape_are_read() {
        let openai = read(
            429,
            r#"{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit"}}"#,
        );
        assert_eq!(
            (openai.message.as_str(), openai.code.as_deref()),
            ("slow down", Some("rate_limit"))
        );
        assert_eq!(
            read(400, r#"{"error":{"message":"m","code":400}}"#)
                .code
                .as_deref(),
            Some("400")
        );
        assert_eq!(
            read(400, r#"{"error":"model not found"}"#).message,
            "model not found"
        );
        assert_eq!(read(404, r#"{"detail":"Not Found"}"#).message, "Not Found");
        let bare = read(400, r#"{"error":{"code":"rate_limit"}}"#);
        assert_eq!(bare.code.as_deref(), Some("rate_limit"));
        let flat = read(
            400,
            r#"{"object":"error","message":"m","type":"BadRequestError","code":400}"#,
        );
        assert_eq!(
            (&*flat.message, flat.kind.as_deref(), flat.code.as_deref()),
            ("m", Some("BadRequestError"), Some("400"))
        );
        assert_eq!(
            read(400, r#"{"object":"error","message":"vllm"}"#).message,
            "vllm"
        );
        assert_eq!(
            read(502, "<html>").message,
            "the provider answered 502 Bad Gateway: <html>"
        );
        for odd in [302, 999] {
            assert_eq!(read(odd, "").status, StatusCode::BAD_GATEWAY);
        }
    }

    #[test]
    fn what_begins_with_an_error_is_one_with_the_status_that_it_names() {
        let first = |text: &str| {
            let found = first_error(text.as_bytes())?;
            Some((found.status.as_u16(), found.message))
        };
        let slow = || Some((429, "slow".to_owned()));
        for text in [
            "data: {\"error\":{\"message\":\"slow\",\"code\":429}}\n\ndata: x\n\n",
            "data: { \"error\" : {\"message\":\"slow\",\"code\":\"429\"}}",
            "event: error\ndata: {\"type\":\"error\",\"message\":\"slow\",\"code\":\"429\"}\n\n",
        ] {
            assert_eq!(first(text), slow(), "{text}");
        }
        for text in [
            "data: {\"error\":null,\"id\":\"x\"}\n\n",
            "data: [DONE]\n\n",
            ": hi\n\n",
        ] {
            assert_eq!(first(text), None, "{text}");
        }
        let whole = |text: &str| error_as_answer(text.as_bytes()).map(|e| e.status.as_u16());
        assert_eq!(whole(" {\"error\":{\"message\":\"x\"}}\n"), Some(502));
        assert_eq!(whole("{\"id\":\"x\",\"error\":{}}"), None);
    }
}

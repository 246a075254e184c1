//! Everything that a call can end with other than an answer, and the one place that knows how each is
//! said over HTTP. Messages name the thing and never hold a secret.

mod words;

use std::borrow::Cow;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use budgets::Refusal;
use bytes::Bytes;
use config::FailureKind;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use schemas::{KeyHash, Micros};
use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::failover;
use crate::upstream::UpstreamError;
use words::{instant, refused, seconds_until};

/// Errors of the ingress.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Authentication Error, No api key passed in.")]
    NoKey,
    #[error(
        "Authentication Error, Invalid proxy server token passed. Received API Key = {short}, \
         Key Hash (Token) = {hash}. Unable to find token in the key table"
    )]
    UnknownKey { short: String, hash: KeyHash },
    #[error("Authentication Error, Expired Key. Key = {name}, expired at {}", instant(*at))]
    ExpiredKey { name: String, at: Micros },
    #[error("Authentication Error, Key is blocked. Update via `/key/unblock` if you're admin.")]
    BlockedKey,
    #[error("Authentication Error, Key is blocked: its team is blocked.")]
    BlockedTeam,
    #[error(
        "{who} not allowed to access model. This {who} can only access models={models:?}. Tried to access {tried}"
    )]
    ModelNotAllowed {
        who: &'static str,
        models: Vec<String>,
        tried: String,
    },
    #[error("only the master key may call {route}")]
    NotAdmin { route: String },
    /// An address or a route that the file or the key leaves out.
    #[error("{0}")]
    Forbidden(String),
    #[error("this {what} is not yours")]
    NotYours { what: &'static str },
    #[error("{message}")]
    BadRequest {
        message: String,
        param: Option<String>,
    },
    #[error(
        "Invalid model name passed in model={model}. Call `/v1/models` to view available models for your key."
    )]
    UnknownModel { model: String },
    #[error("this route takes POST only")]
    NotPost,
    #[error("{route} is not asked by {method}")]
    WrongMethod { method: Method, route: String },
    #[error("{what} not found")]
    NotFound {
        what: Cow<'static, str>,
        param: Option<String>,
    },
    #[error("the request body is larger than {limit} bytes, the limit of this gateway")]
    BodyTooLarge { limit: u64 },
    #[error("the request body does not go on: nothing of it came for {seconds} s")]
    BodyStalled { seconds: u64 },
    #[error("timeout: the {:.1} s of this call were over before a provider was asked", .0.as_secs_f64())]
    TooLate(Duration),
    /// A refusal by a budget or a limit.
    #[error("{}", refused(.0))]
    Refused(#[from] Refusal),
    #[error(
        "model {model} has no known price, so no budget can be checked: set its price in the config \
         or a ceiling in budgets.unpriced_ceiling"
    )]
    Unpriced { model: String },
    /// Every deployment of a name is left alone for a while.
    #[error(
        "No deployments available for selected model, Try again in {seconds} seconds. Passed model={model}"
    )]
    CoolingDown { model: String, seconds: u64 },
    #[error("No deployments available for selected model: {reason}. Passed model={model}")]
    NoDeployment { model: String, reason: &'static str },
    #[error(
        "This model's maximum context length is {window} tokens. However, your messages resulted in {tokens} tokens. \
         Please reduce the length of the messages."
    )]
    PromptTooLong { window: u64, tokens: u64 },
    #[error("model {model} cannot be called: {reason}")]
    Unsupported { model: String, reason: &'static str },
    /// What cannot be recorded cannot be billed.
    #[error("the call could not be recorded: {}", .0.cause())]
    Journal(#[from] journal::Error),
    /// A change of keys or teams that is not known to be in force.
    #[error("{0}")]
    Change(String),
    /// The log of keys and prices has not been read, and there is no copy of it.
    #[error(
        "this gateway does not know its keys and prices yet: it waits for their log. Try again"
    )]
    NotReady,
    #[error("the usage store is not available: {0}")]
    Store(String),
    #[error("the answer cache is not available")]
    Cache,
    /// No answer of the provider.
    #[error("{exception}Exception - {source}")]
    Upstream {
        exception: String,
        source: UpstreamError,
    },
    /// The provider answered with an error.
    #[error("{}", .0.message)]
    Provider(Box<ProviderError>),
    #[error("internal error: {0}")]
    Internal(String),
    /// At start only.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    /// At start only.
    #[error("cannot start a serving thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// A provider's refusal, as it is passed on.
#[derive(Debug)]
pub struct ProviderError {
    pub status: StatusCode,
    pub message: String,
    pub kind: Option<String>,
    pub param: Option<String>,
    pub code: Option<String>,
    pub retry_after: Option<HeaderValue>,
}

impl ProviderError {
    /// Its `code`. Where the provider has none, or only a number, the one that clients look for, if the prompt is
    /// to blame.
    fn word(&self) -> Option<Cow<'_, str>> {
        let own = self.code.as_deref();
        let is_word = own.is_some_and(|code| code.bytes().any(|byte| !byte.is_ascii_digit()));
        match failover::failure_of(self).kind {
            FailureKind::ContextWindow if !is_word => Some("context_length_exceeded".into()),
            FailureKind::ContentPolicy if !is_word => Some("content_policy_violation".into()),
            _ => own.map(Cow::Borrowed),
        }
    }
}

impl Error {
    /// 400 about one parameter.
    pub fn bad_request(message: impl Into<String>, param: impl Into<String>) -> Self {
        Self::BadRequest {
            message: message.into(),
            param: Some(param.into()),
        }
    }

    /// 404 about what a parameter names.
    pub fn not_found(what: impl Into<Cow<'static, str>>, param: impl Into<String>) -> Self {
        Self::NotFound {
            what: what.into(),
            param: Some(param.into()),
        }
    }

    /// A failure of ours.
    pub fn internal(cause: impl Display) -> Self {
        Self::Internal(cause.to_string())
    }

    /// Status, `type` and `param` of the envelope.
    fn parts(&self) -> (StatusCode, Cow<'_, str>, Option<&str>) {
        use StatusCode as S;
        // No `_` arm: a new variant must choose its answer.
        match self {
            Self::NoKey | Self::BlockedKey | Self::BlockedTeam => {
                (S::UNAUTHORIZED, "auth_error".into(), None)
            }
            Self::UnknownKey { .. } => {
                (S::UNAUTHORIZED, "token_not_found_in_db".into(), Some("key"))
            }
            Self::ExpiredKey { .. } => (S::UNAUTHORIZED, "expired_key".into(), Some("key")),
            Self::ModelNotAllowed { who, .. } => (
                S::FORBIDDEN,
                format!("{who}_model_access_denied").into(),
                Some("model"),
            ),
            Self::NotAdmin { .. } | Self::NotYours { .. } | Self::Forbidden(_) => {
                (S::FORBIDDEN, "auth_error".into(), None)
            }
            Self::BadRequest { param, .. } => (
                S::BAD_REQUEST,
                "invalid_request_error".into(),
                param.as_deref(),
            ),
            Self::CoolingDown { .. } => (
                S::TOO_MANY_REQUESTS,
                "no_deployments_available".into(),
                None,
            ),
            Self::PromptTooLong { .. } => (
                S::BAD_REQUEST,
                "invalid_request_error".into(),
                Some("messages"),
            ),
            Self::UnknownModel { .. } | Self::Unsupported { .. } | Self::NoDeployment { .. } => (
                S::BAD_REQUEST,
                "invalid_request_error".into(),
                Some("model"),
            ),
            Self::NotPost | Self::WrongMethod { .. } => {
                (S::METHOD_NOT_ALLOWED, "invalid_request_error".into(), None)
            }
            Self::BodyStalled { .. } => (S::REQUEST_TIMEOUT, "invalid_request_error".into(), None),
            Self::TooLate(_) => (S::REQUEST_TIMEOUT, "timeout_error".into(), None),
            Self::NotFound { param, .. } => {
                (S::NOT_FOUND, "not_found_error".into(), param.as_deref())
            }
            Self::BodyTooLarge { .. } => {
                (S::PAYLOAD_TOO_LARGE, "invalid_request_error".into(), None)
            }
            Self::Refused(Refusal::Budget { .. }) => {
                (S::TOO_MANY_REQUESTS, "budget_exceeded".into(), None)
            }
            Self::Refused(Refusal::Rate { .. }) => {
                (S::TOO_MANY_REQUESTS, "throttling_error".into(), None)
            }
            // Fail closed: a hard budget whose state is unknown admits nothing.
            Self::Refused(Refusal::Unavailable { .. } | Refusal::Stale { .. }) => {
                (S::SERVICE_UNAVAILABLE, "budget_unavailable".into(), None)
            }
            Self::Unpriced { .. } => (S::BAD_REQUEST, "unpriced_model".into(), Some("model")),
            Self::Journal(_) => (S::SERVICE_UNAVAILABLE, "journal_unavailable".into(), None),
            Self::Change(_) => (
                S::SERVICE_UNAVAILABLE,
                "config_log_unavailable".into(),
                None,
            ),
            Self::NotReady => (S::SERVICE_UNAVAILABLE, "not_ready".into(), None),
            Self::Store(_) => (S::SERVICE_UNAVAILABLE, "no_db_connection".into(), None),
            Self::Cache => (S::SERVICE_UNAVAILABLE, "cache_unavailable".into(), None),
            Self::Upstream { source, .. } => (source.status(), source.kind().into(), None),
            Self::Provider(error) => (
                error.status,
                error.kind.as_deref().unwrap_or("provider_error").into(),
                error.param.as_deref(),
            ),
            Self::Internal(_) | Self::Listen { .. } | Self::Thread(_) => {
                (S::INTERNAL_SERVER_ERROR, "internal_error".into(), None)
            }
        }
    }

    /// The status that a client sees.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts().0
    }

    /// A short word for events, logs and metrics.
    #[must_use]
    pub fn code(&self) -> Cow<'_, str> {
        match self {
            Self::Provider(error) => error
                .code
                .as_deref()
                .map_or_else(|| self.parts().1, Cow::Borrowed),
            _ => self.parts().1,
        }
    }

    /// The OpenAI envelope.
    #[must_use]
    pub fn envelope(&self) -> Bytes {
        let (status, kind, param) = self.parts();
        let code: Cow<'_, str> = match self {
            Self::Provider(error) => error
                .word()
                .unwrap_or_else(|| status.as_str().to_owned().into()),
            Self::PromptTooLong { .. } => "context_length_exceeded".into(),
            _ => status.as_str().to_owned().into(),
        };
        let envelope = Envelope {
            error: Body {
                message: &self.to_string(),
                r#type: &kind,
                param,
                code: &code,
            },
        };
        // Strings and options only: this cannot fail to serialise.
        serde_json::to_vec(&envelope).unwrap_or_default().into()
    }

    /// The envelope as the last frame of a stream that has already begun.
    #[must_use]
    pub fn frame(&self) -> Bytes {
        let envelope = self.envelope();
        let mut frame = Vec::with_capacity(envelope.len() + 8);
        frame.extend_from_slice(b"data: ");
        frame.extend_from_slice(&envelope);
        frame.extend_from_slice(b"\n\n");
        frame.into()
    }

    /// The same for an endpoint whose streams are named events: `error` is one of them.
    #[must_use]
    pub fn frame_for(&self, endpoint: Endpoint) -> Bytes {
        if endpoint.ends_with_done() {
            return self.frame();
        }
        let (status, kind, param) = self.parts();
        let event = serde_json::json!({
            "type": "error", "code": kind, "message": self.to_string(), "param": param,
            "status": status.as_u16(),
        });
        format!("event: error\ndata: {event}\n\n").into()
    }

    fn headers(&self, into: &mut http::HeaderMap) {
        static SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
        let mut retry_after = |seconds: i64| {
            into.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        };
        match self {
            Self::Refused(
                Refusal::Budget { by_holds: true, .. }
                | Refusal::Unavailable { .. }
                | Refusal::Stale { .. },
            ) => retry_after(1),
            Self::Refused(Refusal::Budget { resets_at, .. }) => {
                if *resets_at != Micros(i64::MAX) {
                    retry_after(seconds_until(*resets_at));
                }
                // Waiting does not refill a budget; OpenAI's and Anthropic's SDKs honour it.
                into.insert(SHOULD_RETRY.clone(), HeaderValue::from_static("false"));
            }
            Self::Refused(Refusal::Rate {
                limit_type,
                resets_at,
                ..
            }) => {
                retry_after(seconds_until(*resets_at));
                into.insert(
                    HeaderName::from_static("rate_limit_type"),
                    HeaderValue::from_static(limit_type.name()),
                );
                if let Ok(at) = HeaderValue::try_from(instant(*resets_at)) {
                    into.insert(HeaderName::from_static("reset_at"), at);
                }
            }
            Self::Journal(_) | Self::Store(_) | Self::Change(_) | Self::NotReady => retry_after(1),
            Self::NotPost => {
                into.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            Self::CoolingDown { seconds, .. } => {
                retry_after(i64::try_from(*seconds).unwrap_or(i64::MAX));
            }
            Self::Provider(error) => {
                if let Some(value) = &error.retry_after {
                    into.insert(header::RETRY_AFTER, value.clone());
                }
            }
            _ => {}
        }
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            // Logged here, once, with its chain of causes.
            let code = self.code();
            tracing::error!(
                error = &self as &dyn std::error::Error,
                error.code = &*code,
                "call failed: {self}"
            );
        }
        let mut response = Response::new(self.envelope().into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        self.headers(headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use budgets::ScopeKind;

    use super::*;

    #[test]
    fn the_envelope_has_real_nulls_and_a_code_that_is_text() {
        let text = Error::NoKey.envelope();
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            r#"{"error":{"message":"Authentication Error, No api key passed in.","type":"auth_error","param":null,"code":"401"}}"#
        );
    }

    #[test]
    fn what_the_prompt_is_to_blame_for_has_the_code_that_clients_look_for() {
        let code = |message: &str, code: Option<&str>| {
            let error = Error::Provider(Box::new(ProviderError {
                status: StatusCode::BAD_REQUEST,
                message: message.to_owned(),
                kind: None,
                param: None,
                code: code.map(str::to_owned),
                retry_after: None,
            }));
            let told: serde_json::Value = serde_json::from_slice(&error.envelope()).unwrap();
            told["error"]["code"].as_str().unwrap().to_owned()
        };
        let long = "This model's maximum context length is 4096 tokens.";
        assert_eq!(code(long, None), "context_length_exceeded");
        assert_eq!(code(long, Some("400")), "context_length_exceeded");
        assert_eq!(
            code(long, Some("string_above_max_length")),
            "string_above_max_length"
        );
        let filtered = "The response was filtered by our content management policy";
        assert_eq!(code(filtered, None), "content_policy_violation");
        assert_eq!(code(filtered, Some("content_filter")), "content_filter");
        assert_eq!(code("no", Some("42")), "42");
        assert_eq!(code("no", None), "400");
    }

    #[test]
    fn refusals_by_spend_and_by_holds_are_told_apart() {
        let refusal = |by_holds| {
            Error::from(Refusal::Budget {
                kind: ScopeKind::Key,
                id: "alice".into(),
                used: schemas::NanoUsd::from_usd(1),
                held: schemas::NanoUsd(5),
                limit: schemas::NanoUsd::from_usd(1),
                needed: schemas::NanoUsd(7),
                resets_at: Micros(i64::MAX),
                by_holds,
            })
        };
        let spent = refusal(false);
        assert!(spent.to_string().starts_with(
            "Budget has been exceeded! Current cost: 1.0, Max budget: 1.0. Key: alice"
        ));
        let response = spent.into_response();
        assert_eq!(response.headers()["x-should-retry"], "false");
        assert!(!response.headers().contains_key("retry-after"));
        let response = refusal(true).into_response();
        assert_eq!(response.headers()["retry-after"], "1");
        assert!(!response.headers().contains_key("x-should-retry"));
    }
}

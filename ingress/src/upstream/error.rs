//! Why no answer came. Shown to clients: never a URL, a header, or anything that may hold a key.

use std::error::Error;
use std::time::Duration;

use config::FailureKind;
use http::StatusCode;

/// Which deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Connect,
    FirstByte,
    Idle,
    Total,
}

impl Stage {
    const fn words(self) -> &'static str {
        match self {
            Self::Connect => "to connect",
            Self::FirstByte => "for the first byte",
            Self::Idle => "between two reads",
            Self::Total => "for the whole answer",
        }
    }
}

/// No answer of the provider, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("cannot connect to the provider: {0}")]
    Connect(String),
    #[error("timeout: the provider took longer than {:.1} s {}", .after.as_secs_f64(), .stage.words())]
    Timeout { stage: Stage, after: Duration },
    #[error("the provider closed the connection before its answer was complete")]
    Closed,
    #[error("the provider's answer is not what it should be: {0}")]
    Malformed(String),
    #[error("the provider's answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl UpstreamError {
    /// What the client is told.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Timeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Connect(_) | Self::Closed => StatusCode::SERVICE_UNAVAILABLE,
            Self::Malformed(_) | Self::TooLarge(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// `type` of the envelope.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout_error",
            Self::Connect(_) | Self::Closed => "api_connection_error",
            Self::Malformed(_) | Self::TooLarge(_) => "api_error",
        }
    }

    /// Whether the provider may charge, where no answer has begun. A connection that broke first charges
    /// nothing: it was old, or the provider failed.
    #[must_use]
    pub const fn may_cost(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Closed
            | Self::Timeout {
                stage: Stage::Connect,
                ..
            } => false,
            Self::Timeout { .. } | Self::Malformed(_) | Self::TooLarge(_) => true,
        }
    }

    /// As routing counts it.
    #[must_use]
    pub const fn failure(&self) -> FailureKind {
        match self {
            Self::Timeout { .. } => FailureKind::Timeout,
            Self::Connect(_) | Self::Closed => FailureKind::Connection,
            Self::Malformed(_) | Self::TooLarge(_) => FailureKind::Malformed,
        }
    }

    pub(super) fn of_reqwest(error: reqwest::Error, connect: Duration) -> Self {
        let error = error.without_url();
        if error.is_connect() && error.is_timeout() {
            return Self::Timeout {
                stage: Stage::Connect,
                after: connect,
            };
        }
        if error.is_connect() || error.is_builder() {
            let mut cause: &dyn Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            return Self::Connect(cause.to_string());
        }
        if error.is_decode() {
            return Self::Malformed(error.to_string());
        }
        Self::Closed
    }
}

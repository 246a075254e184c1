//! How an attempt failed.

use std::time::Duration;

use config::FailureKind;

/// A failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// The provider's own `retry-after`.
    pub retry_after: Option<Duration>,
}

impl Failure {
    #[must_use]
    pub const fn of(kind: FailureKind) -> Self {
        Self {
            kind,
            retry_after: None,
        }
    }

    /// From the status of a provider's answer; `code` is the `code` or `type` of its error.
    #[must_use]
    pub fn of_status(status: u16, code: &str, retry_after: Option<Duration>) -> Self {
        let kind = match (status, code) {
            (400 | 413 | 422, "context_length_exceeded" | "request_too_large") => {
                FailureKind::ContextWindow
            }
            (400..=422, "content_policy_violation" | "content_filter") => {
                FailureKind::ContentPolicy
            }
            (408 | 504, _) => FailureKind::Timeout,
            (429, _) => FailureKind::RateLimit,
            // 402: there is nothing left on the account.
            (401..=403, _) => FailureKind::Auth,
            // It has no such endpoint, or the model no more.
            (404 | 405 | 410, _) => FailureKind::NotFound,
            // A bad moment of theirs: a conflict, a lock, a call of their own that was given up.
            (409 | 423 | 425 | 499, _) => FailureKind::Server,
            (400..=499, _) => FailureKind::BadRequest,
            _ => FailureKind::Server,
        };
        Self { kind, retry_after }
    }

    /// Whether the same deployment might answer a moment later.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(
            self.kind,
            FailureKind::Timeout
                | FailureKind::RateLimit
                | FailureKind::Server
                | FailureKind::Connection
                | FailureKind::Malformed
        )
    }

    /// Whether another deployment of the same name might answer.
    #[must_use]
    pub const fn is_deployments(&self) -> bool {
        self.may_pass() || matches!(self.kind, FailureKind::Auth | FailureKind::NotFound)
    }
}

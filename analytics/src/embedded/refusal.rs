//! What ClickHouse says when it will not: a code, a text, an HTTP status.
//!
//! Codes and statuses are those of ClickHouse's `ErrorCodes.cpp` and `exceptionCodeToHTTPStatus`.

use axum::http::StatusCode;

const UNKNOWN_EXCEPTION: i32 = 1002;
const LOGICAL_ERROR: i32 = 49;

pub const SYNTAX_ERROR: i32 = 62;
pub const READONLY: i32 = 164;
pub const TOO_LARGE: i32 = 191;
pub const TOO_MANY_QUERIES: i32 = 202;
pub const AUTHENTICATION_FAILED: i32 = 516;
const BAD_ARGUMENTS: i32 = 36;
const NOT_IMPLEMENTED: i32 = 48;
const CANNOT_DECOMPRESS: i32 = 271;

/// A refused statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: i32,
    /// Begins with `Code: N. DB::Exception:`, as clients expect.
    pub message: String,
}

impl Refusal {
    /// Our own refusal in ClickHouse's words.
    #[must_use]
    pub fn new(code: i32, text: &str) -> Self {
        let name = match code {
            SYNTAX_ERROR => "SYNTAX_ERROR",
            READONLY => "READONLY",
            TOO_LARGE => "QUERY_IS_TOO_LARGE",
            TOO_MANY_QUERIES => "TOO_MANY_SIMULTANEOUS_QUERIES",
            AUTHENTICATION_FAILED => "AUTHENTICATION_FAILED",
            BAD_ARGUMENTS => "BAD_ARGUMENTS",
            NOT_IMPLEMENTED => "NOT_IMPLEMENTED",
            CANNOT_DECOMPRESS => "CANNOT_DECOMPRESS",
            LOGICAL_ERROR => "LOGICAL_ERROR",
            _ => "UNKNOWN_EXCEPTION",
        };
        Self {
            code,
            message: format!("Code: {code}. DB::Exception: {text}. ({name})"),
        }
    }

    #[must_use]
    pub fn logical(text: &str) -> Self {
        Self::new(LOGICAL_ERROR, text)
    }

    #[must_use]
    pub fn bad_arguments(text: &str) -> Self {
        Self::new(BAD_ARGUMENTS, text)
    }

    #[must_use]
    pub fn not_implemented(text: &str) -> Self {
        Self::new(NOT_IMPLEMENTED, text)
    }

    #[must_use]
    pub fn cannot_decompress(text: &str) -> Self {
        Self::new(CANNOT_DECOMPRESS, text)
    }

    /// The engine's own error text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self {
            code: code_of(text).unwrap_or(UNKNOWN_EXCEPTION),
            message: text.trim_end().to_owned(),
        }
    }

    /// The status that a ClickHouse server answers with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 497 | AUTHENTICATION_FAILED => StatusCode::FORBIDDEN,
            6 | 26 | 27 | 36 | 38 | 41 | 43 | 44 | 53 | 61 | SYNTAX_ERROR | 69 | 72 | 117 | 130
            | 131 | 133 | 180 | 321 | 386 | 427 | 428 | 456 | 457 | 578 => StatusCode::BAD_REQUEST,
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 137 => StatusCode::NOT_FOUND,
            TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            NOT_IMPLEMENTED => StatusCode::NOT_IMPLEMENTED,
            209 | 439 | TOO_MANY_QUERIES => StatusCode::SERVICE_UNAVAILABLE,
            159 => StatusCode::REQUEST_TIMEOUT,
            381 => StatusCode::LENGTH_REQUIRED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The number in `Code: N.` at the start of an error text.
#[must_use]
pub fn code_of(text: &str) -> Option<i32> {
    let rest = text.trim_start().strip_prefix("Code: ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}

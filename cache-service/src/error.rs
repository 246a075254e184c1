//! What can go wrong while the cache starts, and as which HTTP status the api says it. A look-up has
//! no errors: whatever fails there is a miss.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// Why the cache could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be meant.
    #[error("cache setting {name}: {problem}")]
    Config {
        /// The setting's name.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The embedding model or its runtime is not usable; the cache goes on word for word.
    #[error("embedding model: {0}")]
    Model(String),
    /// The folder of the cache is not usable; the cache goes on in memory only.
    #[error("cache folder {path}: {problem}")]
    Folder {
        /// The folder or file.
        path: String,
        /// What went wrong there.
        problem: String,
    },
    /// The api was sent something it cannot read.
    #[error("request: {0}")]
    Request(String),
    /// The api's caller is not known.
    #[error("the cache api needs its bearer token")]
    Unauthorized,
    /// The store that answers are shared in does not answer, so nothing can be removed from it.
    #[error("the shared store does not answer")]
    StoreDown,
    /// No such entry or ticket.
    #[error("no such {0}")]
    NotFound(&'static str),
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::Request(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::StoreDown => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
            Self::Config { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "config"),
            Self::Model(_) => (StatusCode::SERVICE_UNAVAILABLE, "model_unavailable"),
            Self::Folder { .. } => (StatusCode::SERVICE_UNAVAILABLE, "folder_unavailable"),
        };
        if status.is_server_error() {
            tracing::error!(error.code = code, "cache api: {self}");
        }
        let body = serde_json::json!({"error": {"code": code, "message": self.to_string()}});
        (status, Json(body)).into_response()
    }
}

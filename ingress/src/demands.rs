//! What an operator demands of requests, and what is put in the place of what they leave out.

use bytes::Bytes;
use config::{DefaultModels, Demands};
use schemas::Text;
use serde_json::Value;

use crate::Error;
use crate::endpoint::Endpoint;
use crate::request::ModelRequest;

/// The model of requests to an endpoint that name none.
pub fn default_model(models: &DefaultModels, endpoint: Endpoint) -> Option<&str> {
    match endpoint {
        Endpoint::Chat | Endpoint::Completions | Endpoint::Responses => &models.completion,
        Endpoint::Embeddings => &models.embedding,
        Endpoint::Moderations => &models.moderation,
        Endpoint::Images => &models.image,
        _ => return None,
    }
    .as_deref()
}

/// Reads a request that may leave its model out.
///
/// # Errors
/// As [`ModelRequest::parse`].
pub fn parse_or_default(
    endpoint: Endpoint,
    body: Bytes,
    named: Option<Text>,
    default: &str,
) -> Result<ModelRequest, Error> {
    match ModelRequest::parse(endpoint, body.clone(), named) {
        Err(Error::BadRequest { param, message })
            if param.as_deref() == Some("model") && message.starts_with("missing") =>
        {
            ModelRequest::parse(endpoint, body, Some(default.into()))
        }
        answer => answer,
    }
}

/// Refuses a request that lacks what is demanded, or has what it may not have.
///
/// # Errors
/// 400 with the member's name.
pub fn check(demands: &Demands, request: &ModelRequest, user_in_header: bool) -> Result<(), Error> {
    let missing = |name: &str| {
        Error::bad_request(
            format!("'{name}' is required by this gateway, and this request does not have it"),
            name,
        )
    };
    let has_user = user_in_header || request.end_user.is_some();
    if demands.user && !has_user {
        return Err(missing("user"));
    }
    if demands.no_tags && !request.tags.is_empty() {
        return Err(Error::bad_request(
            "'metadata.tags' is not taken from clients by this gateway",
            "metadata.tags",
        ));
    }
    if demands.params.is_empty() || request.form.is_some() {
        return Ok(());
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    for path in &demands.params {
        let found = path.split('.').try_fold(&body, |at, name| at.get(name));
        let there = found.is_some_and(|value| !value.is_null());
        if !(there || path == "user" && has_user) {
            return Err(missing(path));
        }
    }
    Ok(())
}

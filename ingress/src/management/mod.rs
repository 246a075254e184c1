//! Keys, teams and models over HTTP, in the shapes that LiteLLM's clients know. Every change is an event on
//! the config log, durable before the answer; this folder never edits a record in place.

mod changes;
mod fields;
mod key_fields;
mod keys;
mod models;
mod new_keys;
mod seed;
pub(crate) mod show;
mod show_models;
mod team_fields;
mod teams;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, patch, post};

use crate::Gateway;

pub use seed::seed;

/// The management routes.
pub fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/key/generate", post(keys::generate))
        .route("/key/update", post(keys::update))
        .route("/key/delete", post(keys::delete))
        .route("/key/info", get(keys::info))
        .route("/key/list", get(keys::list))
        .route("/key/block", post(keys::block))
        .route("/key/unblock", post(keys::unblock))
        .route("/team/new", post(teams::new))
        .route("/team/info", get(teams::info))
        .route("/model/new", post(models::new))
        .route("/model/update", post(models::update))
        .route("/model/{id}/update", patch(models::patch))
        .route("/model/delete", post(models::delete))
        .route("/model/info", get(models::info))
        .route("/v1/model/info", get(models::info))
        .route("/model_group/info", get(models::groups))
}

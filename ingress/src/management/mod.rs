//! Keys, teams and models over HTTP, in the shapes that LiteLLM's clients know. Every change is an event on
//! the config log, durable before the answer; this folder never edits a record in place.

mod changes;
mod fields;
mod key_fields;
mod keys;
mod list;
mod models;
mod new_keys;
mod seed;
pub(crate) mod show;
mod show_models;
mod team_fields;
mod teams;

use crate::router::Routes;

pub use seed::seed;

/// The management routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .post("/key/generate", keys::generate)
        .post("/key/update", keys::update)
        .post("/key/delete", keys::delete)
        .get("/key/info", keys::info)
        .get("/key/list", list::list)
        .post("/key/block", keys::block)
        .post("/key/unblock", keys::unblock)
        .post("/team/new", teams::new)
        .get("/team/info", teams::info)
        .post("/model/new", models::new)
        .post("/model/update", models::update)
        .patch("/model/{id}/update", models::patch)
        .post("/model/delete", models::delete)
        .get("/model/info", models::info)
        .get("/v1/model/info", models::info)
        .get("/model_group/info", models::groups)
}

//! From the checked tree to [`Config`]: aliases, defaults, and the rules across settings.

mod address;
mod alerts;
mod budgets;
mod cache;
mod failover;
mod headers;
mod hints;
mod journal;
mod keys;
mod limits;
mod log;
mod long_context;
mod models;
mod params;
mod pick;
mod providers;
mod routing;
mod secrets;
mod server;
mod stand_in;
mod stores;
mod timeouts;

use crate::settings::Config;
use crate::view::View;

pub(crate) use models::plain_entry;
pub(crate) use secrets::{SECRET_KEY_MIN, master_from, secret_key_from};

/// An hour: no call waits longer for what it can go on without.
const WAIT_MS_MAX: u64 = 3_600_000;

pub(crate) fn resolve(root: &View<'_>) -> Config {
    let mut config = Config::default();
    server::server(root, &mut config);
    timeouts::timeouts(root, &mut config);
    config.models = models::models(root, &config.timeouts);
    config.long_context = long_context::long_context(root);
    config.routing = routing::routing(root, &config);
    config.seed_keys = keys::seed_keys(root, &config);
    budgets::budgets(root, &mut config);
    config.alerts = alerts::alerts(root);
    config.new_keys = keys::new_keys(root);
    config.cache = cache::cache(root, config.cache);
    config.journal = journal::journal(&root.get("tollgate.journal"), config.journal);
    stores::stores(root, &mut config);
    log::log(root, &mut config);
    if let Some(bytes) = limits::body_bytes_max(root) {
        config.limits.body_bytes_max = bytes;
    }
    config.data_dir = root.get("tollgate.data_dir").text();
    config
}

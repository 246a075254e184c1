//! What a new version of a file asks for that a running process cannot do.

use crate::settings::{Cache, Config};

/// A setting that waits for the next start, and whether two versions differ in it.
type Waits = (&'static str, fn(&Config, &Config) -> bool);

const WAITS: &[Waits] = &[
    ("general_settings.host", |a, b| {
        a.server.host != b.server.host
    }),
    ("general_settings.port", |a, b| {
        a.server.port != b.server.port
    }),
    ("general_settings.master_key", |a, b| {
        a.server.master_key != b.server.master_key
    }),
    ("tollgate.budgets.timezone", |a, b| {
        a.budgets.timezone != b.budgets.timezone
    }),
    ("the cache, switched on", |a, b| {
        b.cache.enabled && !a.cache.enabled
    }),
    ("the cache, for similar answers too", |a, b| {
        b.cache.semantic && !a.cache.semantic && b.cache.service_url.is_none()
    }),
    ("the place of the cache (tollgate.cache)", |a, b| {
        place(&a.cache) != place(&b.cache)
    }),
    ("tollgate.journal", |a, b| a.journal != b.journal),
    ("tollgate.clickhouse", |a, b| a.clickhouse != b.clickhouse),
    ("tollgate.kafka", |a, b| a.kafka != b.kafka),
    ("tollgate.redis", |a, b| a.redis != b.redis),
    ("alerts (general_settings.alerting)", |a, b| {
        a.alerts != b.alerts || a.budgets.alert_threshold != b.budgets.alert_threshold
    }),
    ("the settings of the log", |a, b| a.log != b.log),
    ("tollgate.data_dir", |a, b| a.data_dir != b.data_dir),
];

/// The settings that differ and take effect at the next start only, by their names in the file. Everything
/// else takes effect for the calls that begin after it.
#[must_use]
pub fn at_next_start(before: &Config, after: &Config) -> Vec<&'static str> {
    let differ = WAITS.iter().filter(|(_, differs)| differs(before, after));
    differ.map(|(name, _)| *name).collect()
}

/// All that wait for the next start.
pub(crate) fn names() -> Vec<&'static str> {
    WAITS.iter().map(|(name, _)| *name).collect()
}

fn place(cache: &Cache) -> impl PartialEq {
    let Cache {
        service_url,
        token,
        redis_url,
        timeout,
        max_bytes,
        ..
    } = cache.clone();
    (service_url, token, redis_url, timeout, max_bytes)
}

//! What a new version of a file asks for that a running process cannot do.

use crate::settings::{Cache, Config};

/// The settings that differ and take effect at the next start only, by their names in the file. Everything
/// else takes effect for the calls that begin after it.
#[must_use]
pub fn at_next_start(before: &Config, after: &Config) -> Vec<&'static str> {
    let (a, b) = (before, after);
    let upstream = |config: &Config| {
        let timeouts = &config.timeouts;
        (timeouts.connect, timeouts.first_byte, timeouts.idle)
    };
    let cache = &b.cache;
    let place = |cache: &Cache| {
        let Cache {
            service_url,
            token,
            redis_url,
            timeout,
            max_bytes,
            ..
        } = cache.clone();
        (service_url, token, redis_url, timeout, max_bytes)
    };
    let differs = [
        ("general_settings.host", a.server.host != b.server.host),
        ("general_settings.port", a.server.port != b.server.port),
        (
            "general_settings.master_key",
            a.server.master_key != b.server.master_key,
        ),
        (
            "tollgate.budgets.timezone",
            a.budgets.timezone != b.budgets.timezone,
        ),
        ("the cache, switched on", cache.enabled && !a.cache.enabled),
        (
            "the cache, for similar answers too",
            cache.semantic && !a.cache.semantic && cache.service_url.is_none(),
        ),
        (
            "the place of the cache (tollgate.cache)",
            place(&a.cache) != place(cache),
        ),
        ("tollgate.journal", a.journal != b.journal),
        ("tollgate.clickhouse", a.clickhouse != b.clickhouse),
        ("tollgate.kafka", a.kafka != b.kafka),
        ("tollgate.redis", a.redis != b.redis),
        (
            "tollgate.timeouts (connect_s, first_byte_s, idle_s)",
            upstream(a) != upstream(b),
        ),
        (
            "alerts (general_settings.alerting)",
            a.alerts != b.alerts || a.budgets.alert_threshold != b.budgets.alert_threshold,
        ),
        ("the settings of the log", a.log != b.log),
        ("tollgate.data_dir", a.data_dir != b.data_dir),
    ];
    differs
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
}

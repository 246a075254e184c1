//! `tollgate config check FILE`: in words, what a file will do.

mod models;
mod routing;

use std::fmt::Write as _;

use crate::settings::{AlertShape, Config, LogFile, Period, Server, SyncMode};
use crate::{Loaded, ModelEntry};

/// What the configuration does, deployment by deployment, and what of it has no effect.
#[must_use]
pub fn check(loaded: &Loaded) -> String {
    check_with(loaded, &|_| None)
}

/// What the price catalog says of a deployment's model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listed {
    /// Tokens.
    pub window: Option<u64>,
    pub output: Option<u64>,
    /// In words.
    pub prices: String,
}

/// Looks a deployment's model up in a catalog.
pub type Catalog<'a> = &'a dyn Fn(&ModelEntry) -> Option<Listed>;

/// As [`check`], with what a catalog knows of the models.
#[must_use]
pub fn check_with(loaded: &Loaded, catalog: Catalog<'_>) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut out, loaded, catalog);
    out
}

fn write(out: &mut String, loaded: &Loaded, catalog: Catalog<'_>) -> std::fmt::Result {
    let config = &loaded.config;
    models::write(out, config, catalog)?;
    routing::write(out, &config.routing)?;
    write_server(out, config)?;
    write_budgets(out, config)?;
    write_alerts(out, config)?;
    write_cache(out, config)?;
    write_stores(out, config)?;
    if loaded.warnings.is_empty() {
        writeln!(out, "everything in this file takes effect")
    } else {
        writeln!(
            out,
            "without effect, or not as written ({}; all settings: docs/litellm-settings.md)",
            loaded.warnings.len()
        )?;
        crate::summary(&loaded.warnings)
            .iter()
            .try_for_each(|line| writeln!(out, "  {line}"))
    }
}

/// A URL may carry a login; it is nobody's business here. Where it cannot be told from the host, neither is shown.
fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "…".to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let socket = host.is_empty() && scheme.ends_with("unix");
    if !socket && !crate::kind::is_host(host) {
        return format!("{scheme}://…");
    }
    let path = tail.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

fn write_access(out: &mut String, server: &Server) -> std::fmt::Result {
    let access = &server.access;
    if !access.addresses.is_empty() {
        let of = if access.forwarded {
            ", by the last address of x-forwarded-for"
        } else {
            ""
        };
        let shown: Vec<_> = access.addresses.iter().map(ToString::to_string).collect();
        writeln!(out, "  answers only {}{of}", shown.join(", "))?;
    }
    if !access.routes.is_empty() {
        writeln!(out, "  only the routes {}", access.routes.join(", "))?;
    }
    if !access.admin_routes.is_empty() {
        writeln!(
            out,
            "  for the master key only: {}",
            access.admin_routes.join(", ")
        )?;
    }
    Ok(())
}

fn write_server(out: &mut String, config: &Config) -> std::fmt::Result {
    let server = &config.server;
    writeln!(out, "server\n  listens on {}:{}", server.host, server.port)?;
    let key = if server.master_key.is_some() {
        "given"
    } else {
        "generated at the first start"
    };
    writeln!(out, "  master key: {key}")?;
    if server.always_include_stream_usage {
        writeln!(out, "  every stream ends with its usage")?;
    }
    if server.cost_in_stream_usage {
        writeln!(out, "  the usage of a stream says what the call cost")?;
    }
    match &server.metrics.path {
        Some(path) if server.metrics.needs_key => writeln!(out, "  metrics at {path}, with a key")?,
        Some(path) => writeln!(
            out,
            "  metrics at {path}, for everybody who reaches the port"
        )?,
        None => writeln!(out, "  no metrics")?,
    }
    if let Some(header) = &server.key_header {
        writeln!(out, "  keys in the header {header}, too")?;
    }
    if let Some(header) = &server.user_header {
        writeln!(out, "  customers are named by the header {header}, too")?;
    }
    if server.demands.user {
        writeln!(out, "  calls without a customer (user) are refused")?;
    }
    if !server.demands.params.is_empty() {
        writeln!(
            out,
            "  calls must have {}",
            server.demands.params.join(", ")
        )?;
    }
    if server.demands.no_tags {
        writeln!(out, "  calls with metadata.tags are refused")?;
    }
    write_access(out, server)?;
    let log = &config.log;
    let format = match log.format {
        crate::LogFormat::Text => "text",
        crate::LogFormat::Json => "JSON",
    };
    write!(
        out,
        "  logs {} and above, as {format}, to standard error",
        log.level.as_str()
    )?;
    match &log.file {
        Some(LogFile::At(path)) => write!(out, " and {path}")?,
        Some(LogFile::InDataDir) => write!(out, " and tollgate.log in the data directory")?,
        None => {}
    }
    let calls = if log.calls {
        ", with a line for each call"
    } else {
        ""
    };
    writeln!(out, "{calls}; never prompts, answers or keys")?;
    for key in &config.seed_keys {
        let who = key
            .key_alias
            .as_ref()
            .or(key.user_id.as_ref())
            .unwrap_or(&key.path);
        write!(out, "  virtual key {who} ({}):", key.path)?;
        match key.max_budget {
            Some(usd) => write!(out, " {usd} USD {}", window(key.budget_period))?,
            None => write!(out, " no budget")?,
        }
        if let Some(limit) = key.rpm_limit {
            write!(out, ", {limit} requests a minute")?;
        }
        if let Some(limit) = key.tpm_limit {
            write!(out, ", {limit} tokens a minute")?;
        }
        if let Some(limit) = key.max_parallel_requests {
            write!(out, ", {limit} calls in flight")?;
        }
        writeln!(
            out,
            ", {}",
            if key.models.is_empty() {
                "every model".to_owned()
            } else {
                key.models.join(" ")
            }
        )?;
    }
    Ok(())
}

fn write_budgets(out: &mut String, config: &Config) -> std::fmt::Result {
    let budgets = &config.budgets;
    writeln!(out, "budgets")?;
    match budgets.global_max_budget {
        Some(usd) => writeln!(
            out,
            "  over all keys: {usd} USD {}",
            window(budgets.global_period)
        )?,
        None => writeln!(out, "  none over all keys")?,
    }
    if let Some(usd) = budgets.user_budget {
        writeln!(
            out,
            "  {usd} USD {} over the keys of each user without a budget of its own",
            window(budgets.user_period)
        )?;
    }
    if let Some(usd) = budgets.end_user_budget {
        writeln!(out, "  {usd} USD for the life of each customer")?;
    }
    if let Some(most) = budgets.global_parallel {
        writeln!(out, "  over all keys: {most} calls in flight")?;
    }
    for (what, fields) in [
        ("a new key gets", &config.new_keys.defaults),
        ("a new key gets at most", &config.new_keys.bounds),
    ] {
        if !fields.is_empty() {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, json)| format!("{name} {json}"))
                .collect();
            writeln!(out, "  {what}: {}", fields.join(", "))?;
        }
    }
    writeln!(
        out,
        "  windows begin in {}, refusals are {}, holds live {} s",
        budgets.timezone,
        budgets.refusal_status,
        budgets.hold.as_secs()
    )?;
    writeln!(
        out,
        "  a call without a known price is held at {} USD",
        budgets.unpriced_ceiling
    )
}

fn write_alerts(out: &mut String, config: &Config) -> std::fmt::Result {
    let Some(alerts) = &config.alerts else {
        return writeln!(out, "alerts\n  none");
    };
    writeln!(out, "alerts")?;
    if alerts.budgets {
        let share = config.budgets.alert_threshold.to_f64() * 100.0;
        writeln!(
            out,
            "  when {share} % of a budget are used, and when all of it is"
        )?;
    }
    if alerts.exceptions {
        writeln!(out, "  when a call fails for good")?;
    }
    write!(out, "  logged and counted")?;
    for post in &alerts.posts {
        let shape = match post.shape {
            AlertShape::Slack => "Slack",
            AlertShape::Webhook => "a webhook",
        };
        // The rest of such a URL is its key.
        write!(out, ", posted to {shape} at {}", host(post.url.expose()))?;
    }
    writeln!(out)
}

fn host(url: &str) -> String {
    let shown = without_login(url);
    let rest = shown.split_once("://").map_or(&*shown, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_owned()
}

fn window(period: Option<Period>) -> String {
    match period {
        None => "for life".to_owned(),
        Some(Period::Daily) => "a day".to_owned(),
        Some(Period::Weekly) => "a week".to_owned(),
        Some(Period::Monthly) => "a calendar month".to_owned(),
        Some(Period::Yearly) => "a year".to_owned(),
        Some(Period::Seconds(seconds)) => format!("every {seconds} s"),
    }
}

fn write_cache(out: &mut String, config: &Config) -> std::fmt::Result {
    let cache = &config.cache;
    if !cache.enabled {
        return writeln!(out, "cache\n  off");
    }
    let what = if cache.semantic {
        format!(
            "the same question, and similar ones from {}",
            cache.threshold
        )
    } else {
        "the same question only (similarity_threshold adds similar ones)".to_owned()
    };
    let when = if cache.on_request_only {
        ", when a request asks for it"
    } else {
        ""
    };
    writeln!(
        out,
        "cache\n  {what}{when}; answers live {} s",
        cache.ttl.as_secs()
    )?;
    if cache.per_user {
        writeln!(
            out,
            "  nobody gets an answer that another key, user or customer asked for"
        )?;
    } else {
        writeln!(
            out,
            "  a team shares its answers, a key without a team has its own"
        )?;
    }
    match (&cache.service_url, &cache.redis_url) {
        (Some(url), _) => writeln!(
            out,
            "  asked at {} for at most {} ms",
            without_login(url),
            cache.timeout.as_millis()
        ),
        (None, Some(redis)) => writeln!(
            out,
            "  kept by this process, answers in Redis at {}",
            without_login(redis.expose())
        ),
        (None, None) => writeln!(out, "  kept by this process, on local disk"),
    }
}

fn write_stores(out: &mut String, config: &Config) -> std::fmt::Result {
    let sync = match config.journal.sync {
        SyncMode::Always => "each record synced alone",
        SyncMode::Group => "records synced in groups",
        SyncMode::Os => "records left to the page cache",
    };
    writeln!(
        out,
        "stores\n  journal: {sync}, at most {}",
        bytes(config.journal.cap_bytes)
    )?;
    match &config.kafka {
        Some(kafka) => writeln!(
            out,
            "  log: Kafka at {}, topics {}.*, {} properties of librdkafka",
            kafka.bootstrap_servers,
            kafka.topic_prefix,
            kafka.properties.len()
        )?,
        None => writeln!(out, "  log: the local journal")?,
    }
    match &config.redis {
        Some(redis) => writeln!(
            out,
            "  budget state: Redis at {}, keys {{{}}}*, waited for at most {} ms",
            without_login(redis.url.expose()),
            redis.prefix,
            redis.wait.as_millis()
        )?,
        None => writeln!(out, "  budget state: memory of this process")?,
    }
    let clickhouse = &config.clickhouse;
    match &clickhouse.url {
        Some(url) => writeln!(
            out,
            "  usage tables: {}, database {}",
            without_login(url),
            clickhouse.database
        )?,
        None => writeln!(out, "  usage tables: embedded, port {}", clickhouse.port)?,
    }
    writeln!(out, "when it is stopped")?;
    if !config.drain.lame_duck.is_zero() {
        writeln!(
            out,
            "  readiness says no for {} s, and calls are still taken",
            config.drain.lame_duck.as_secs_f64()
        )?;
    }
    writeln!(
        out,
        "  calls in progress have {} s to end",
        config.drain.deadline.as_secs_f64()
    )?;
    writeln!(
        out,
        "when this file changes\n  it is in force for the calls that begin after, whole or not at all, but for these, which wait \
         for the next start:\n  {}",
        crate::changes::names().join(", ")
    )
}

/// Bytes as people say them.
fn bytes(count: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let even = units
        .iter()
        .find(|(_, unit)| count >= *unit && count.is_multiple_of(*unit));
    match even {
        Some((name, unit)) => format!("{} {name}", count / unit),
        None => format!("{count} bytes"),
    }
}

//! `tollgate config check FILE`: in words, what a file will do.

use std::fmt::Write as _;

use crate::settings::{Config, Period, SyncMode};
use crate::{Dialect, Loaded, ModelEntry};

/// What the configuration does, deployment by deployment, and what of it has no effect.
#[must_use]
pub fn check(loaded: &Loaded) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut out, loaded);
    out
}

fn write(out: &mut String, loaded: &Loaded) -> std::fmt::Result {
    let config = &loaded.config;
    writeln!(out, "models")?;
    if config.models.is_empty() {
        writeln!(out, "  none: every call is refused")?;
    }
    for model in &config.models {
        write_model(out, model)?;
    }
    write_routing(out, config)?;
    write_server(out, config)?;
    write_budgets(out, config)?;
    write_cache(out, config)?;
    write_stores(out, config)?;
    if loaded.warnings.is_empty() {
        writeln!(out, "everything in this file takes effect")
    } else {
        writeln!(
            out,
            "without effect, or not as written ({})",
            loaded.warnings.len()
        )?;
        crate::summary(&loaded.warnings)
            .iter()
            .try_for_each(|line| writeln!(out, "  {line}"))
    }
}

fn write_model(out: &mut String, model: &ModelEntry) -> std::fmt::Result {
    write!(
        out,
        "  {} -> {}/{}",
        model.model_name, model.provider, model.upstream_model
    )?;
    match model.dialect {
        Dialect::Demo => write!(out, ", built in")?,
        Dialect::Unsupported(why) => write!(out, ", refused: {why}")?,
        Dialect::OpenAi | Dialect::Azure => {
            write!(out, " at {}", without_login(&model.api_base))?;
            write!(
                out,
                ", {}",
                if model.api_key.is_some() {
                    "with a key"
                } else {
                    "without a key"
                }
            )?;
            write!(out, ", {} s", model.timeouts.total.as_secs_f64())?;
        }
    }
    if let Some(tokens) = model.limits.max_output_tokens {
        write!(out, ", at most {tokens} output tokens")?;
    }
    if let Some(tokens) = model.limits.max_input_tokens {
        write!(out, ", window {tokens}")?;
    }
    match model.prices.len() {
        0 => write!(out, ", priced by the catalog")?,
        _ => {
            let prices: Vec<_> = model
                .prices
                .iter()
                .map(|(name, price)| format!("{name} {price}"))
                .collect();
            write!(out, ", priced here: {}", prices.join(", "))?;
        }
    }
    writeln!(out, "  [{}]", model.deployment_id)
}

fn write_routing(out: &mut String, config: &Config) -> std::fmt::Result {
    let routing = &config.routing;
    write!(out, "routing\n  {}", routing.strategy.name())?;
    if let Some(then) = routing.then {
        write!(out, ", then {}", then.name())?;
    }
    match routing.retries.count {
        Some(count) => write!(out, "; {count} retries")?,
        None => write!(out, "; 2 retries, at other deployments only")?,
    }
    let cooldown = &routing.cooldown;
    if cooldown.disabled {
        writeln!(out, "; no cooldowns")?;
    } else {
        writeln!(
            out,
            "; {} s of cooldown after more than {} failures a minute",
            cooldown.time.as_secs_f64(),
            cooldown.allowed_fails
        )?;
    }
    let lists = &routing.fallbacks;
    for (what, list) in [
        ("after a failure", &lists.general),
        ("for a prompt that is too long", &lists.context_window),
        ("for what a policy refuses", &lists.content_policy),
    ] {
        for (name, names) in list {
            writeln!(out, "  {name}, {what}: {}", names.join(", "))?;
        }
    }
    if !lists.default.is_empty() {
        writeln!(
            out,
            "  any other name, after a failure: {}",
            lists.default.join(", ")
        )?;
    }
    if !routing.weights.is_empty() {
        let shares: Vec<_> = routing
            .weights
            .iter()
            .map(|(n, w)| format!("{n} {w}"))
            .collect();
        writeln!(
            out,
            "  one pool for each of its names: {}",
            shares.join(", ")
        )?;
    }
    if let Some(usd) = routing.cost_threshold {
        writeln!(
            out,
            "  calls up to {usd} USD go to the cheapest deployment of any name"
        )?;
    }
    if let Some(tokens) = routing.context_threshold {
        writeln!(
            out,
            "  prompts over {tokens} tokens go to a long-context deployment of any name"
        )?;
    }
    if routing.pre_call_checks {
        writeln!(out, "  a prompt goes only where it fits")?;
    }
    Ok(())
}

/// A URL may carry a login; it is nobody's business here.
fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!(
        "{scheme}://{authority}{}",
        tail.split('?').next().unwrap_or_default()
    )
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
    for key in &config.seed_keys {
        let who = key
            .key_alias
            .as_ref()
            .or(key.user_id.as_ref())
            .unwrap_or(&key.path);
        write!(out, "  virtual key {who}:")?;
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
        "stores\n  journal: {sync}, at most {} bytes",
        config.journal.cap_bytes
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
    writeln!(
        out,
        "end\n  readiness says no for {} s, calls have {} s to end",
        config.drain.lame_duck.as_secs_f64(),
        config.drain.deadline.as_secs_f64()
    )
}

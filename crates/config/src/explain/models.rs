//! Name by name: its deployments, and what is asked in which order.

use std::fmt::{Result, Write as _};

use super::{Catalog, without_login};
use crate::settings::Config;
use crate::{DecimalText, Dialect, ModelEntry, Routing, Strategy};

pub(super) fn write(out: &mut String, config: &Config, catalog: Catalog<'_>) -> Result {
    writeln!(out, "models")?;
    if config.models.is_empty() {
        writeln!(out, "  none: every call is refused")?;
    }
    let mut told: Vec<&str> = Vec::new();
    for entry in &config.models {
        if told.contains(&entry.model_name.as_str()) {
            continue;
        }
        told.push(&entry.model_name);
        let of_name = config
            .models
            .iter()
            .filter(|other| other.model_name == entry.model_name);
        let deployments: Vec<&ModelEntry> = of_name.collect();
        write_name(out, config, &deployments, catalog)?;
    }
    for (alias, target) in &config.routing.aliases {
        writeln!(out, "  {alias}: the same as {target}")?;
    }
    Ok(())
}

fn write_name(
    out: &mut String,
    config: &Config,
    deployments: &[&ModelEntry],
    catalog: Catalog<'_>,
) -> Result {
    let Some(first) = deployments.first() else {
        return Ok(());
    };
    let name = &first.model_name;
    writeln!(out, "  {name}")?;
    let least = deployments.iter().map(|one| one.hints.order).min();
    let sharing = deployments
        .iter()
        .filter(|one| Some(one.hints.order) == least)
        .count();
    if config.routing.weights.contains_key(name) {
        writeln!(out, "    answered by the pool of weights, see routing")?;
    } else if sharing > 1 {
        let how = chosen(config.routing.strategy);
        writeln!(out, "    {sharing} deployments share its calls: {how}")?;
    }
    for one in deployments {
        write_deployment(out, one, Some(one.hints.order) == least, catalog)?;
    }
    write_failing(out, &config.routing, deployments)
}

const fn chosen(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::SimpleShuffle => "drawn by weight, else by rpm or tpm, else evenly",
        Strategy::LeastBusy => "the one with the fewest calls in flight",
        Strategy::Latency => "the fastest",
        Strategy::Usage => "the least used against its rpm and tpm",
        Strategy::Cost => "the cheapest",
        Strategy::Capability => "the one that can do what the call needs",
        Strategy::WeightedRoundRobin => "in turn, by weight",
    }
}

fn write_deployment(
    out: &mut String,
    model: &ModelEntry,
    shares: bool,
    catalog: Catalog<'_>,
) -> Result {
    let role = if shares { "-" } else { "- stands in:" };
    write!(
        out,
        "    {role} {}/{}",
        model.provider, model.upstream_model
    )?;
    match (&model.mock, model.dialect) {
        (Some(_), _) => write!(out, ", answered with mock_response; no provider is asked")?,
        (None, Dialect::Demo) => write!(out, ", built in")?,
        (None, Dialect::Unsupported(why)) => write!(out, ", refused: {why}")?,
        (None, Dialect::OpenAi | Dialect::Azure) => {
            let base = without_login(&model.api_base);
            match &model.hints.key_from {
                Some(from) if model.api_key.is_none() => {
                    write!(out, " at {base}, key: {from}, which is not there")?;
                }
                _ if model.api_key.is_none() => write!(out, " at {base}, without a key")?,
                Some(from) => write!(out, " at {base}, key: {from}")?,
                None => write!(out, " at {base}, with a key")?,
            }
        }
    }
    writeln!(out, "  [id {}]", model.deployment_id)?;
    if model.hints.stands_in {
        writeln!(
            out,
            "        another model than the name's first: asked where that cannot answer; weight or order say otherwise"
        )?;
    }
    let (timeouts, limits) = (&model.timeouts, &model.limits);
    let mut line = vec![format!(
        "a call takes at most {} s",
        timeouts.total.as_secs_f64()
    )];
    if timeouts.total_stream != timeouts.total {
        line.push(format!(
            "{} s streamed",
            timeouts.total_stream.as_secs_f64()
        ));
    }
    for (limit, what) in [
        (limits.rpm, "requests a minute"),
        (limits.tpm, "tokens a minute"),
        (
            limits.max_parallel_requests.map(u64::from),
            "calls in flight",
        ),
    ] {
        line.extend(limit.map(|limit| format!("{limit} {what}")));
    }
    let hints = &model.hints;
    line.extend(hints.weight.map(|weight| format!("weight {weight}")));
    line.extend(
        hints
            .retries
            .map(|count| format!("{count} retries of its own")),
    );
    line.extend(
        hints
            .region
            .as_ref()
            .map(|region| format!("region {region}")),
    );
    if !hints.tags.is_empty() {
        line.push(format!("tags {}", hints.tags.join(" ")));
    }
    writeln!(out, "        {}", line.join(", "))?;
    if matches!(model.dialect, Dialect::Demo | Dialect::Unsupported(_)) {
        return Ok(());
    }
    let mut known = Vec::new();
    known.extend(hints.cost.map(|usd| {
        format!("{usd} USD per 1,000 tokens where no price is known; steers, and bills nothing")
    }));
    known.extend(hints.latency.map(|first| {
        format!(
            "{} ms to the first token, until it is measured",
            first.as_millis()
        )
    }));
    if !hints.capabilities.is_empty() {
        known.push(format!("can do {}", hints.capabilities.join(", ")));
    }
    if !known.is_empty() {
        writeln!(out, "        hints for routing: {}", known.join("; "))?;
    }
    write_model(out, model, catalog)?;
    write_params(out, model)
}

fn write_model(out: &mut String, model: &ModelEntry, catalog: Catalog<'_>) -> Result {
    let listed = catalog(model);
    let known = listed.as_ref();
    let mut line = Vec::new();
    let window = model.limits.max_input_tokens.map(u64::from);
    if let Some(tokens) = window.or_else(|| known?.window) {
        line.push(format!("window {tokens} tokens"));
    }
    let output = model.limits.max_output_tokens.map(u64::from);
    if let Some(tokens) = output.or_else(|| known?.output) {
        line.push(format!("answers of at most {tokens}"));
    }
    line.push(match (model.prices.is_empty(), known) {
        (false, _) => {
            let prices: Vec<_> = model
                .prices
                .iter()
                .map(|(name, price)| priced(name, price))
                .collect();
            format!("priced by this file: {}", prices.join(", "))
        }
        (true, Some(listed)) if !listed.prices.is_empty() => {
            format!("priced by the catalog: {}", listed.prices)
        }
        (true, _) if model.model_name.contains('*') => "priced by the catalog".to_owned(),
        (true, _) => "no price in the built-in catalog".to_owned(),
    });
    writeln!(out, "        {}", line.join(", "))
}

/// Prices of tokens by the million, as providers list them; others as the file has them.
fn priced(name: &str, price: &DecimalText) -> String {
    let what = match name {
        "input_cost_per_token" => "in",
        "output_cost_per_token" => "out",
        "cache_read_input_token_cost" => "read from the provider's cache",
        _ => return format!("{name} {price}"),
    };
    // To be read, not to be billed by.
    let million = (price.to_f64() * 1e12).round() / 1e6;
    format!("{million} USD a million tokens {what}")
}

fn write_params(out: &mut String, model: &ModelEntry) -> Result {
    let params = &model.params;
    let mut sent: Vec<String> = params
        .defaults
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    sent.extend(params.max_tokens.map(|most| format!("max_tokens {most}")));
    if !sent.is_empty() {
        writeln!(
            out,
            "        sent where a request does not say: {}",
            sent.join(", ")
        )?;
    }
    if !params.extra_body.is_empty() {
        let extra: Vec<_> = params
            .extra_body
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        writeln!(out, "        sent with every request: {}", extra.join(", "))?;
    }
    if !model.headers.is_empty() {
        let names: Vec<_> = model
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        writeln!(out, "        headers: {}", names.join(", "))?;
    }
    if !params.also_drop.is_empty() {
        writeln!(
            out,
            "        left out of every request: {}",
            params.also_drop.join(", ")
        )?;
    }
    let lacks: Vec<String> = model
        .lacking(&model.upstream_model)
        .into_iter()
        .filter(|lack| params.drop || !lack.provider_says)
        .map(|lack| lack.param)
        .collect();
    if !lacks.is_empty() {
        let what = if params.drop {
            "left out, since it cannot take them"
        } else {
            "refused, since it cannot take them (drop_params leaves them out)"
        };
        writeln!(out, "        {what}: {}", lacks.join(", "))?;
    }
    Ok(())
}

fn write_failing(out: &mut String, routing: &Routing, deployments: &[&ModelEntry]) -> Result {
    let Some(name) = deployments.first().map(|one| &one.model_name) else {
        return Ok(());
    };
    let own = routing.names.get(name);
    let of_deployments = deployments.iter().filter_map(|one| one.hints.retries).max();
    let count = own
        .and_then(|own| own.retries)
        .or(of_deployments)
        .or(routing.retries.count);
    let pooled = routing.weights.len() > 1 && routing.weights.contains_key(name);
    let mut line = match count {
        Some(0) => "no retries".to_owned(),
        Some(1) => "1 retry".to_owned(),
        Some(count) => format!("{count} retries"),
        None if deployments.len() > 1 || pooled => "2 retries, at its other deployments".to_owned(),
        None => "no retries (num_retries adds them)".to_owned(),
    };
    let wait = own.and_then(|own| own.wait).unwrap_or(routing.retries.wait);
    if count != Some(0) && !wait.is_zero() {
        line.push_str(&format!(
            ", the same deployment again after {} s at the earliest",
            wait.as_secs_f64()
        ));
    }
    writeln!(out, "    when a call fails: {line}")?;
    let lists = &routing.fallbacks;
    let general = lists
        .general
        .get(name)
        .or_else(|| lists.general.get("*"))
        .unwrap_or(&lists.default);
    let others: Vec<&str> = general
        .iter()
        .map(String::as_str)
        .filter(|other| other != name)
        .collect();
    if !others.is_empty() {
        write!(out, "    then the next name: {}", others.join(", "))?;
        if lists.attempts_each > 1 {
            write!(out, ", {} attempts at each", lists.attempts_each)?;
        }
        if let Some(on) = &lists.on {
            let kinds: Vec<_> = on.iter().map(|kind| kind.name()).collect();
            write!(out, "; after {}", kinds.join(", "))?;
        }
        writeln!(out)?;
    }
    for (what, list) in [
        ("a prompt that is too long goes to", &lists.context_window),
        (
            "what a provider's policy refuses goes to",
            &lists.content_policy,
        ),
    ] {
        if let Some(names) = list.get(name).or_else(|| list.get("*")) {
            writeln!(out, "    {what}: {}", names.join(", "))?;
        }
    }
    Ok(())
}

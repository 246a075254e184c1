//! The counters as Prometheus' text, beside what is asked of the parts when somebody looks.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use schemas::{Micros, NanoUsd};

use super::{OUTCOMES, STATUSES, deployments};
use crate::follow::State;
use crate::{Beside as _, Gateway};

pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

pub(crate) fn plain(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    value: impl std::fmt::Display,
) {
    head(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}

pub(super) fn escape(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Everything as Prometheus text.
#[must_use]
pub fn render(gateway: &Gateway) -> String {
    let metrics = &gateway.metrics;
    let mut text = String::with_capacity(8 * 1024);
    let out = &mut text;
    let count = |value: &AtomicU64| value.load(Relaxed);
    let money = |value: &AtomicU64| NanoUsd(i64::try_from(value.load(Relaxed)).unwrap_or(i64::MAX));

    plain(
        out,
        "litellm_proxy_total_requests_metric",
        "counter",
        "Chat calls received.",
        count(&metrics.requests),
    );
    head(
        out,
        "litellm_proxy_failed_requests_metric",
        "counter",
        "Chat calls answered with an error, by status.",
    );
    for (counter, status) in metrics
        .failed
        .iter()
        .zip(STATUSES.iter().map(Some).chain([None]))
    {
        let status = status.map_or_else(|| "other".to_owned(), u16::to_string);
        let _ = writeln!(
            out,
            "litellm_proxy_failed_requests_metric{{exception_status=\"{status}\"}} {}",
            count(counter)
        );
    }
    head(
        out,
        "tollgate_calls_closed_total",
        "counter",
        "Final usage records, by outcome.",
    );
    for (counter, outcome) in metrics.closed.iter().zip(OUTCOMES) {
        let _ = writeln!(
            out,
            "tollgate_calls_closed_total{{outcome=\"{}\"}} {}",
            outcome.name(),
            count(counter)
        );
    }
    plain(
        out,
        "litellm_in_flight_requests",
        "gauge",
        "Chat calls in progress.",
        count(&metrics.in_flight),
    );
    plain(
        out,
        "tollgate_open_calls",
        "gauge",
        "Admitted calls without a final usage record.",
        gateway.open_calls.count(),
    );
    let (input, output) = (count(&metrics.input_tokens), count(&metrics.output_tokens));
    plain(
        out,
        "litellm_input_tokens_metric",
        "counter",
        "Prompt tokens billed.",
        input,
    );
    plain(
        out,
        "litellm_output_tokens_metric",
        "counter",
        "Answer tokens billed.",
        output,
    );
    plain(
        out,
        "litellm_total_tokens_metric",
        "counter",
        "Tokens billed.",
        input.saturating_add(output),
    );
    plain(
        out,
        "litellm_spend_metric",
        "counter",
        "USD billed.",
        money(&metrics.spend),
    );
    plain(
        out,
        "tollgate_cache_saved_usd_total",
        "counter",
        "USD that cache hits would have cost.",
        money(&metrics.saved),
    );
    head(
        out,
        "tollgate_cache_hits_total",
        "counter",
        "Answers from the cache, by kind.",
    );
    for (kind, counter) in [
        ("exact", &metrics.hits_exact),
        ("semantic", &metrics.hits_semantic),
    ] {
        let _ = writeln!(
            out,
            "tollgate_cache_hits_total{{kind=\"{kind}\"}} {}",
            count(counter)
        );
    }
    for (name, help, counter) in [
        (
            "tollgate_unpriced_calls_total",
            "Calls of models without a known price.",
            &metrics.unpriced,
        ),
        (
            "tollgate_usage_mismatch_total",
            "Usage whose totals disagree with its parts.",
            &metrics.mismatched,
        ),
        (
            "tollgate_usage_estimated_total",
            "Usage counted by us, not by the provider.",
            &metrics.estimated,
        ),
    ] {
        plain(out, name, "counter", help, count(counter));
    }
    metrics.total.write(
        out,
        "litellm_request_total_latency_metric",
        "Seconds from arrival to end.",
    );
    metrics.overhead.write(
        out,
        "litellm_overhead_latency_metric",
        "Seconds spent in the gateway until dispatch.",
    );
    metrics.provider.write(
        out,
        "litellm_llm_api_latency_metric",
        "Seconds the provider took for plain answers.",
    );
    metrics.first_byte.write(
        out,
        "litellm_llm_api_time_to_first_token_metric",
        "Seconds to the first byte of streamed answers.",
    );
    deployments::write(out, gateway);
    state(out, gateway);
    if let Some(cache) = &gateway.cache {
        cache.metrics(out);
    }
    gateway.reloads.standing.metrics(out);
    for part in &gateway.beside {
        part.metrics(out);
    }
    if let Some(alerts) = &gateway.alerts {
        alerts.metrics(&mut text);
    }
    text
}

fn state(out: &mut String, gateway: &Gateway) {
    let (pressure, stats) = (gateway.journal.pressure(), gateway.journal.stats());
    plain(
        out,
        "tollgate_journal_used_bytes",
        "gauge",
        "Records that consumers have not committed.",
        pressure.used_bytes,
    );
    plain(
        out,
        "tollgate_journal_cap_bytes",
        "gauge",
        "Size at which calls are refused.",
        pressure.cap_bytes,
    );
    plain(
        out,
        "tollgate_journal_records_total",
        "counter",
        "Records appended.",
        stats.records,
    );
    plain(
        out,
        "tollgate_journal_syncs_total",
        "counter",
        "Synchronisations to disk.",
        stats.syncs,
    );
    let ready = u8::from(gateway.budgets.ready());
    plain(
        out,
        "tollgate_budgets_ready",
        "gauge",
        "1 when hard budgets admit.",
        ready,
    );
    let budgets = gateway.budgets.stats();
    for (name, kind, help, value) in [
        (
            "tollgate_budget_holds_open",
            "gauge",
            "Holds of calls in progress.",
            budgets.open,
        ),
        (
            "tollgate_budget_holds_finished",
            "gauge",
            "Holds of ended calls that wait for the log.",
            budgets.finished,
        ),
        (
            "tollgate_budget_windows",
            "gauge",
            "Budget windows with a counter.",
            budgets.windows,
        ),
        (
            "tollgate_budget_holds_expired_total",
            "counter",
            "Holds given back for want of an end.",
            budgets.expired,
        ),
        (
            "tollgate_budget_cost_over_hold_total",
            "counter",
            "Calls that cost more than was held.",
            budgets.cost_over_hold,
        ),
        (
            "tollgate_budget_over_limit_total",
            "counter",
            "Settlements after which a window stood over its limit.",
            budgets.over_limit,
        ),
    ] {
        plain(out, name, kind, help, value);
    }
    plain(
        out,
        "tollgate_catalog_version",
        "gauge",
        "Price catalog in force.",
        gateway.catalog.load().version(),
    );
    plain(
        out,
        "tollgate_config_version",
        "gauge",
        "Configuration events in force.",
        gateway.directory.version(),
    );
    followers(out, gateway);
}

/// How the projections of keys and prices follow their logs.
fn followers(out: &mut String, gateway: &Gateway) {
    let mut states = vec![("config", gateway.config_follow.state())];
    if let Some(catalog) = &gateway.catalog_follow {
        states.push(("catalog", catalog.state()));
    }
    let now = gateway.now();
    type Of = fn(&State, Micros) -> u64;
    let series: [(&str, &str, &str, Of); 4] = [
        (
            "tollgate_follow_version",
            "gauge",
            "Version of the last record in force.",
            |state, _| state.version,
        ),
        (
            "tollgate_follow_lag_records",
            "gauge",
            "Records on the log that are not in force yet, as last heard.",
            |state, _| state.newest.saturating_sub(state.version),
        ),
        (
            "tollgate_follow_age_seconds",
            "gauge",
            "Since everything on the log was last known to be in force.",
            |state, now| {
                let since = state.as_of.map_or(0, |at| now.0.saturating_sub(at.0));
                u64::try_from(since / 1_000_000).unwrap_or(0)
            },
        ),
        (
            "tollgate_follow_stepped_over_total",
            "counter",
            "Records without effect, since they could not be read.",
            |state, _| state.stepped_over,
        ),
    ];
    for (name, kind, help, of) in series {
        head(out, name, kind, help);
        for (topic, state) in &states {
            let _ = writeln!(out, "{name}{{topic=\"{topic}\"}} {}", of(state, now));
        }
    }
}

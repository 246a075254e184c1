//! Prometheus metrics under the names that LiteLLM's dashboards know: counters kept by hand, labels only
//! from small closed sets. Updating one is a relaxed atomic; nothing is allocated and nothing is locked.

mod deployments;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use metering::Unpriced;
use schemas::{CacheKind, Micros, NanoUsd, Outcome, Usage};

use crate::follow::State;
use crate::{Beside as _, Gateway};

/// Upper bounds in microseconds; the last bucket has none.
const BUCKETS_US: [u64; 14] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    30_000_000,
    120_000_000,
];

/// A latency distribution.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, elapsed: Duration) {
        self.observe_us(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn observe_us(&self, micros: u64) {
        let at = BUCKETS_US.partition_point(|bound| *bound < micros);
        self.buckets[at].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(micros, Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        head(out, name, "histogram", help);
        let mut total = 0;
        for (bucket, bound) in self.buckets.iter().zip(BUCKETS_US) {
            total += bucket.load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {total}", Seconds(bound));
        }
        total += self.buckets[BUCKETS_US.len()].load(Relaxed);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {total}");
        let _ = writeln!(out, "{name}_sum {}", Seconds(self.sum_us.load(Relaxed)));
        let _ = writeln!(out, "{name}_count {total}");
    }
}

/// Microseconds printed as seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Counters of one deployment.
#[derive(Debug, Default)]
pub struct DeploymentMetrics {
    pub requests: AtomicU64,
    pub successes: AtomicU64,
    pub failures: AtomicU64,
    /// Calls for another name that it answered, and such that ended with its failure.
    pub fallbacks: AtomicU64,
    pub failed_fallbacks: AtomicU64,
}

/// How calls ended, as `outcome` of events.
const OUTCOMES: [Outcome; 5] = [
    Outcome::Ok,
    Outcome::Error,
    Outcome::Cancelled,
    Outcome::Abandoned,
    Outcome::CacheHit,
];

/// Why a call was refused or failed, as a closed set of statuses.
const STATUSES: [u16; 17] = [
    400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504, 529,
];

/// All counters of the ingress.
#[derive(Debug, Default)]
pub struct Metrics {
    pub requests: AtomicU64,
    pub in_flight: AtomicU64,
    failed: [AtomicU64; STATUSES.len() + 1],
    closed: [AtomicU64; OUTCOMES.len()],
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    /// Nano-dollars.
    spend: AtomicU64,
    saved: AtomicU64,
    hits_exact: AtomicU64,
    hits_semantic: AtomicU64,
    unpriced: AtomicU64,
    mismatched: AtomicU64,
    estimated: AtomicU64,
    pub total: Histogram,
    pub overhead: Histogram,
    pub provider: Histogram,
    pub first_byte: Histogram,
}

impl Metrics {
    /// A call was answered with an error.
    pub fn failed(&self, status: u16) {
        let at = STATUSES
            .iter()
            .position(|known| *known == status)
            .unwrap_or(STATUSES.len());
        self.failed[at].fetch_add(1, Relaxed);
    }

    /// An admitted call has ended.
    pub fn closed(&self, usage: &Usage, amount: NanoUsd) {
        self.attempted(usage, amount);
        if let Some(at) = OUTCOMES
            .iter()
            .position(|outcome| *outcome == usage.outcome)
        {
            self.closed[at].fetch_add(1, Relaxed);
        }
        self.total.observe_us(usage.duration_us);
        if usage.stream
            && let Some(first) = usage.first_byte_us
        {
            self.first_byte.observe_us(first);
        }
        match usage.cache {
            CacheKind::None => return,
            CacheKind::Exact => self.hits_exact.fetch_add(1, Relaxed),
            CacheKind::Semantic => self.hits_semantic.fetch_add(1, Relaxed),
        };
        self.saved.fetch_add(natural(usage.saved.0), Relaxed);
    }

    /// An attempt has been recorded.
    pub fn attempted(&self, usage: &Usage, amount: NanoUsd) {
        self.input_tokens
            .fetch_add(natural(usage.meters.input_tokens()), Relaxed);
        self.output_tokens
            .fetch_add(natural(usage.meters.output_tokens()), Relaxed);
        self.spend.fetch_add(natural(amount.0), Relaxed);
        if usage.mismatch {
            self.mismatched.fetch_add(1, Relaxed);
        }
        if usage.estimated {
            self.estimated.fetch_add(1, Relaxed);
        }
    }

    /// A call could not be priced.
    pub fn unpriced(&self, reason: &Unpriced) {
        if self.unpriced.fetch_add(1, Relaxed) == 0 {
            tracing::warn!(
                "a call has no price: {reason}. It is charged its hold where a budget was checked, else nothing"
            );
        }
    }
}

fn natural(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
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

fn escape(label: &str) -> String {
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

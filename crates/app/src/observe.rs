//! What the parts of a process tell about themselves: readiness and metrics of the relay, the lanes and the
//! followers; and the small server that tells it where no gateway does.

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use billing_consumer::{LaneStatus, Watch};
use ingress::Beside;
use ingress::follow;
use journal::Lag;
use kafka::{Relay, RelayStatus};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;

/// An acknowledgement takes milliseconds; one that takes longer than this does not come by itself.
const UNACKED_MOST: Duration = Duration::from_secs(5);

/// Opens a family.
fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a string cannot fail, here and below.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn one(out: &mut String, name: &str, kind: &str, help: &str, value: impl Display) {
    family(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}

/// The lanes of this process.
pub struct Lanes {
    pub watch: Watch,
    /// Whether this process is there for them: what holds them up is then missing, and not only late.
    pub alone: bool,
}

impl Beside for Lanes {
    fn metrics(&self, out: &mut String) {
        let status = self.watch.status();
        let lanes = [("budget", &status.budget), ("store", &status.store)];
        type Of = fn(&LaneStatus) -> f64;
        let families: [(&str, &str, &str, Of); 11] = [
            (
                "tollgate_lane_events_total",
                "counter",
                "Events brought to the sink.",
                |lane| lane.events as f64,
            ),
            (
                "tollgate_lane_duplicates_total",
                "counter",
                "Events delivered again, and dropped.",
                |lane| lane.duplicates as f64,
            ),
            (
                "tollgate_lane_dead_letters_total",
                "counter",
                "Events that could not be billed.",
                |lane| lane.dead_letters as f64,
            ),
            (
                "tollgate_lane_unpriced_total",
                "counter",
                "Events billed without a price.",
                |lane| lane.unpriced as f64,
            ),
            (
                "tollgate_lane_gaps",
                "gauge",
                "Sources that are parked behind a missing event.",
                |lane| lane.gaps.len() as f64,
            ),
            (
                "tollgate_lane_waiting",
                "gauge",
                "1 when the lane is held up.",
                |lane| f64::from(u8::from(lane.waiting.is_some())),
            ),
            (
                "tollgate_lane_lag_records",
                "gauge",
                "Records on the log that the lane has not read (a broker's).",
                |lane| match lane.lag {
                    Some(Lag::Records(records)) => records as f64,
                    _ => 0.0,
                },
            ),
            (
                "tollgate_lane_lag_bytes",
                "gauge",
                "Bytes of the log that the lane has not read (the journal's).",
                |lane| match lane.lag {
                    Some(Lag::Bytes(bytes)) => bytes as f64,
                    _ => 0.0,
                },
            ),
            (
                "tollgate_lane_lag_seconds",
                "gauge",
                "Age of the oldest call that waits for the sink, by its event; while the log has more, of the last one in it.",
                |lane| lane.behind.map_or(0.0, |behind| behind.as_secs_f64()),
            ),
            (
                "tollgate_lane_fenced_total",
                "counter",
                "Times that the sink stood elsewhere than the lane thought.",
                |lane| lane.fenced as f64,
            ),
            (
                "tollgate_lane_reassigned_total",
                "counter",
                "Times that the partitions of the lane's group were dealt anew.",
                |lane| lane.reassigned as f64,
            ),
        ];
        for (name, kind, help, of) in families {
            family(out, name, kind, help);
            for (lane, status) in lanes {
                let _ = writeln!(out, "{name}{{lane=\"{lane}\"}} {}", of(status));
            }
        }
        one(
            out,
            "tollgate_audit_blocks_compared_total",
            "counter",
            "Spans of events that both lanes have seen, and that were compared.",
            status.audit.compared,
        );
        one(
            out,
            "tollgate_audit_blocks_differing",
            "gauge",
            "Those of them in which the lanes differ: must be 0.",
            status.audit.differing.len(),
        );
        one(
            out,
            "tollgate_lanes_ready",
            "gauge",
            "1 when budget state is complete.",
            u8::from(status.ready),
        );
    }

    fn missing(&self, out: &mut Vec<String>) {
        if !self.alone {
            return;
        }
        let status = self.watch.status();
        for (name, lane) in [("budget", &status.budget), ("store", &status.store)] {
            if let Some((why, _)) = &lane.waiting {
                out.push(format!("{name} lane: {why}"));
            }
        }
    }

    fn degraded(&self, out: &mut Vec<String>) {
        let status = self.watch.status();
        out.extend(
            status
                .problems
                .iter()
                .map(|problem| format!("billing: {problem}")),
        );
    }
}

/// The way from the journal to the broker, while it is there.
pub struct Relayed(Mutex<Option<Relay>>);

impl Relayed {
    pub const fn new(relay: Relay) -> Self {
        Self(Mutex::new(Some(relay)))
    }

    /// For who ends it.
    pub fn take(&self) -> Option<Relay> {
        self.0.lock().take()
    }

    fn status(&self) -> RelayStatus {
        let relay = self.0.lock();
        relay.as_ref().map(Relay::status).unwrap_or_default()
    }
}

/// What stands in the way of the relay. Its client tries for ever and tells of no error while no broker answers:
/// that is seen by what waits.
fn trouble(status: &RelayStatus) -> Option<String> {
    let waits = status.oldest_unacked.filter(|age| *age > UNACKED_MOST);
    let silent = || waits.map(|age| format!("no broker has acknowledged anything for {age:.0?}"));
    status.trouble.clone().or_else(silent)
}

impl Beside for Relayed {
    fn metrics(&self, out: &mut String) {
        let status = self.status();
        let age = status.oldest_unacked.unwrap_or_default().as_secs_f64();
        for (name, kind, help, value) in [
            (
                "tollgate_relay_waiting_bytes",
                "gauge",
                "Bytes of the journal that were not sent yet.",
                status.waiting_bytes as f64,
            ),
            (
                "tollgate_relay_in_flight",
                "gauge",
                "Records sent and not acknowledged.",
                status.in_flight as f64,
            ),
            (
                "tollgate_relay_oldest_unacked_seconds",
                "gauge",
                "Age of the oldest record that waits for its acknowledgement.",
                age,
            ),
            (
                "tollgate_relay_sent_total",
                "counter",
                "Records sent, repeated ones included.",
                status.sent as f64,
            ),
            (
                "tollgate_relay_acknowledged_total",
                "counter",
                "Records acknowledged.",
                status.acknowledged as f64,
            ),
            (
                "tollgate_relay_resumes_total",
                "counter",
                "Times that the producer was made anew after an error.",
                status.resumes as f64,
            ),
            (
                "tollgate_relay_up",
                "gauge",
                "0 while something stands in the way.",
                f64::from(u8::from(trouble(&status).is_none())),
            ),
        ] {
            one(out, name, kind, help, value);
        }
    }

    /// Nothing: calls go on, and the journal takes their events.
    fn missing(&self, _: &mut Vec<String>) {}

    fn degraded(&self, out: &mut Vec<String>) {
        let status = self.status();
        if let Some(trouble) = trouble(&status) {
            let (bytes, records) = (status.waiting_bytes, status.in_flight);
            out.push(format!(
                "relay: {trouble}; {bytes} bytes and {records} records wait in the journal"
            ));
        }
    }
}

/// What readers of the broker met that is no event.
pub struct Strays(pub kafka::Log);

impl Beside for Strays {
    fn metrics(&self, out: &mut String) {
        let stats = self.0.stats();
        one(
            out,
            "tollgate_kafka_strays_total",
            "counter",
            "Messages that name no event, put into the dead letters.",
            stats.strays,
        );
        one(
            out,
            "tollgate_kafka_strays_skipped_total",
            "counter",
            "Messages that name no event, passed by readers that keep nothing.",
            stats.strays_skipped,
        );
    }

    fn missing(&self, _: &mut Vec<String>) {}

    fn degraded(&self, _: &mut Vec<String>) {}
}

/// A follower without which this process cannot work.
pub struct Followed {
    pub name: &'static str,
    pub watch: follow::Watch,
}

impl Beside for Followed {
    fn metrics(&self, out: &mut String) {
        let state = self.watch.state();
        let topic = self.name;
        family(
            out,
            "tollgate_follow_version",
            "gauge",
            "Version of the last record in force.",
        );
        let _ = writeln!(
            out,
            "tollgate_follow_version{{topic=\"{topic}\"}} {}",
            state.version
        );
        family(
            out,
            "tollgate_follow_lag_records",
            "gauge",
            "Records on the log that are not in force yet, as last heard.",
        );
        let lag = state.newest.saturating_sub(state.version);
        let _ = writeln!(
            out,
            "tollgate_follow_lag_records{{topic=\"{topic}\"}} {lag}"
        );
    }

    fn missing(&self, out: &mut Vec<String>) {
        let state = self.watch.state();
        if !state.grounded {
            let problem = state.problem.unwrap_or_default();
            out.push(format!(
                "{}: not read from the log yet {problem}",
                self.name
            ));
        }
    }

    fn degraded(&self, out: &mut Vec<String>) {
        let state = self.watch.state();
        if let (true, Some(problem)) = (state.grounded, state.problem) {
            out.push(format!(
                "{} as of version {}: {problem}",
                self.name, state.version
            ));
        }
    }
}

/// Health and metrics of a process that serves nothing else.
pub struct Server {
    told: Arc<Told>,
    task: JoinHandle<()>,
}

struct Told {
    parts: Vec<Arc<dyn Beside>>,
    draining: AtomicBool,
}

/// Serves them from here on.
pub async fn serve(listen: std::net::SocketAddr, parts: Vec<Arc<dyn Beside>>) -> Result<Server> {
    let told = Arc::new(Told {
        parts,
        draining: AtomicBool::new(false),
    });
    let routes = Router::new()
        .route("/health/liveliness", get(async || Json("I'm alive!")))
        .route("/health/liveness", get(async || Json("I'm alive!")))
        .route("/health/readiness", get(ready))
        .route("/metrics", get(metrics))
        .with_state(told.clone());
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    tracing::info!("health and metrics on http://{listen}");
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!("health and metrics are not served any more: {error}");
        }
    });
    Ok(Server { told, task })
}

impl Server {
    /// Not ready from here on.
    pub fn begin_drain(&self) {
        self.told.draining.store(true, Ordering::Relaxed);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ready(State(told): State<Arc<Told>>) -> Response {
    let (mut missing, mut degraded) = (Vec::new(), Vec::new());
    for part in &told.parts {
        part.missing(&mut missing);
        part.degraded(&mut degraded);
    }
    if told.draining.load(Ordering::Relaxed) {
        missing.push("shutting down".to_owned());
    }
    let (status, word) = if missing.is_empty() {
        (axum::http::StatusCode::OK, "ready")
    } else {
        (axum::http::StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    let body = json!({ "status": word, "missing": missing, "degraded": degraded });
    (status, Json(body)).into_response()
}

async fn metrics(State(told): State<Arc<Told>>) -> Response {
    let mut text = String::with_capacity(4096);
    for part in &told.parts {
        part.metrics(&mut text);
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(axum::http::header::CONTENT_TYPE, kind)], text).into_response()
}

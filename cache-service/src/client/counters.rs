//! What a gateway counts about its cache.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::breaker::{Breaker, State};

#[derive(Default)]
pub(super) struct Counters {
    pub answered: AtomicU64,
    pub timeouts: AtomicU64,
    pub failed: AtomicU64,
    pub skipped: AtomicU64,
    pub micros: AtomicU64,
    pub stored: AtomicU64,
    pub not_stored: AtomicU64,
}

impl Counters {
    /// In Prometheus' text format.
    pub(super) fn write(&self, out: &mut String, breaker: &Breaker, connections: u64) {
        let c = self;
        let mut family = |name: &str, kind: &str, help: &str, rows: &[(&str, String)]| {
            let name = format!("tollgate_cache_service_{name}");
            // Writing into a string cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in rows {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let read = |counter: &AtomicU64| counter.load(Relaxed).to_string();
        family(
            "lookups_total",
            "counter",
            "Look-ups in the answer cache, by what came of the request to it.",
            &[
                ("{result=\"answered\"}", read(&c.answered)),
                ("{result=\"timeout\"}", read(&c.timeouts)),
                ("{result=\"failed\"}", read(&c.failed)),
                ("{result=\"skipped\"}", read(&c.skipped)),
            ],
        );
        family(
            "lookup_seconds_total",
            "counter",
            "Time that look-ups waited for the answer cache.",
            &[("", format!("{:.6}", c.micros.load(Relaxed) as f64 / 1e6))],
        );
        family(
            "stores_total",
            "counter",
            "Answers sent to the answer cache, by what became of them.",
            &[
                ("{result=\"kept\"}", read(&c.stored)),
                ("{result=\"not-kept\"}", read(&c.not_stored)),
            ],
        );
        let state = breaker.state();
        let is = |s| u8::from(state == s).to_string();
        family(
            "breaker",
            "gauge",
            "Whether the answer cache is asked (closed), tried (half-open) or left alone (open).",
            &[
                ("{state=\"closed\"}", is(State::Closed)),
                ("{state=\"half-open\"}", is(State::HalfOpen)),
                ("{state=\"open\"}", is(State::Open)),
            ],
        );
        family(
            "breaker_opened_total",
            "counter",
            "Times that the answer cache began to be left alone.",
            &[("", breaker.opened().to_string())],
        );
        family(
            "connections_total",
            "counter",
            "Connections opened to the answer cache.",
            &[("", connections.to_string())],
        );
    }
}

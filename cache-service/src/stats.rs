//! What the cache counts, and how that reads in Prometheus' text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::eligibility::Reason;
use crate::embed::EmbedStats;

/// Lower bounds of the similarity histogram.
const SIMILARITIES: [f32; 8] = [0.85, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98, 0.995];

/// Counters of a running cache.
#[derive(Debug)]
pub(crate) struct Counters {
    pub hits_exact: AtomicU64,
    pub hits_semantic: AtomicU64,
    pub misses: Vec<AtomicU64>,
    pub bypasses: Vec<AtomicU64>,
    /// Candidates refused, by guard.
    pub guards: Vec<AtomicU64>,
    pub served: [AtomicU64; SIMILARITIES.len()],
    pub stored: AtomicU64,
    pub not_stored: AtomicU64,
    pub gone: AtomicU64,
    pub judged_right: AtomicU64,
    pub judged_wrong: AtomicU64,
    pub saved_nano: AtomicI64,
    pub saved_tokens: AtomicU64,
    /// Entries found under a request that they do not belong to; never served, must stay zero.
    pub crossed: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        let each = || Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Self {
            hits_exact: AtomicU64::new(0),
            hits_semantic: AtomicU64::new(0),
            misses: each(),
            bypasses: each(),
            guards: each(),
            served: Default::default(),
            stored: AtomicU64::new(0),
            not_stored: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            judged_right: AtomicU64::new(0),
            judged_wrong: AtomicU64::new(0),
            saved_nano: AtomicI64::new(0),
            saved_tokens: AtomicU64::new(0),
            crossed: AtomicU64::new(0),
        }
    }
}

pub(crate) fn count(counters: &[AtomicU64], reason: Reason) {
    if let Some(counter) = counters.get(reason as usize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counters {
    pub(crate) fn similarity(&self, similarity: f32) {
        let at = SIMILARITIES
            .iter()
            .rposition(|low| similarity >= *low)
            .unwrap_or(0);
        self.served[at].fetch_add(1, Ordering::Relaxed);
    }
}

/// A cache at one moment.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Answers kept.
    pub entries: usize,
    /// Bytes they take, with vectors, about.
    pub bytes: u64,
    /// Partitions with vectors.
    pub partitions: usize,
    /// Vectors that can be found, and dead ones.
    pub vectors: (usize, usize),
    /// Insertions into graphs that were looked up again, and those not found.
    pub canaries: (u64, u64),
    /// Answered word for word.
    pub hits_exact: u64,
    /// Answered by meaning.
    pub hits_semantic: u64,
    /// Not answered, by reason.
    pub misses: Vec<(Reason, u64)>,
    /// Not looked at, by reason.
    pub bypasses: Vec<(Reason, u64)>,
    /// Candidates refused, by guard.
    pub guards: Vec<(Reason, u64)>,
    /// Semantic hits by the lower bound of their similarity.
    pub served: Vec<(f32, u64)>,
    /// Answers stored.
    pub stored: u64,
    /// Answers not stored (incomplete, tool calls, not wanted).
    pub not_stored: u64,
    /// Answers expired, replaced, evicted or deleted.
    pub gone: u64,
    /// Hits that users called right, and wrong.
    pub judged: (u64, u64),
    /// What hits saved, in nano-dollars.
    pub saved_nano: i64,
    /// Tokens that hits saved.
    pub saved_tokens: u64,
    /// Must be zero: entries found under a request of another tenant or partition.
    pub crossed: u64,
    /// Calls under way that others may wait for.
    pub flights: usize,
    /// The embedder; `None` without one.
    pub embed: Option<EmbedStats>,
}

impl Stats {
    pub(crate) fn of(counters: &Counters) -> Self {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let by_reason = |list: &[AtomicU64]| {
            Reason::ALL
                .iter()
                .copied()
                .zip(list.iter().map(read))
                .filter(|(_, n)| *n > 0)
                .collect::<Vec<_>>()
        };
        Self {
            hits_exact: read(&counters.hits_exact),
            hits_semantic: read(&counters.hits_semantic),
            misses: by_reason(&counters.misses),
            bypasses: by_reason(&counters.bypasses),
            guards: by_reason(&counters.guards),
            served: SIMILARITIES
                .iter()
                .copied()
                .zip(counters.served.iter().map(read))
                .collect(),
            stored: read(&counters.stored),
            not_stored: read(&counters.not_stored),
            gone: read(&counters.gone),
            judged: (read(&counters.judged_right), read(&counters.judged_wrong)),
            saved_nano: counters.saved_nano.load(Ordering::Relaxed),
            saved_tokens: read(&counters.saved_tokens),
            crossed: read(&counters.crossed),
            ..Self::default()
        }
    }

    /// In Prometheus' text format.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, rows: &[(String, String)]| {
            // Writing into a string cannot fail.
            let _ = writeln!(out, "# TYPE {name} {kind}");
            for (labels, value) in rows {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let one = |value: String| vec![(String::new(), value)];
        let mut requests = vec![
            (
                "{outcome=\"hit-exact\",reason=\"\"}".to_owned(),
                self.hits_exact.to_string(),
            ),
            (
                "{outcome=\"hit-semantic\",reason=\"\"}".to_owned(),
                self.hits_semantic.to_string(),
            ),
        ];
        for (outcome, list) in [("miss", &self.misses), ("bypass", &self.bypasses)] {
            requests.extend(list.iter().map(|(reason, n)| {
                (
                    format!("{{outcome=\"{outcome}\",reason=\"{}\"}}", reason.as_str()),
                    n.to_string(),
                )
            }));
        }
        family("tollgate_cache_requests_total", "counter", &requests);
        let guards: Vec<_> = self
            .guards
            .iter()
            .map(|(g, n)| (format!("{{guard=\"{}\"}}", g.as_str()), n.to_string()))
            .collect();
        family("tollgate_cache_guard_rejections_total", "counter", &guards);
        let served: Vec<_> = self
            .served
            .iter()
            .map(|(low, n)| (format!("{{from=\"{low}\"}}"), n.to_string()))
            .collect();
        family("tollgate_cache_served_similarity_total", "counter", &served);
        family(
            "tollgate_cache_stored_total",
            "counter",
            &one(self.stored.to_string()),
        );
        family(
            "tollgate_cache_not_stored_total",
            "counter",
            &one(self.not_stored.to_string()),
        );
        family(
            "tollgate_cache_removed_total",
            "counter",
            &one(self.gone.to_string()),
        );
        let judged = [("right", self.judged.0), ("wrong", self.judged.1)];
        family(
            "tollgate_cache_feedback_total",
            "counter",
            &judged.map(|(v, n)| (format!("{{verdict=\"{v}\"}}"), n.to_string())),
        );
        family(
            "tollgate_cache_saved_nano_usd_total",
            "counter",
            &one(self.saved_nano.to_string()),
        );
        family(
            "tollgate_cache_saved_tokens_total",
            "counter",
            &one(self.saved_tokens.to_string()),
        );
        family(
            "tollgate_cache_cross_partition_total",
            "counter",
            &one(self.crossed.to_string()),
        );
        family(
            "tollgate_cache_entries",
            "gauge",
            &one(self.entries.to_string()),
        );
        family(
            "tollgate_cache_bytes",
            "gauge",
            &one(self.bytes.to_string()),
        );
        family(
            "tollgate_cache_partitions",
            "gauge",
            &one(self.partitions.to_string()),
        );
        let vectors = [("live", self.vectors.0), ("dead", self.vectors.1)];
        family(
            "tollgate_cache_vectors",
            "gauge",
            &vectors.map(|(s, n)| (format!("{{state=\"{s}\"}}"), n.to_string())),
        );
        family(
            "tollgate_cache_canaries_total",
            "counter",
            &one(self.canaries.0.to_string()),
        );
        family(
            "tollgate_cache_canaries_lost_total",
            "counter",
            &one(self.canaries.1.to_string()),
        );
        family(
            "tollgate_cache_flights",
            "gauge",
            &one(self.flights.to_string()),
        );
        let embed = self.embed.unwrap_or_default();
        family(
            "tollgate_cache_semantic_ready",
            "gauge",
            &one(u8::from(self.embed.is_some()).to_string()),
        );
        family(
            "tollgate_cache_embeddings_total",
            "counter",
            &one(embed.embedded.to_string()),
        );
        let seconds = embed.embed_us as f64 / 1e6;
        family(
            "tollgate_cache_embedding_seconds_total",
            "counter",
            &one(format!("{seconds:.6}")),
        );
        family(
            "tollgate_cache_embedding_queue",
            "gauge",
            &one(embed.queued.to_string()),
        );
        out
    }
}

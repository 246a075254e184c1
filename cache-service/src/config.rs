//! What the cache may use and how it decides by default. Pure data: reads no file, though
//! [`CacheConfig::at`] takes the model's folder from the environment that the launcher sets.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch; injected, so that expiry can be tested without waiting.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
        })
    }

    /// A clock that a test moves.
    pub fn from_fn(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now, in microseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// No request and no tenant may go below this cosine: at 0.85 plain similarity serves 13.6% of
/// different Quora questions, which the guards only bring down to 8.2%.
pub const THRESHOLD_FLOOR: f32 = 0.85;

/// Settings of one cache.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// Folder of `entries.log`; made if missing. `None` keeps everything in memory only.
    pub dir: Option<PathBuf>,
    /// Cosine from which a paraphrase may be served. Default 0.90, never below [`THRESHOLD_FLOOR`].
    pub threshold: f32,
    /// Life of an entry whose request names none, in seconds. Default one hour.
    pub ttl_s: u64,
    /// Longest life a request may ask for, in seconds. Default one day.
    pub ttl_max_s: u64,
    /// Bound of answers, vectors and features together, in bytes. Default 256 MiB.
    pub bytes_max: u64,
    /// Bound of the entries of one scope (tenant). Default 50,000.
    pub scope_entries_max: usize,
    /// Bound of the entries of one partition. Default 50,000.
    pub partition_entries_max: usize,
    /// Larger request bodies bypass the cache, in bytes. Default 256 KiB.
    pub body_bytes_max: usize,
    /// Whether the embedding model is loaded at all. Off: exact hits only, and no model in memory.
    pub semantic: bool,
    /// Folder with `model.onnx`, `tokenizer.json`, `config.json`, `special_tokens_map.json` and
    /// `tokenizer_config.json`.
    pub model_dir: Option<PathBuf>,
    /// Embedding threads, each with a session of its own (110 MB). Default half the cores, 1 to 4.
    pub embed_threads: usize,
    /// Texts that may wait for an embedding thread; the next one is a miss. Default 64.
    pub embed_queue: usize,
    /// Longest wait for a vector in a look-up, queue included. Default 60 ms.
    pub embed_budget: Duration,
    /// Longest wait of a request for an identical one that is under way. Default 10 s.
    pub follower_wait: Duration,
    /// Partitions up to this many entries are scanned; larger ones get a graph. Default 8,192.
    pub flat_max: usize,
    /// Where several caches keep their answers together. None: each keeps its own.
    pub shared: Option<SharedConfig>,
    /// Source of time.
    pub clock: Clock,
}

/// A Redis that several caches share; one of its own, since it may evict.
#[derive(Clone)]
pub struct SharedConfig {
    /// `redis://[user:password@]host:port/db`. Never shown.
    pub url: String,
    /// Begins every key. Default `tollgate:answers:1`; the number is that of the layout.
    pub prefix: String,
    /// Longest wait of a look-up for one answer. Default 20 ms.
    pub budget: Duration,
    /// Records of the log that the other caches follow, about. Default 100,000.
    pub log_max: usize,
    /// How often everything here is compared with everything there. Default 5 minutes.
    pub compare_every: Duration,
}

impl SharedConfig {
    /// The defaults, over the Redis at this address.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "tollgate:answers:1".to_owned(),
            budget: Duration::from_millis(20),
            log_max: 100_000,
            compare_every: Duration::from_secs(300),
        }
    }
}

impl fmt::Debug for SharedConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConfig")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl CacheConfig {
    /// The defaults with a folder to keep entries in, and the model from `TOLLGATE_MODEL_DIR`.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: Some(dir.into()),
            ..Self::default()
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            dir: None,
            threshold: 0.90,
            ttl_s: 3_600,
            ttl_max_s: 86_400,
            bytes_max: 256 << 20,
            scope_entries_max: 50_000,
            partition_entries_max: 50_000,
            body_bytes_max: 256 << 10,
            semantic: true,
            model_dir: std::env::var_os("TOLLGATE_MODEL_DIR").map(PathBuf::from),
            embed_threads: (cores / 2).clamp(1, 4),
            embed_queue: 64,
            embed_budget: Duration::from_millis(60),
            follower_wait: Duration::from_secs(10),
            flat_max: 8_192,
            shared: None,
            clock: Clock::system(),
        }
    }
}

/// Which tiers a tenant uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Neither read nor written.
    Off,
    /// Word for word only.
    Exact,
    /// Word for word, then by meaning with the guards.
    #[default]
    Semantic,
}

/// What the operator lets a tenant's requests do. Part of the key only through `revision`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Which tiers are on.
    pub mode: Mode,
    /// Whether a request that names no temperature may be answered by meaning. Most providers then
    /// sample at 1.0, so the client may expect a fresh answer; on by default, since a cache that
    /// only serves requests with `temperature: 0` serves nobody.
    pub allow_sampled: bool,
    /// Requests that name a higher temperature are answered word for word only. Default 1.0.
    pub temperature_max: f64,
    /// A threshold for this tenant instead of the configured one; never below [`THRESHOLD_FLOOR`].
    pub threshold: Option<f32>,
    /// Whether identical requests wait for the first of them.
    pub single_flight: bool,
    /// Versions of what shapes answers outside the request (guardrails, prompt templates, corpus):
    /// a new text here starts with an empty cache.
    pub revision: String,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Semantic,
            allow_sampled: true,
            temperature_max: 1.0,
            threshold: None,
            single_flight: true,
            revision: String::new(),
        }
    }
}

/// What the client asks of the cache for one request (headers; the body's `cache` object is read
/// here too). A client may ask for less than the operator allows, never for more.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Controls {
    /// Do not answer from the cache; the new answer replaces the stored one.
    pub no_cache: bool,
    /// Do not keep the answer.
    pub no_store: bool,
    /// Life of the answer in seconds; capped by the configured maximum.
    pub ttl_s: Option<u64>,
    /// Only answers at most this old, in seconds.
    pub max_age_s: Option<u64>,
    /// A higher threshold than the tenant's; a lower one is ignored.
    pub threshold: Option<f32>,
    /// Divides the tenant's own cache further; never reaches another tenant's.
    pub namespace: Option<String>,
}

//! What the bench prints: times of the parts on this machine, and the quality on labelled pairs.
//!
//! Every time is a wall-clock time of one call after another on an otherwise quiet cache; labelled
//! data is read from a path and never kept.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::{CacheConfig, Controls, Policy};
use crate::distance::{DIMS, dot};
use crate::embed::{Embedder, Vector};
use crate::entries::{Answer, EntryId, Tokens};
use crate::error::Error;
use crate::guards::{self, Features};
use crate::index::Index;
use crate::lookup::CacheService;
use crate::outcome::Outcome;
use crate::request::Lookup;

/// Two percentiles of some calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Half of the calls were faster.
    pub p50: Duration,
    /// 99 in 100 were faster.
    pub p99: Duration,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            times
                .get((times.len() as f64 * share) as usize)
                .or(times.last())
                .copied()
                .unwrap_or_default()
        };
        Self {
            p50: at(0.50),
            p99: at(0.99),
        }
    }
}

/// Embeds `count` different texts of about so many word pieces.
///
/// # Errors
/// When the model gives no vector.
pub async fn embedding(embedder: &Embedder, pieces: usize, count: usize) -> Result<Times, Error> {
    let mut times = Vec::with_capacity(count);
    for n in 0..count {
        let text = sentence(n, pieces);
        let started = Instant::now();
        embedder
            .embed_within(&text, Duration::from_secs(60))
            .await
            .map_err(|reason| Error::Model(format!("no vector: {}", reason.as_str())))?;
        times.push(started.elapsed());
    }
    Ok(Times::of(times))
}

/// A text that no call before had, of words that are one piece each.
fn sentence(n: usize, pieces: usize) -> String {
    const WORDS: [&str; 16] = [
        "water", "house", "music", "river", "table", "light", "paper", "green", "stone", "market",
        "night", "letter", "garden", "window", "doctor", "summer",
    ];
    let mut x = n as u64 + 1;
    let words: Vec<_> = (0..pieces)
        .map(|_| {
            x = x
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            WORDS[(x >> 60) as usize]
        })
        .collect();
    words.join(" ")
}

/// Times of whole look-ups in a cache in memory with so many entries.
#[derive(Clone, Copy, Debug, Default)]
pub struct LookupTimes {
    /// The same request: parse, hash, find.
    pub exact: Times,
    /// Another one in a cache without a model: what every miss pays.
    pub miss: Times,
    /// In other words, the vector included.
    pub semantic: Option<Times>,
}

/// Measures look-ups of one tenant among `entries` answers.
///
/// # Errors
/// When the cache does not open.
pub async fn lookups(
    config: CacheConfig,
    entries: usize,
    count: usize,
) -> Result<LookupTimes, Error> {
    let with_model = config.semantic;
    let exact_only = CacheService::open(CacheConfig {
        dir: None,
        semantic: false,
        ..config.clone()
    })
    .await?;
    let policy = Policy {
        single_flight: false,
        ..Policy::default()
    };
    let fill = async |cache: &CacheService, entries: usize| {
        for n in 0..entries {
            let body = request(&sentence(n, 10));
            if let Outcome::Miss(ticket, _) = cache.lookup(of(&body, &policy)).await {
                cache.store(ticket, answer()).await;
            }
        }
    };
    fill(&exact_only, entries).await;
    let time = async |cache: &CacheService, texts: &mut dyn Iterator<Item = String>| {
        let mut times = Vec::with_capacity(count);
        for text in texts {
            let body = request(&text);
            let started = Instant::now();
            let outcome = cache.lookup(of(&body, &policy)).await;
            times.push(started.elapsed());
            drop(outcome);
        }
        Times::of(times)
    };
    let exact = time(
        &exact_only,
        &mut (0..count).map(|n| sentence(n % entries.max(1), 10)),
    )
    .await;
    let miss = time(
        &exact_only,
        &mut (0..count).map(|n| sentence(1_000_000 + n, 10)),
    )
    .await;
    let mut semantic = None;
    if with_model {
        let cache = CacheService::open(CacheConfig {
            dir: None,
            ..config
        })
        .await?;
        if cache.readiness().semantic {
            // Vectors cost milliseconds each; a hundred entries are enough to search among.
            fill(&cache, entries.min(100)).await;
            semantic =
                Some(time(&cache, &mut (0..count).map(|n| sentence(2_000_000 + n, 50))).await);
        }
    }
    Ok(LookupTimes {
        exact,
        miss,
        semantic,
    })
}

fn request(text: &str) -> Vec<u8> {
    json!({"model": "m", "messages": [{"role": "user", "content": text}]})
        .to_string()
        .into_bytes()
}

fn of<'a>(body: &'a [u8], policy: &'a Policy) -> Lookup<'a> {
    Lookup {
        scope: "bench",
        model: "m",
        body,
        controls: Controls::default(),
        policy,
    }
}

fn answer() -> Answer {
    let body = json!({"id": "x", "choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]});
    Answer {
        body: body.to_string().into(),
        usage: Tokens::default(),
        cost_nano: 1,
        model: "m".into(),
        created: 0,
        provider: "p".into(),
    }
}

/// Searches an index of `vectors` random vectors; above `flat_max` with a graph, whose building
/// takes milliseconds for each.
#[must_use]
pub fn index_search(vectors: usize, flat_max: usize, count: usize) -> Times {
    let index = Index::new(flat_max);
    index.load((0..vectors).map(|n| (EntryId::from_u128(n as u128), random_unit(n as u64))));
    if index.wants_rebuild() {
        index.rebuild();
    }
    let times = (0..count)
        .map(|n| {
            let query = random_unit((vectors + n) as u64);
            let started = Instant::now();
            std::hint::black_box(index.search(&query, 5, 0.9));
            started.elapsed()
        })
        .collect();
    Times::of(times)
}

fn random_unit(seed: u64) -> Vec<f32> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut v: Vec<f32> = (0..DIMS)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        })
        .collect();
    let norm = dot(&v, &v).sqrt();
    v.iter_mut().for_each(|x| *x /= norm);
    v
}

/// Two questions, and whether one answer fits both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The stored question.
    pub a: String,
    /// The asked one.
    pub b: String,
    /// Labelled as the same.
    pub same: bool,
}

/// Reads labelled pairs: `.jsonl` (`text_a`, `text_b`, `label` 1 for the same), `.json`
/// (`origin`, `similar`, all the same) or `.tsv` (premise, hypothesis, 1 for the contrary), each also
/// with `.gz`.
///
/// # Errors
/// When the file cannot be read as that.
pub fn pairs(path: &Path) -> Result<Vec<Pair>, Error> {
    let fault = |problem: String| Error::Folder {
        path: path.display().to_string(),
        problem,
    };
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let bytes = if name.ends_with(".gz") {
        // The one place that needs it; not worth a dependency of the service.
        let out = Command::new("gzip")
            .arg("-dc")
            .arg(path)
            .output()
            .map_err(|e| fault(format!("gzip: {e}")))?;
        if !out.status.success() {
            return Err(fault("gzip cannot unpack it".to_owned()));
        }
        out.stdout
    } else {
        std::fs::read(path).map_err(|e| fault(e.to_string()))?
    };
    let text = String::from_utf8(bytes).map_err(|_| fault("not UTF-8".to_owned()))?;
    let string = |v: &Value, name: &str| v.get(name).and_then(Value::as_str).map(str::to_owned);
    let read: Option<Vec<Pair>> = match name.trim_end_matches(".gz").rsplit('.').next() {
        Some("jsonl") => text
            .lines()
            .map(|line| {
                let v: Value = serde_json::from_str(line).ok()?;
                let same = v.get("label")?.as_i64()? == 1;
                Some(Pair {
                    a: string(&v, "text_a")?,
                    b: string(&v, "text_b")?,
                    same,
                })
            })
            .collect(),
        Some("json") => serde_json::from_str::<Vec<Value>>(&text)
            .map_err(|e| fault(e.to_string()))?
            .iter()
            .map(|v| {
                Some(Pair {
                    a: string(v, "origin")?,
                    b: string(v, "similar")?,
                    same: true,
                })
            })
            .collect(),
        Some("tsv") => text
            .lines()
            .skip(1)
            .map(|line| {
                let mut fields = line.split('\t');
                let (a, b) = (fields.next()?.to_owned(), fields.next()?.to_owned());
                Some(Pair {
                    a,
                    b,
                    same: fields.next()?.trim() != "1",
                })
            })
            .collect(),
        _ => None,
    };
    read.ok_or_else(|| fault("not a list of labelled pairs".to_owned()))
}

/// Cosine of each pair; pairs with a text that the semantic tier does not take are left out.
pub async fn similarities(embedder: &Embedder, pairs: Vec<Pair>) -> Vec<(Pair, f32)> {
    let mut out = Vec::with_capacity(pairs.len());
    let vector = async |text: &str| -> Option<Vector> {
        embedder
            .embed_within(text, Duration::from_secs(60))
            .await
            .ok()
    };
    for pair in pairs {
        if let (Some(a), Some(b)) = (vector(&pair.a).await, vector(&pair.b).await) {
            let similarity = dot(&a, &b);
            out.push((pair, similarity));
        }
    }
    out
}

/// How often one question's answer would be served for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// Pairs labelled the same, and different.
    pub pairs: (usize, usize),
    /// Share of the same that is served by cosine alone, and of the different.
    pub plain: (f64, f64),
    /// The same with the guards.
    pub guarded: (f64, f64),
}

impl Quality {
    /// Share of the served that is labelled the same: plain, and with the guards.
    #[must_use]
    pub fn precision(&self) -> (f64, f64) {
        let of = |(same, different): (f64, f64)| {
            let (good, bad) = (same * self.pairs.0 as f64, different * self.pairs.1 as f64);
            // Serving nothing serves nothing wrong.
            if good + bad > 0.0 {
                good / (good + bad)
            } else {
                1.0
            }
        };
        (of(self.plain), of(self.guarded))
    }
}

/// Counts at a threshold.
#[must_use]
pub fn quality(pairs: &[(Pair, f32)], threshold: f32) -> Quality {
    let mut served = [[0usize; 2]; 2];
    let mut total = [0usize; 2];
    for (pair, similarity) in pairs {
        let label = usize::from(!pair.same);
        total[label] += 1;
        if *similarity < threshold {
            continue;
        }
        served[0][label] += 1;
        let (a, b) = (Features::of(&pair.a), Features::of(&pair.b));
        if *similarity >= guards::threshold(&a, &b, threshold) && guards::refuse(&a, &b).is_none() {
            served[1][label] += 1;
        }
    }
    let share = |kind: usize| {
        let of = |label: usize| served[kind][label] as f64 / total[label].max(1) as f64;
        (of(0), of(1))
    };
    Quality {
        pairs: (total[0], total[1]),
        plain: share(0),
        guarded: share(1),
    }
}

//! Opening a cache: the model, the entries on disk, the store that it shares.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};

use crate::config::{CacheConfig, THRESHOLD_FLOOR};
use crate::embed::Embedder;
use crate::entries::{Bounds, Entries, EntryId};
use crate::error::Error;
use crate::lookup::CacheService;
use crate::persist;
use crate::shared::{Following, Shared};
use crate::shelf::Shelf;
use crate::stats::Counters;

impl CacheService {
    /// Opens the cache: loads the model (about a second) and the entries of its folder. Whatever
    /// cannot be loaded is left out with a warning; see [`Self::readiness`].
    ///
    /// # Errors
    /// Only for settings that cannot be meant.
    pub async fn open(config: CacheConfig) -> Result<Self, Error> {
        for (name, value) in [("threshold", config.threshold)] {
            if !(THRESHOLD_FLOOR..=1.0).contains(&value) {
                return Err(Error::Config {
                    name,
                    problem: format!("{value} is not between {THRESHOLD_FLOOR} and 1"),
                });
            }
        }
        if config.ttl_s == 0 || config.ttl_s > config.ttl_max_s {
            return Err(Error::Config {
                name: "ttl_s",
                problem: format!(
                    "{} is not between 1 and ttl_max_s ({})",
                    config.ttl_s, config.ttl_max_s
                ),
            });
        }
        let opened = tokio::task::spawn_blocking(move || Self::open_now(config)).await;
        let mut cache = opened.unwrap_or_else(|e| {
            Err(Error::Config {
                name: "dir",
                problem: format!("opening the cache failed: {e}"),
            })
        })?;
        if let Some(config) = &cache.shelf.config.shared {
            let model = cache.embedder.as_ref().map(Embedder::model);
            let shared = Shared::new(config, model)?;
            let log = cache.log.as_ref().map(Arc::downgrade);
            let every = config.compare_every;
            let following =
                Following::start(Arc::clone(&shared), Arc::clone(&cache.shelf), log, every);
            cache.shared = Some((shared, following));
        }
        Ok(cache)
    }

    fn open_now(config: CacheConfig) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let embedder = match config.semantic.then(|| Embedder::open(&config)) {
            Some(Ok(embedder)) => Some(embedder),
            Some(Err(e)) => {
                warnings.push(format!("answering word for word only: {e}"));
                None
            }
            None => None,
        };
        let bounds = Bounds {
            bytes: config.bytes_max,
            scope_entries: config.scope_entries_max,
            partition_entries: config.partition_entries_max,
        };
        let shelf = Arc::new(Shelf {
            entries: RwLock::new(Entries::new(bounds)),
            indexes: RwLock::default(),
            counters: Counters::default(),
            sequence: AtomicU64::new(0),
            secret: secret(),
            config,
        });
        // Entries with their answers elsewhere are of no use to a cache that keeps its own.
        let dir = match (&shelf.config.dir, &shelf.config.shared) {
            (Some(dir), Some(_)) => Some(dir.join("shared")),
            (dir, _) => dir.clone(),
        };
        let log = dir.and_then(|dir| {
            let mut vectors: HashMap<EntryId, Vec<f32>> = HashMap::new();
            let opened = persist::open(&dir, embedder.as_ref().map(Embedder::model), |record| {
                shelf.replay(record, &mut vectors)
            });
            shelf.load_vectors(vectors);
            match opened.and_then(|mut opened| {
                warnings.append(&mut opened.warnings);
                opened.start(Arc::clone(&shelf))
            }) {
                Ok(log) => Some(Arc::new(log)),
                Err(e) => {
                    warnings.push(format!("keeping entries in memory only: {e}"));
                    None
                }
            }
        });
        for warning in &warnings {
            tracing::warn!("cache: {warning}");
        }
        Ok(Self {
            shelf,
            embedder,
            log,
            shared: None,
            flights: Arc::default(),
            rebuilds: Mutex::default(),
            warnings,
        })
    }
}

/// What nobody else knows: the keys that the standard library draws for its maps.
fn secret() -> [u8; 16] {
    let mut secret = [0; 16];
    for half in secret.as_chunks_mut::<8>().0 {
        *half = RandomState::new().hash_one("cache").to_le_bytes();
    }
    secret
}

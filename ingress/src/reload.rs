//! What is in force: the file and the models of the log, resolved as one and swapped whole.
//!
//! A call takes all of it when it begins and goes by that to its end. A file with a fault changes nothing; a
//! model of the log with a fault is left out, and told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use config::{Added, Config, ConfigErrors, LeftOut, Loaded, Resolved, Secret, Source, Warning};
use parking_lot::Mutex;
use schemas::{Micros, Text};

use crate::directory::ModelRecord;
use crate::models::{self, Models};
use crate::prices::Stated;
use crate::{Beside, Error, Gateway, clock, management, metrics, prices, router, seal};

/// Between attempts to put a change of the log into force.
const AGAIN: Duration = Duration::from_secs(1);

/// Why another version of the file is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file is at fault: it stays so until somebody changes it.
    #[error("{0}")]
    File(String),
    /// Nothing is wrong with it: it may be tried again.
    #[error(transparent)]
    Now(#[from] Error),
}

impl From<ConfigErrors> for ReloadError {
    fn from(errors: ConfigErrors) -> Self {
        Self::File(errors.to_string())
    }
}

/// How it stands with changes of the file and of the models.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Versions of the file that came into force after the first.
    pub reloads: u64,
    /// Versions that did not.
    pub failures: u64,
    /// When the present one came into force.
    pub since: Micros,
    /// Why a newer one is not in force.
    pub problem: Option<String>,
    /// Models of the log that cannot be called here.
    pub left_out: Vec<LeftOut>,
}

/// A [`Status`] that is told about.
#[derive(Debug)]
pub struct Standing(Mutex<Status>);

impl Default for Standing {
    fn default() -> Self {
        Self(Mutex::new(Status {
            since: clock::now(),
            ..Status::default()
        }))
    }
}

impl Standing {
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.lock().clone()
    }

    /// A newer version of the file is there, and is not in force.
    pub fn failed(&self, why: &str) {
        let mut status = self.0.lock();
        status.failures += 1;
        status.problem = Some(why.to_owned());
    }

    /// The version that is there is in force.
    pub fn came(&self) {
        let mut status = self.0.lock();
        status.reloads += 1;
        status.since = clock::now();
        status.problem = None;
    }

    fn leave_out(&self, left_out: Vec<LeftOut>) {
        let mut status = self.0.lock();
        for left in left_out
            .iter()
            .filter(|left| !status.left_out.contains(left))
        {
            tracing::error!("model {} of the log cannot be called here: {left}", left.id);
        }
        status.left_out = left_out;
    }
}

impl Beside for Standing {
    fn metrics(&self, out: &mut String) {
        let status = self.status();
        let since = u64::try_from(status.since.as_secs()).unwrap_or(0);
        for (name, kind, help, value) in [
            (
                "tollgate_config_reloads_total",
                "counter",
                "Versions of the file that came into force after the first.",
                status.reloads,
            ),
            (
                "tollgate_config_reload_failures_total",
                "counter",
                "Versions of the file that did not come into force.",
                status.failures,
            ),
            (
                "tollgate_config_in_force_since_seconds",
                "gauge",
                "When the version in force came into force, Unix time.",
                since,
            ),
            (
                "tollgate_config_in_force",
                "gauge",
                "0 while a newer version of the file is there and is not in force.",
                u64::from(status.problem.is_none()),
            ),
            (
                "tollgate_models_left_out",
                "gauge",
                "Models of the log that cannot be called here.",
                status.left_out.len() as u64,
            ),
        ] {
            metrics::plain(out, name, kind, help, value);
        }
    }

    fn missing(&self, _: &mut Vec<String>) {}

    fn degraded(&self, out: &mut Vec<String>) {
        let status = self.status();
        if let Some(problem) = status.problem {
            out.push(format!(
                "the configuration file is not in force, what it said before is: {problem}"
            ));
        }
        for left in status.left_out {
            out.push(format!(
                "model {} of the log cannot be called here: {left}",
                left.id
            ));
        }
    }
}

/// Where what is in force was made from.
pub struct Reloads {
    source: tokio::sync::Mutex<Arc<Source>>,
    /// Version of the models of the log that are in force.
    models: AtomicU64,
    pub standing: Standing,
}

impl Reloads {
    #[must_use]
    pub fn new(source: Arc<Source>) -> Self {
        Self {
            source: tokio::sync::Mutex::new(source),
            models: AtomicU64::new(0),
            standing: Standing::default(),
        }
    }

    /// The version of the models of the log that are in force.
    #[must_use]
    pub fn models(&self) -> u64 {
        self.models.load(Ordering::Acquire)
    }
}

/// Whether a configuration can be served, as far as only a gateway can tell; and the prices that it states.
///
/// # Errors
/// The first thing that cannot be, by its name.
pub fn fits(config: &Config) -> Result<Stated, String> {
    for entry in &config.models {
        models::check(entry).map_err(|error| match error {
            Error::Internal(what) => what,
            other => other.to_string(),
        })?;
    }
    if let Some(path) = &config.server.metrics.path
        && router::is_taken(path)
    {
        return Err(format!(
            "general_settings.prometheus_metrics_url: {path} is a route of its own already"
        ));
    }
    prices::stated(&config.models)
}

impl Gateway {
    /// Puts another version of the file into force, whole, for the calls that begin after this: first its
    /// prices and keys, then everything else at once. Gives what it says, and what of that has no effect.
    ///
    /// # Errors
    /// Then nothing of it is in force, but for prices and keys where the log failed between the two.
    pub async fn reload(&self, source: Source) -> Result<(Arc<Config>, Vec<Warning>), ReloadError> {
        let source = Arc::new(source);
        let resolved = self.resolve(source.clone(), Vec::new()).await??;
        let Loaded { config, warnings } = resolved.loaded;
        let stated = fits(&config).map_err(ReloadError::File)?;
        if let Some(book) = &self.prices {
            book.seed(&stated, "file").await?;
        }
        management::seed(self, &config.seed_keys, clock::now()).await?;
        let mut current = self.reloads.source.lock().await;
        self.swap(&source).await?;
        *current = source;
        self.reloads.standing.came();
        Ok((self.config(), warnings))
    }

    /// Puts the models of the log into force as they stand, if they are not.
    ///
    /// # Errors
    /// The file can no longer be resolved (a secret of its own file is gone): what was in force stays.
    pub async fn refresh(&self) -> Result<(), ReloadError> {
        let current = self.reloads.source.lock().await;
        if self.reloads.models() == self.directory.models_version() {
            return Ok(());
        }
        self.swap(&current).await
    }

    /// Keeps the models of the log in force as they change. Ends with the gateway, which it does not keep.
    pub async fn follow_models(gateway: Weak<Self>) {
        let Some(mut changed) = gateway.upgrade().map(|g| g.directory.models_changed()) else {
            return;
        };
        while let Some(now) = gateway.upgrade() {
            if let Err(error) = now.refresh().await {
                tracing::warn!("changes of models are not in force yet: {error}");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            drop(now);
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// What would be in force with one model of the log put in or changed. Nothing is.
    ///
    /// # Errors
    /// What is wrong with the model, naming its field.
    pub async fn try_model(&self, record: &ModelRecord) -> Result<config::ModelEntry, Error> {
        let current = self.reloads.source.lock().await;
        let (mut records, _) = self.directory.models();
        records.retain(|known| known.model_id != record.model_id);
        records.push(Arc::new(record.clone()));
        let resolved = self.resolve(current.clone(), records).await?;
        let resolved = resolved.map_err(|errors| Error::Change(errors.to_string()))?;
        drop(current);
        let own = |left: &&LeftOut| *left.id == *record.model_id;
        if let Some(left) = resolved.left_out.iter().find(own) {
            return Err(Error::BadRequest {
                message: left.to_string(),
                param: (!left.path.is_empty()).then(|| left.path.clone()),
            });
        }
        let mut models = resolved.loaded.config.models.into_iter();
        models
            .find(|entry| *entry.deployment_id == *record.model_id)
            .ok_or_else(|| Error::internal("a model that is fine is not there"))
    }

    /// Makes and swaps. The caller holds the source.
    async fn swap(&self, source: &Arc<Source>) -> Result<(), ReloadError> {
        let (records, version) = self.directory.models();
        let priced = records.iter().map(|record| record.prices_version).max();
        if let (Some(book), Some(version)) = (&self.prices, priced)
            && !book.has(version).await
        {
            tracing::error!(
                "models of the log need prices of version {version}, which did not come"
            );
        }
        let resolved = self.resolve(source.clone(), records).await??;
        let before = self.models.load_full();
        let config = Arc::new(resolved.loaded.config);
        let made = tokio::task::spawn_blocking(move || {
            let made = Models::after(&config, Some(&before));
            made.map(|models| (models, config))
        });
        let (models, config) = made.await.map_err(Error::internal)??;
        self.directory.set_budgets(&config.budgets);
        if let Some(cache) = &self.cache {
            cache.settings(&config.cache);
        }
        self.models.store(Arc::new(models));
        self.reloads.models.store(version, Ordering::Release);
        self.reloads.standing.leave_out(resolved.left_out);
        Ok(())
    }

    /// Off the threads that serve: a long file takes milliseconds.
    async fn resolve(
        &self,
        source: Arc<Source>,
        records: Vec<Arc<ModelRecord>>,
    ) -> Result<Result<Resolved, ConfigErrors>, Error> {
        let resolving = tokio::task::spawn_blocking(move || {
            // The file itself may bring another key along.
            let key = source.resolve(&[])?.loaded.config.server.secret_key;
            let (added, sealed) = added(key.as_ref(), &records);
            let mut resolved = source.resolve(&added)?;
            resolved.left_out.extend(sealed);
            let models = &mut resolved.loaded.config.models;
            models.retain(|entry| {
                let ours = added.iter().any(|added| added.id == entry.deployment_id);
                let Some(error) = ours.then(|| models::check(entry).err()).flatten() else {
                    return true;
                };
                resolved.left_out.push(LeftOut {
                    id: entry.deployment_id.clone(),
                    path: String::new(),
                    message: error.to_string(),
                });
                false
            });
            Ok(resolved)
        });
        resolving.await.map_err(Error::internal)
    }
}

/// The records as entries, their secrets opened; and those whose secrets do not open.
fn added(key: Option<&Secret>, records: &[Arc<ModelRecord>]) -> (Vec<Added>, Vec<LeftOut>) {
    let mut left_out = Vec::new();
    let added = records.iter().filter_map(|record| {
        let mut entry = serde_json::Value::Object(record.entry.clone());
        let mut fault = None;
        config::model_secrets(&mut entry, &mut |path, value| {
            let sealed = value.as_str().filter(|text| seal::is_sealed(text));
            match sealed.map(|sealed| seal::open(key, &place(&record.model_id, path), sealed)) {
                None => {}
                // As it is, whatever it looks like.
                Some(Ok(text)) => *value = text.replace("${", "$${").into(),
                Some(Err(error)) => fault = Some((path.to_owned(), error.to_string())),
            }
        });
        match fault {
            None => Some(Added {
                id: record.model_id.to_string(),
                entry,
            }),
            Some((path, message)) => {
                left_out.push(LeftOut {
                    id: record.model_id.to_string(),
                    path,
                    message,
                });
                None
            }
        }
    });
    (added.collect(), left_out)
}

/// Where a sealed secret stands.
pub(crate) fn place(model: &Text, path: &str) -> String {
    format!("{model} {path}")
}

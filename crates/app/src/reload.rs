//! Follows the configuration file: when it changes, or SIGHUP comes, what it says now comes into force, whole
//! or not at all. Never ends the process: what was in force stays until something good replaces it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use async_trait::async_trait;
use config::{Config, Source, Warning};
use ingress::Gateway;
use ingress::reload::{ReloadError, Standing};
use tokio::fs;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::settings::{self, Settings};

/// How often the file is looked at. A version counts when two looks in a row have found the same.
const LOOK: Duration = Duration::from_millis(400);

/// What a file comes into force in.
#[async_trait]
pub trait Target: Send + Sync + 'static {
    /// Puts it into force, whole.
    async fn reload(&self, source: Source) -> Result<(Arc<Config>, Vec<Warning>), ReloadError>;

    fn standing(&self) -> &Standing;
}

#[async_trait]
impl Target for Gateway {
    async fn reload(&self, source: Source) -> Result<(Arc<Config>, Vec<Warning>), ReloadError> {
        Self::reload(self, source).await
    }

    fn standing(&self) -> &Standing {
        &self.reloads.standing
    }
}

/// A process in which nothing changes while it runs: a file is checked, and told about.
#[derive(Default)]
pub struct Fixed(pub Standing);

#[async_trait]
impl Target for Fixed {
    async fn reload(&self, source: Source) -> Result<(Arc<Config>, Vec<Warning>), ReloadError> {
        let loaded = source.resolve(&[])?.loaded;
        self.0.came();
        Ok((Arc::new(loaded.config), loaded.warnings))
    }

    fn standing(&self) -> &Standing {
        &self.0
    }
}

impl ingress::Beside for Fixed {
    fn metrics(&self, out: &mut String) {
        self.0.metrics(out);
    }

    fn missing(&self, _: &mut Vec<String>) {}

    fn degraded(&self, out: &mut Vec<String>) {
        self.0.degraded(out);
    }
}

/// Ends with its owner.
pub struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows the file of the settings on the present runtime. From here on SIGHUP does not end the process, be
/// there a file or not.
pub fn follow<T: Target>(settings: &Settings, target: Arc<T>) -> Result<Following> {
    let hangup = signal(SignalKind::hangup())?;
    let follower = Follower {
        started: settings.config.clone(),
        in_force: Some(settings.text_hash),
        target,
    };
    let path = settings.file.clone();
    Ok(Following(tokio::spawn(follower.run(path, hangup))))
}

struct Follower<T> {
    /// What the process was made with.
    started: Config,
    /// The text that was tried last, unless trying it once more makes sense.
    in_force: Option<u64>,
    target: Arc<T>,
}

/// Where two looks differ, something was written, or the name leads to another file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    written: Option<SystemTime>,
    length: u64,
    file: (u64, u64),
}

impl Look {
    /// Through symbolic links: a mounted secret or config map is swapped by one. None: it is not there.
    async fn at(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).await.ok()?;
        Some(Self {
            written: found.modified().ok(),
            length: found.len(),
            file: (found.dev(), found.ino()),
        })
    }
}

impl<T: Target> Follower<T> {
    async fn run(mut self, path: Option<PathBuf>, mut hangup: Signal) {
        let Some(path) = path else {
            while hangup.recv().await.is_some() {
                tracing::warn!("SIGHUP: there is no configuration file to read again");
            }
            return;
        };
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = None;
        let mut done = None;
        loop {
            let asked = tokio::select! {
                _ = looks.tick() => false,
                _ = hangup.recv() => true,
            };
            let look = Some(Look::at(&path).await);
            // While it is being written it looks different each time.
            let settled = look == last && look != done;
            last.clone_from(&look);
            if !(asked || settled) {
                continue;
            }
            done = if self.take(&path, asked).await {
                look
            } else {
                None
            };
        }
    }

    /// Takes the file as it is now. `false`: to be tried again soon.
    async fn take(&mut self, path: &Path, asked: bool) -> bool {
        let shown = path.display();
        let text = match fs::read_to_string(path).await {
            Ok(text) => text,
            Err(error) => {
                self.in_force = None;
                self.refuse(&format!("cannot read {shown}: {error}"));
                return true;
            }
        };
        let hash = settings::hash(&text);
        if self.in_force == Some(hash) && !asked {
            return true;
        }
        if text.trim().is_empty() {
            self.in_force = None;
            self.refuse(&format!("{shown} is empty"));
            return true;
        }
        match self.target.reload(settings::source_of(path, text)).await {
            Ok((config, warnings)) => {
                self.in_force = Some(hash);
                tracing::info!("{shown} was read again: it is in force for calls that begin now");
                for warning in config::summary(&warnings) {
                    tracing::warn!("{warning}");
                }
                for name in config::at_next_start(&self.started, &config) {
                    tracing::warn!("{name}: the change takes effect at the next start");
                }
                true
            }
            Err(ReloadError::File(why)) => {
                self.in_force = Some(hash);
                self.refuse(&why);
                true
            }
            Err(ReloadError::Now(error)) => {
                let why = format!("{shown} is not in force yet: {error}");
                let told = self.target.standing().status().problem;
                if told.as_ref() != Some(&why) {
                    self.refuse(&why);
                }
                self.in_force = None;
                false
            }
        }
    }

    fn refuse(&self, why: &str) {
        tracing::error!("the configuration stays as it was: {why}");
        self.target.standing().failed(why);
    }
}

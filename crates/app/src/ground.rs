//! What every process that takes calls stands on: its journal, the log, the projections made from it, and
//! the gateway over them. `up` and the role `ingress` differ in whose tables they use and in whether the
//! lanes run beside.

use std::sync::Arc;
use std::time::Duration;

use analytics::Store;
use anyhow::{Result, ensure};
use billing_consumer::{Billing, Watch};
use config::{Config, Source};
use ingress::directory::{Directory, Quota};
use ingress::follow::Follow;
use ingress::{Abandoned, Beside, Gateway, clock};
use journal::Journal;
use schemas::{Identity, Topic};
use tokio::task::JoinHandle;

use crate::cache::{self, Answers};
use crate::catalog;
use crate::master_key::{self, MasterKey};
use crate::observe::{Lanes, Relayed};
use crate::parts::budgets::{self, Budgets};
use crate::parts::log::{self, Log};
use crate::settings::Settings;

/// How long a start waits for what the log holds.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);
/// The same where the log is elsewhere: then a process goes on with what it has, or listens and is not ready.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// How long a start may take to end the calls of the last run in the budgets.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(5);
/// Between attempts to bring what the file states onto a log that is out of reach.
const SEED_AGAIN: Duration = Duration::from_secs(2);

/// Opened in this order: the journal's lock tells first whether another process works here.
pub struct Ground {
    pub config: Arc<Config>,
    source: Arc<Source>,
    pub journal: Journal,
    pub log: Log,
    pub key: MasterKey,
    pub answers: Option<Arc<Answers>>,
    pub budgets: Budgets,
    /// From the journal to the log, where that is elsewhere.
    relay: Option<Arc<Relayed>>,
    keys: Follow<Arc<Directory>>,
    prices: catalog::Followed,
    partitions: u16,
    seeding: Option<Seeding>,
}

/// Ends with the process, or before.
struct Seeding(JoinHandle<()>);

impl Drop for Seeding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Ground {
    /// Opens everything, and closes the calls that the last run left open.
    pub async fn open(settings: &Settings) -> Result<Self> {
        let Settings {
            config, data_dir, ..
        } = settings;
        let journal = log::journal(settings)?;
        let log = Log::of_ingress(settings, &journal)?;
        let key = master_key::load(config.server.master_key.as_ref(), data_dir)?;
        let abandoned = ingress::recover(&journal, clock::now()).await?;
        let directory = Arc::new(directory(&config.budgets)?);
        let kept = Some(log.snapshot("config"));
        let name = format!("{:016x}", journal.source_id().0);
        let budgets = budgets::open(config, name, Some(written(&journal))).await?;
        give_back(&budgets, &abandoned).await;
        Ok(Self {
            config: Arc::new(config.clone()),
            source: settings.source.clone(),
            keys: Follow::start(log.config.clone(), directory, kept),
            prices: catalog::follow(log.catalog.clone(), Some(log.snapshot("catalog"))),
            answers: cache::open(config, data_dir).await?,
            budgets,
            relay: log
                .relay(&journal)?
                .map(|relay| Arc::new(Relayed::new(relay))),
            partitions: log::partitions(settings),
            seeding: None,
            journal,
            log,
            key,
        })
    }

    /// The lanes that run beside: the budget lane where budget state is ours or `store` is, the store lane
    /// where `store` is ours to fill.
    pub fn start_billing(&self, store: Option<Store>) -> Billing {
        billing_consumer::start(
            self.log.lanes(self.budgets.are_shared()),
            billing_consumer::Parts {
                log: self.log.events.clone(),
                dead_letters: self.log.dead_letters.clone(),
                audit: self.log.audit.clone(),
                catalog: self.prices.catalog.clone(),
                budgets: Some(self.budgets.state.clone()),
                store,
            },
        )
    }

    /// The gateway. `store` answers questions about spend; `lanes` run beside it.
    pub fn gateway(&self, store: Option<Store>, lanes: Option<Watch>) -> Result<Arc<Gateway>> {
        let mut beside: Vec<Arc<dyn Beside>> = Vec::new();
        if let Some(watch) = lanes {
            beside.push(Arc::new(Lanes {
                watch,
                alone: false,
            }));
        }
        if let Some(relay) = &self.relay {
            beside.push(relay.clone());
        }
        let answers = self
            .answers
            .clone()
            .map(|cache| cache as Arc<dyn ingress::SemanticCache>);
        Ok(Arc::new(Gateway::new(ingress::Parts {
            source: self.source.clone(),
            config: self.config.clone(),
            directory: Arc::clone(self.keys.projection()),
            journal: self.journal.clone(),
            partitions: self.partitions,
            config_log: self.log.config.clone(),
            config_follow: self.keys.watch(),
            catalog: self.prices.catalog.clone(),
            catalog_follow: Some(self.prices.watch()),
            prices: Some(self.prices.book()),
            budgets: self.budgets.state.clone(),
            store,
            cache: answers,
            beside,
            master_key: self.key.hash,
        })?))
    }

    /// Puts the file's prices and keys onto the log, where they are not there. A log that is out of reach
    /// gets them when it comes back.
    pub async fn seed(&mut self, gateway: &Arc<Gateway>) -> Result<()> {
        let (book, of_file) = (
            self.prices.book(),
            ingress::reload::fits(&self.config).map_err(anyhow::Error::msg)?,
        );
        let (gateway, config) = (gateway.clone(), self.config.clone());
        let (keys, catalog) = (self.keys.watch(), self.prices.watch());
        let mut seeding = tokio::spawn(async move {
            loop {
                let known =
                    keys.caught_up(KNOWN_WITHIN).await && catalog.caught_up(KNOWN_WITHIN).await;
                if !known {
                    continue;
                }
                let seeded = match book.seed(&of_file, "start").await {
                    Ok(_) => {
                        ingress::management::seed(&gateway, &config.seed_keys, clock::now()).await
                    }
                    Err(error) => Err(error),
                };
                match seeded {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!("what the file states is not on the log yet: {error}");
                        tokio::time::sleep(SEED_AGAIN).await;
                    }
                }
            }
        });
        // Where the log is elsewhere and not to be had, calls are served by what is known, or refused.
        let (keys, catalog) = (self.keys.watch(), self.prices.watch());
        let patience = if self.log.is_elsewhere() {
            HEARD_WITHIN
        } else {
            KNOWN_WITHIN
        };
        let known = tokio::select! {
            done = &mut seeding => done.is_ok(),
            () = keys.troubled(), if self.log.is_elsewhere() => false,
            () = catalog.troubled(), if self.log.is_elsewhere() => false,
            () = tokio::time::sleep(patience) => false,
        };
        ensure!(
            known || self.log.is_elsewhere(),
            "the logs of keys and prices cannot be read: see above"
        );
        self.seeding = Some(Seeding(seeding));
        Ok(())
    }

    /// Brings the events of the last calls to the log. What does not get there stays in the journal, for the
    /// next start.
    pub async fn relay_rest(&self, deadline: Duration) {
        let relay = self.relay.as_ref().and_then(|relay| relay.take());
        if let Some(relay) = relay
            && !relay.drain(deadline).await.complete
        {
            tracing::warn!("some events are not on the log yet; the journal keeps them");
        }
    }

    /// Ends what runs beside the calls, in the order in which events flow. Nothing is appended any more.
    pub async fn close(self) -> Result<()> {
        drop(self.seeding);
        self.keys.stop().await;
        self.prices.stop().await;
        self.log.close().await;
        self.budgets.leave().await;
        if let Some(answers) = &self.answers {
            answers.drain().await;
        }
        Ok(self.journal.sync()?)
    }
}

/// Ends the calls of the last run where they are counted, so that what they took besides money (a place among
/// those in parallel) is free again. Where that cannot be done now, it ends with the time of its hold.
async fn give_back(budgets: &Budgets, abandoned: &[Abandoned]) {
    let finish = async {
        for call in abandoned {
            let state = &budgets.state;
            state
                .finish(
                    call.hold,
                    call.amount,
                    call.tokens,
                    clock::now(),
                    Some(call.event),
                )
                .await;
        }
    };
    if tokio::time::timeout(GIVE_BACK_WITHIN, finish)
        .await
        .is_err()
    {
        tracing::warn!("budgets hold calls of the last run until their time is over");
    }
}

/// The last usage event of each partition.
fn written(journal: &Journal) -> Vec<Identity> {
    let source_id = journal.source_id();
    let last = journal.last().into_iter();
    let usage = last.filter(|((topic, _), _)| *topic == Topic::Usage);
    let identity = |((_, partition), pseq)| Identity {
        source_id,
        partition,
        pseq,
    };
    usage.map(identity).collect()
}

/// The key table, empty.
fn directory(budgets: &config::Budgets) -> Result<Directory> {
    // Checked when the file was read.
    let zone = budgets.timezone.parse()?;
    Ok(Directory::new(zone, Quota::global(budgets)))
}

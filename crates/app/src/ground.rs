//! What every serving process stands on: its logs, the projections made from them, and the gateway over
//! both. `up` and the role `ingress` differ only in whose tables they use.

use std::sync::Arc;

use analytics::Store;
use anyhow::Result;
use arc_swap::ArcSwap;
use billing_consumer::Billing;
use budgets::Memory;
use config::Config;
use ingress::directory::Directory;
use ingress::{Gateway, clock};
use metering::Catalog;

use crate::cache::Answers;
use crate::master_key::{self, MasterKey};
use crate::settings::Settings;
use crate::stores::{self, Logs};
use crate::{cache, catalog};

/// Opened in this order: the logs' locks tell first whether another process works here.
pub struct Ground {
    pub config: Arc<Config>,
    pub logs: Logs,
    pub key: MasterKey,
    pub answers: Option<Arc<Answers>>,
    /// Keeps the lock of the price catalog.
    _prices: catalog::Log,
    catalog: Arc<ArcSwap<Catalog>>,
    budgets: Arc<Memory>,
}

impl Ground {
    /// Opens everything, and closes the calls that the last run left open. The key table is handed on to the
    /// gateway, its only owner.
    pub async fn open(settings: &Settings) -> Result<(Self, Directory)> {
        let Settings {
            config, data_dir, ..
        } = settings;
        let logs = Logs::open(&config.journal, data_dir)?;
        let prices = catalog::open(data_dir)?.seed(&config.models, clock::now())?;
        let key = master_key::load(config.server.master_key.as_ref(), data_dir)?;
        let directory = stores::directory(&logs.config, &config.budgets)?;
        let abandoned = ingress::recover(&logs.journal, clock::now()).await?;
        if abandoned > 0 {
            tracing::warn!(
                calls = abandoned,
                "calls that were open when the last run ended are billed as abandoned"
            );
        }
        let ground = Self {
            config: Arc::new(config.clone()),
            logs,
            key,
            answers: cache::open(config, data_dir).await?,
            catalog: Arc::new(ArcSwap::from_pointee(prices.catalog.clone())),
            _prices: prices,
            budgets: Arc::new(Memory::new()),
        };
        Ok((ground, directory))
    }

    /// The lanes: the budget lane always, since budget state is here; the store lane where `store` is ours
    /// to fill.
    pub fn start_billing(&self, store: Option<Store>) -> Billing {
        billing_consumer::start(
            billing_consumer::Settings::default(),
            billing_consumer::Parts {
                log: Arc::new(self.logs.journal.clone()),
                dead_letters: Arc::new(self.logs.dead_letters.clone()),
                catalog: self.catalog.clone(),
                budgets: Some(self.budgets.clone()),
                store,
            },
        )
    }

    /// The gateway, with the keys of the file in force. `store` answers questions about spend.
    pub async fn gateway(
        &self,
        directory: Directory,
        store: Option<Store>,
    ) -> Result<Arc<Gateway>> {
        let answers = self
            .answers
            .clone()
            .map(|cache| cache as Arc<dyn ingress::SemanticCache>);
        let gateway = Gateway::new(ingress::Parts {
            config: self.config.clone(),
            directory,
            journal: self.logs.journal.clone(),
            partitions: stores::PARTITIONS,
            config_log: self.logs.config.clone(),
            catalog: self.catalog.clone(),
            budgets: self.budgets.clone(),
            store,
            cache: answers,
            master_key: self.key.hash,
        })?;
        ingress::management::seed(&gateway, &self.config.seed_keys, clock::now()).await?;
        Ok(Arc::new(gateway))
    }
}

//! `tollgate up`: every role in one process, on embedded stores. Read it as the order in which a gateway
//! comes up, and goes down.

use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use ingress::clock;

use crate::cli::RoleFlags;
use crate::instance::Running;
use crate::roles::{self, DRAIN, LANES_DRAIN};
use crate::settings::{self, Settings};
use crate::stores::{self, Logs};
use crate::{banner, cache, catalog, engine, housekeeping, master_key};

pub fn run(flags: &RoleFlags) -> Result<()> {
    let settings = settings::load(flags)?;
    roles::block_on(up(settings))
}

async fn up(settings: Settings) -> Result<()> {
    let Settings {
        config,
        data_dir,
        listen,
        ..
    } = &settings;
    let config = Arc::new(config.clone());
    // The logs first: their locks tell whether another process works here.
    let logs = Logs::open(&config.journal, data_dir)?;
    let prices = catalog::open(data_dir)?.seed(&config.models, clock::now())?;
    let catalog = Arc::new(ArcSwap::from_pointee(prices.catalog.clone()));
    let key = master_key::load(config.server.master_key.as_ref(), data_dir)?;
    let directory = stores::directory(&logs.config, &config.budgets)?;

    let tables = engine::start(&settings).await?;
    let abandoned = ingress::recover(&logs.journal, clock::now()).await?;
    if abandoned > 0 {
        tracing::warn!(
            calls = abandoned,
            "calls that were open when the last run ended are billed as abandoned"
        );
    }
    let budgets = Arc::new(budgets::Memory::new());
    let billing = billing_consumer::start(
        billing_consumer::Settings::default(),
        billing_consumer::Parts {
            log: Arc::new(logs.journal.clone()),
            dead_letters: Arc::new(logs.dead_letters.clone()),
            catalog: catalog.clone(),
            budgets: Some(budgets.clone()),
            store: Some(tables.store.clone()),
        },
    );
    let answers = cache::open(&config.cache, data_dir).await?;
    let gateway = Arc::new(ingress::Gateway::new(ingress::Parts {
        config: config.clone(),
        directory,
        journal: logs.journal.clone(),
        partitions: stores::PARTITIONS,
        config_log: logs.config.clone(),
        catalog,
        budgets: budgets.clone(),
        store: Some(tables.store.clone()),
        cache: answers
            .clone()
            .map(|cache| cache as Arc<dyn ingress::SemanticCache>),
        master_key: key.hash,
    })?);
    ingress::management::seed(&gateway, &config.seed_keys, clock::now()).await?;
    let upkeep = housekeeping::start(gateway.clone(), billing.watch());
    let serving = ingress::start(gateway, *listen, roles::serving_threads())?;
    let running = Running {
        pid: std::process::id(),
        url: format!("http://{}", serving.address()),
        clickhouse: tables.url.clone(),
    };
    running.announce(data_dir)?;
    banner::show(&running, &key, &config, data_dir)?;

    roles::asked_to_stop().await?;
    // In the order in which events flow: what the ingress appends last, billing still has to read.
    serving.drain(DRAIN).await;
    billing
        .drain(LANES_DRAIN)
        .await
        .context("some events are not in the tables yet; the next start brings them")?;
    upkeep.stop().await;
    if let Some(answers) = answers {
        answers.drain().await;
    }
    tables.stop().await;
    logs.journal.sync()?;
    Ok(())
}

//! `tollgate up`: every role in one process, on embedded stores. Read it as the order in which a gateway
//! comes up, and goes down.

use anyhow::{Context, Result};

use crate::cli::RoleFlags;
use crate::ground::Ground;
use crate::instance::Running;
use crate::roles::{self, DRAIN, LANES_DRAIN};
use crate::settings::{self, Settings};
use crate::{banner, engine, housekeeping};

pub fn run(flags: &RoleFlags) -> Result<()> {
    let settings = settings::load(flags)?;
    roles::block_on(up(settings))
}

async fn up(settings: Settings) -> Result<()> {
    let (ground, directory) = Ground::open(&settings).await?;
    let tables = engine::start(&settings).await?;
    let billing = ground.start_billing(Some(tables.store.clone()));
    let gateway = ground
        .gateway(directory, Some(tables.store.clone()))
        .await?;
    let upkeep = housekeeping::start(gateway.clone(), billing.watch());
    let serving = ingress::start(gateway, settings.listen, roles::serving_threads())?;
    let running = Running {
        pid: std::process::id(),
        url: format!("http://{}", serving.address()),
        clickhouse: tables.url.clone(),
    };
    running.announce(&settings.data_dir)?;
    banner::show(&running, &ground.key, &ground.config, &settings.data_dir)?;

    roles::asked_to_stop().await?;
    // In the order in which events flow: what the ingress appends last, billing still has to read.
    serving.drain(DRAIN).await;
    billing
        .drain(LANES_DRAIN)
        .await
        .context("some events are not in the tables yet; the next start brings them")?;
    upkeep.stop().await;
    if let Some(answers) = &ground.answers {
        answers.drain().await;
    }
    tables.stop().await;
    Ok(ground.logs.journal.sync()?)
}

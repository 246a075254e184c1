//! `tollgate up`: every role in one process, each part embedded unless the configuration names one. Read it
//! as the order in which a gateway comes up, and goes down.

use anyhow::Result;

use crate::cli::RoleFlags;
use crate::ground::Ground;
use crate::instance::Running;
use crate::parts::{log, tables};
use crate::roles;
use crate::serving::Serving;
use crate::settings::{self, Settings};
use crate::{banner, stopping};

pub fn run(flags: &RoleFlags) -> Result<()> {
    let settings = settings::load(flags)?;
    roles::block_on(up(settings))
}

async fn up(settings: Settings) -> Result<()> {
    stopping::mind_the_start()?;
    let topics = match &settings.config.kafka {
        Some(kafka) => log::make_topics(kafka).await?,
        None => None,
    };
    let ground = Ground::open(&settings).await?;
    let tables = tables::start(&settings).await?;
    let lanes = ground.start_billing(Some(tables.store.clone()));
    let store = Some(tables.store.clone());
    let serving = Serving::start(ground, &settings, store, Some(lanes)).await?;
    let running = Running::of(serving.address(), &tables.url);
    running.announce(&settings.data_dir)?;
    let ground = serving.ground();
    banner::show(&running, &ground.key, &ground.config, &settings.data_dir)?;

    stopping::asked_to_stop().await?;
    let drained = serving.drain().await;
    if let Some(topics) = topics {
        topics.abort();
    }
    tables.stop().await;
    drained
}

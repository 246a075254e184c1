//! One role in a process of its own. Without Kafka and Redis the seams between them are local: the log is
//! the ingress' journal, which `billing` reads beside it, and budget state stays with the ingress.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::RoleFlags;
use crate::ground::Ground;
use crate::instance::Running;
use crate::settings::{self, Settings};
use crate::{cache, catalog, engine, housekeeping, stores};

/// Calls in progress have this long to end once a stop is asked for.
pub const DRAIN: Duration = Duration::from_secs(20);
/// And their events this long to reach the tables.
pub const LANES_DRAIN: Duration = Duration::from_secs(20);

/// The proxy with its budget state; the tables are somebody else's.
pub fn ingress(flags: &RoleFlags) -> Result<()> {
    let settings = settings::load(flags)?;
    block_on(async {
        let (ground, directory) = Ground::open(&settings).await?;
        let tables = &ground.config.clickhouse;
        let store = tables
            .url
            .as_ref()
            .map(|_| engine::server(tables))
            .transpose()?;
        let billing = ground.start_billing(None);
        let gateway = ground.gateway(directory, store).await?;
        let upkeep = housekeeping::start(gateway.clone(), billing.watch());
        let serving = ingress::start(gateway, settings.listen, serving_threads())?;
        let url = format!("http://{}", serving.address());
        tracing::info!("serving on {url}");
        let clickhouse = tables.url.clone().unwrap_or_default();
        Running {
            pid: std::process::id(),
            url,
            clickhouse,
        }
        .announce(&settings.data_dir)?;

        asked_to_stop().await?;
        serving.drain(DRAIN).await;
        billing.drain(LANES_DRAIN).await?;
        upkeep.stop().await;
        if let Some(answers) = &ground.answers {
            answers.drain().await;
        }
        Ok(ground.logs.journal.sync()?)
    })
}

/// The store lane over the journal of an ingress on this machine.
pub fn billing(flags: &RoleFlags) -> Result<()> {
    let settings = settings::load(flags)?;
    block_on(async {
        let Settings {
            config, data_dir, ..
        } = &settings;
        if config.clickhouse.url.is_none() {
            bail!(
                "tollgate.clickhouse.url: a billing process of its own needs it (`tollgate clickhouse` serves one)"
            );
        }
        let store = engine::server(&config.clickhouse)?;
        store.migrate().await?;
        let catalog = catalog::follow(data_dir).await?;
        let log = journal::Follower::new(&data_dir.join("journal"));
        let (dead_letters, _) =
            journal::Journal::open(&data_dir.join("dlq-billing"), stores::small_log())?;
        let billing = billing_consumer::start(
            billing_consumer::Settings::default(),
            billing_consumer::Parts {
                log: Arc::new(log),
                dead_letters: Arc::new(dead_letters),
                catalog,
                budgets: None,
                store: Some(store),
            },
        );
        asked_to_stop().await?;
        Ok(billing.drain(LANES_DRAIN).await?)
    })
}

/// The answer cache over HTTP.
pub fn cache(flags: &RoleFlags) -> Result<()> {
    let settings = settings::load(flags)?;
    block_on(async {
        let service = cache::service(&settings.config, &settings.data_dir).await?;
        let listener = tokio::net::TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("cannot listen on {}", settings.listen))?;
        tracing::info!("answer cache on http://{}", settings.listen);
        let service = Arc::new(service);
        let token = settings
            .config
            .cache
            .token
            .as_ref()
            .map(|token| token.expose().to_owned());
        let stop = async { drop(asked_to_stop().await) };
        cache_service::api::serve(listener, service.clone(), token, stop).await?;
        service.drain().await;
        Ok(())
    })
}

/// The embedded engine, as the child of `up` or on its own.
pub fn clickhouse(flags: &RoleFlags) -> Result<()> {
    let settings = settings::load(flags)?;
    block_on(engine::serve(&settings))
}

/// Runs a role to its end.
pub fn block_on<F: Future<Output = Result<()>>>(role: F) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(role)
}

/// A serving thread for each core.
pub fn serving_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Waits for SIGTERM or Ctrl-C.
pub async fn asked_to_stop() -> Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: no new calls, those in progress go on");
    Ok(())
}

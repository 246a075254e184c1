//! One role in a process of its own. Where the configuration names no part outside, the seams between them
//! are local: the log is the ingress' journal, which `billing` reads beside it, and budget state stays with
//! the ingress.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ingress::Beside;

use crate::cli::RoleFlags;
use crate::ground::Ground;
use crate::instance::Running;
use crate::parts::log::Log;
use crate::parts::{budgets, tables};
use crate::reload::{self, Fixed};
use crate::serving::Serving;
use crate::settings;
use crate::stopping::{self, asked_to_stop};
use crate::{cache, catalog, observe};

/// The proxy; the tables are somebody else's.
pub fn ingress(flags: &RoleFlags) -> Result<()> {
    let settings = settings::load(flags)?;
    block_on(async {
        stopping::mind_the_start()?;
        let ground = Ground::open(&settings).await?;
        let clickhouse = &settings.config.clickhouse;
        let store = clickhouse
            .url
            .as_ref()
            .map(|_| tables::server(clickhouse))
            .transpose()?;
        // Budgets in this process' memory are settled here; shared ones where billing is.
        let lanes = (!ground.budgets.are_shared()).then(|| ground.start_billing(None));
        let serving = Serving::start(ground, &settings, store, lanes).await?;
        let url = clickhouse.url.clone().unwrap_or_default();
        let running = Running::of(serving.address(), &url);
        tracing::info!("serving on {}", running.url);
        running.announce(&settings.data_dir)?;

        asked_to_stop().await?;
        serving.drain().await
    })
}

/// The lanes over the log.
pub fn billing(flags: &RoleFlags) -> Result<()> {
    let settings = settings::load(flags)?;
    block_on(async {
        stopping::mind_the_start()?;
        let config = &settings.config;
        if config.clickhouse.url.is_none() {
            bail!(
                "tollgate.clickhouse.url: a billing process of its own needs it (`tollgate clickhouse` serves one)"
            );
        }
        // The store lane makes the tables as soon as they can be reached.
        let store = tables::server(&config.clickhouse)?;
        let log = Log::of_billing(&settings)?;
        let budgets = budgets::open(config, String::new(), None).await?;
        let prices = catalog::follow(log.catalog.clone(), Some(log.snapshot("catalog")));
        let billing = billing_consumer::start(
            log.lanes(budgets.are_shared()),
            billing_consumer::Parts {
                log: log.events.clone(),
                dead_letters: log.dead_letters.clone(),
                audit: log.audit.clone(),
                catalog: prices.catalog.clone(),
                // Budgets in memory are settled where they are.
                budgets: budgets.are_shared().then(|| budgets.state.clone()),
                store: Some(store),
            },
        );
        let file = Arc::new(Fixed::default());
        let _following = reload::follow(&settings, file.clone())?;
        let mut parts: Vec<Arc<dyn Beside>> = vec![
            file,
            Arc::new(observe::Lanes {
                watch: billing.watch(),
                alone: true,
            }),
            Arc::new(observe::Followed {
                name: "catalog",
                watch: prices.watch(),
            }),
        ];
        if let Some(broker) = log.broker() {
            parts.push(Arc::new(observe::Strays(broker.clone())));
        }
        let told = observe::serve(settings.listen, parts).await?;
        asked_to_stop().await?;
        told.begin_drain();
        let drained = billing.drain(config.drain.deadline).await;
        prices.stop().await;
        log.close().await;
        Ok(drained?)
    })
}

/// The answer cache over HTTP.
pub fn cache(flags: &RoleFlags) -> Result<()> {
    let settings = settings::load(flags)?;
    block_on(async {
        stopping::mind_the_start()?;
        let service = cache::service(&settings.config, &settings.data_dir).await?;
        let listener = tokio::net::TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("cannot listen on {}", settings.listen))?;
        tracing::info!("answer cache on http://{}", settings.listen);
        let service = Arc::new(service);
        let _following = reload::follow(&settings, Arc::new(Fixed::default()))?;
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
    let mut settings = settings::load(flags)?;
    // On its own it has one port, and its name is that of every role.
    if let (Some(port), None) = (flags.port, flags.clickhouse_port) {
        settings.clickhouse.set_port(port);
    }
    if let Some(host) = flags.host {
        settings.clickhouse.set_ip(host);
    }
    block_on(async {
        let _following = reload::follow(&settings, Arc::new(Fixed::default()))?;
        tables::serve(&settings).await
    })
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

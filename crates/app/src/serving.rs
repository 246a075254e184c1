//! A gateway that takes calls, with what runs beside it; and how all of it ends, in the order in which
//! events flow.

use std::net::SocketAddr;
use std::sync::Arc;

use analytics::Store;
use anyhow::{Context, Result};
use billing_consumer::Billing;
use ingress::Gateway;
use tokio::task::JoinHandle;

use crate::alerting::{self, Desk};
use crate::ground::Ground;
use crate::housekeeping::{self, Upkeep};
use crate::reload::{self, Following};
use crate::settings::Settings;
use crate::stopping;

/// The running gateway.
pub struct Serving {
    ground: Ground,
    gateway: Arc<Gateway>,
    lanes: Option<Billing>,
    upkeep: Upkeep,
    alerts: Option<Desk>,
    models: JoinHandle<()>,
    file: Following,
    calls: ingress::Running,
}

impl Serving {
    /// Takes calls from here on. `store` answers questions about spend; `lanes` run beside.
    pub async fn start(
        mut ground: Ground,
        settings: &Settings,
        store: Option<Store>,
        lanes: Option<Billing>,
    ) -> Result<Self> {
        let watch = lanes.as_ref().map(Billing::watch);
        let gateway = ground.gateway(store, watch.clone())?;
        ground.seed(&gateway).await?;
        let alerts = alerting::start(&gateway)?;
        // Before the first call: the models of the log as they are known now, then as they change.
        gateway.refresh().await?;
        let models = tokio::spawn(Gateway::follow_models(Arc::downgrade(&gateway)));
        let upkeep = housekeeping::start(gateway.clone(), watch);
        let calls = ingress::start(gateway.clone(), settings.listen, serving_threads())?;
        Ok(Self {
            ground,
            lanes,
            upkeep,
            alerts,
            models,
            file: reload::follow(settings, gateway.clone())?,
            gateway,
            calls,
        })
    }

    pub const fn address(&self) -> SocketAddr {
        self.calls.address()
    }

    pub const fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Ends it: calls, then their events on the way to the log, to the budgets and to the tables.
    pub async fn drain(self) -> Result<()> {
        drop(self.file);
        self.models.abort();
        let drain = self.gateway.config().drain.clone();
        self.gateway.begin_drain();
        stopping::lame_duck(drain.lame_duck).await;
        self.calls.drain(drain.deadline).await;
        self.upkeep.stop().await;
        if let Some(alerts) = self.alerts {
            alerts.close().await;
        }
        self.ground.journal.sync()?;
        self.ground.relay_rest(drain.deadline).await;
        let lanes = match self.lanes {
            Some(lanes) => lanes
                .drain(drain.deadline)
                .await
                .context("some events are not billed yet; the next start brings them"),
            None => Ok(()),
        };
        // Whatever the lanes came to, what is known is kept.
        self.ground.close().await.and(lanes)
    }
}

/// A serving thread for each core.
fn serving_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

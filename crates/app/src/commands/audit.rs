//! `tollgate audit`: whether every event is where it belongs, once, and every sum is the same everywhere.
//! Ends with an error when one event or one nano-dollar is off.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use analytics::Store;
use anyhow::{Context, Result, bail};
use billing_consumer::audit::{Auditor, Parts};
use journal::{EventLog, Follower};

use super::block_on;
use crate::cli::AuditFlags;
use crate::instance::Running;
use crate::parts::{budgets, log, tables};
use crate::settings::{self, Settings};

pub fn run(flags: &AuditFlags) -> Result<()> {
    let settings = settings::of_command(flags.config.as_deref(), flags.data_dir.as_deref())?;
    let clean = block_on(async {
        let (audit, dead_letters) = logs(&settings)?;
        let budgets = budgets::open(&settings.config, String::new(), None).await?;
        let parts = Parts {
            audit,
            dead_letters,
            store: store(&settings)?,
            budgets: budgets.are_shared().then(|| budgets.state.clone()),
        };
        let auditor = Auditor::begin(parts).await?;
        let report = auditor.run(Duration::from_secs(flags.wait)).await?;
        budgets.leave().await;
        write!(std::io::stdout(), "{report}")?;
        Ok(report.is_clean())
    })?;
    if !clean {
        bail!("the audit has failed: nothing was changed");
    }
    Ok(())
}

/// Logs with the audit topic, and logs of dead letters.
pub(super) type Logs = (Vec<Arc<dyn EventLog>>, Vec<Arc<dyn EventLog>>);

pub(super) fn logs(settings: &Settings) -> Result<Logs> {
    if let Some(kafka) = &settings.config.kafka {
        let broker = kafka::Log::new(log::broker(kafka)).context("tollgate.kafka")?;
        let broker: Arc<dyn EventLog> = Arc::new(broker);
        return Ok((vec![broker.clone()], vec![broker]));
    }
    let dir = &settings.data_dir;
    let journal = dir.join("journal");
    if !journal.is_dir() {
        bail!(
            "there is no journal in {}: name the data directory with --data-dir",
            dir.display()
        );
    }
    let follow = |path: &Path| -> Arc<dyn EventLog> { Arc::new(Follower::new(path)) };
    let letters: Vec<PathBuf> = ["dlq", "dlq-billing"].map(|name| dir.join(name)).into();
    let letters = letters.iter().filter(|path| path.is_dir());
    Ok((
        vec![follow(&journal)],
        letters.map(|path| follow(path)).collect(),
    ))
}

/// The tables, as their owner: an analyst does not see the lanes' marks.
pub(super) fn store(settings: &Settings) -> Result<Store> {
    if settings.config.clickhouse.url.is_some() {
        return tables::server(&settings.config.clickhouse);
    }
    let running = Running::find(&settings.data_dir)?;
    tables::owner(&running.clickhouse, &settings.data_dir)
}

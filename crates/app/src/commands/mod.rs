//! What can be asked of a gateway from the command line, a file each.

pub mod audit;
pub mod config;
pub mod dlq;
pub mod gap;
mod lanes;
pub mod prices;
pub mod spend;
pub mod sql;
pub mod topics;

use analytics::Store;
use anyhow::{Context, Result};

use crate::cli::Instance;
use crate::instance::Running;
use crate::parts::tables;
use crate::settings;

/// The usage tables: those of a running gateway, as the read-only analyst, or those of the server that the
/// configuration names, as the login it gives.
fn store(instance: &Instance) -> Result<Store> {
    if let Some(path) = &instance.config {
        let clickhouse = settings::read(path)?.config.clickhouse;
        if clickhouse.url.is_some() {
            return tables::server(&clickhouse);
        }
    }
    let running = Running::find(&instance.data_dir)?;
    let path = instance.data_dir.join("analyst.password");
    let password = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Store::connect(
        &running.clickhouse,
        "analyst",
        password.trim(),
    ))
}

/// Runs one command to its end.
fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

/// What an unreachable store means to someone at a terminal.
fn explain(error: analytics::Error) -> anyhow::Error {
    let gone = matches!(error, analytics::Error::Unreachable { .. });
    let error = anyhow::Error::from(error);
    if gone {
        error.context(
            "the gateway over this data directory is not running: start it with `tollgate up`",
        )
    } else {
        error
    }
}

//! How a command finds the running gateway: a small file in its data directory.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What is running over a data directory.
#[derive(Debug, Serialize, Deserialize)]
pub struct Running {
    pub pid: u32,
    /// Base URL of the gateway.
    pub url: String,
    /// Base URL of ClickHouse's HTTP interface.
    pub clickhouse: String,
}

const FILE: &str = "running.json";

impl Running {
    /// This process.
    pub fn of(address: SocketAddr, clickhouse: &str) -> Self {
        Self {
            pid: std::process::id(),
            url: format!("http://{address}"),
            clickhouse: clickhouse.to_owned(),
        }
    }

    /// Tells commands where we are.
    pub fn announce(&self, data_dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        let path = data_dir.join(FILE);
        // By rename: a command that looks meanwhile sees the one or the other.
        let part = path.with_extension("part");
        fs::write(&part, text)
            .and_then(|()| fs::rename(&part, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Who announced itself last.
    pub fn find(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| {
            format!("no gateway has run over {} (start one with `tollgate up`, or name its folder with --data-dir)", data_dir.display())
        })?;
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
    }
}

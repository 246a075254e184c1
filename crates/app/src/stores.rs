//! What a role keeps: the logs under the data directory, and the projections made from them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use config::{JournalConfig, SyncMode};
use ingress::directory::{Directory, Quota};
use journal::{Journal, Options, Position, Sync};
use schemas::{ConfigEvent, Event, Topic};

/// Partitions of each topic of the journal: fixed, as on a broker, since a replay must land where the first
/// delivery did.
pub const PARTITIONS: u16 = 64;

/// The logs of one data directory. Each is locked: a second process is refused by name.
pub struct Logs {
    /// Calls: ADMIT, marks, USAGE.
    pub journal: Journal,
    /// Keys, teams, users; never trimmed.
    pub config: Journal,
    /// Events that could not be processed.
    pub dead_letters: Journal,
}

impl Logs {
    pub fn open(settings: &JournalConfig, data_dir: &Path) -> Result<Self> {
        let (journal, recovery) = Journal::open(&data_dir.join("journal"), options(settings)?)?;
        if recovery.cut_bytes > 0 {
            tracing::warn!(
                bytes = recovery.cut_bytes,
                "the journal ended in a torn record, which was never acknowledged: cut"
            );
        }
        let (config, _) = Journal::open(&data_dir.join("config"), small_log())?;
        let (dead_letters, _) = Journal::open(&data_dir.join("dlq"), small_log())?;
        Ok(Self {
            journal,
            config,
            dead_letters,
        })
    }
}

/// A log of few and small records.
pub fn small_log() -> Options {
    Options {
        segment_bytes: 1 << 20,
        partitions: 1,
        ..Options::default()
    }
}

fn options(settings: &JournalConfig) -> Result<Options> {
    Ok(Options {
        sync: match settings.sync {
            SyncMode::Always => Sync::Always,
            SyncMode::Group => Sync::Group,
            SyncMode::Os => Sync::Os,
        },
        segment_bytes: settings
            .segment_bytes
            .try_into()
            .context("tollgate.journal.segment_bytes")?,
        cap_bytes: settings.cap_bytes,
        retention: Some(Duration::from_secs(
            u64::from(settings.retention_days) * 86_400,
        )),
        group_wait: Duration::from_micros(settings.group_wait_us),
        partitions: PARTITIONS,
        ..Options::default()
    })
}

/// The key table: made from the config log, from its start.
pub fn directory(log: &Journal, budgets: &config::Budgets) -> Result<Directory> {
    let zone = budgets
        .timezone
        .parse()
        .context("tollgate.budgets.timezone")?;
    let global = Quota::budget(budgets.global_max_budget, budgets.global_period.as_ref());
    let directory = Directory::new(zone, global);
    for record in log.scan(&[Topic::Config], Position::default())? {
        let record = record?;
        // An event that cannot be read must not lock everybody out: told, and stepped over here only.
        let applied = ConfigEvent::from_body(&record.body)
            .map_err(anyhow::Error::from)
            .and_then(|event| Ok(directory.apply(record.version, &event)?));
        if let Err(error) = applied {
            tracing::error!(event = %record.identity, "config event without effect: {error:#}");
        }
    }
    Ok(directory)
}

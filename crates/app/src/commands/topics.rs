//! `tollgate topics create`: the topics of the log, made where they are missing and checked where not.

use std::io::Write;

use anyhow::{Context, Result};

use super::block_on;
use crate::cli::TopicsCommand;
use crate::parts::log;
use crate::settings;

pub fn run(command: &TopicsCommand) -> Result<()> {
    let TopicsCommand::Create { config } = command;
    let loaded = settings::read(config)?;
    let kafka = loaded
        .config
        .kafka
        .as_ref()
        .context("tollgate.kafka: not set, so there are no topics to make")?;
    let report = block_on(async { Ok(kafka::topics::create(&log::broker(kafka)).await?) })?;
    let mut out = std::io::stdout();
    for name in &report.made {
        writeln!(out, "made     {name}")?;
    }
    for name in &report.present {
        writeln!(out, "present  {name}")?;
    }
    if !report.made.is_empty() && report.replicas < kafka::topics::REPLICAS {
        writeln!(
            out,
            "each event lies on {} of the brokers: one that is lost may take events along. Three brokers, or \
             tollgate.kafka.replication_factor, would keep them",
            report.replicas
        )?;
    }
    Ok(())
}

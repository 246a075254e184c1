//! `tollgate gap`: events that are missing from the log, told, and given up for good where an operator says so.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use billing_consumer::mend::{self, Hole};
use schemas::{Identity, Partition, Pseq, SourceId, Standing};

use super::block_on;
use super::lanes::Lanes;
use crate::cli::{GapCommand, Whose};
use crate::parts::log;
use crate::settings;

pub fn run(command: &GapCommand) -> Result<()> {
    match command {
        GapCommand::List { whose } => list(whose),
        GapCommand::Accept {
            events,
            reason,
            wait,
            whose,
        } => accept(events, reason, Duration::from_secs(*wait), whose),
    }
}

/// The log, and what reads it. A journal without Kafka has no gaps: its reader stops at damage.
async fn open(whose: &Whose) -> Result<(kafka::Log, Lanes, Standing)> {
    let settings = settings::of_command(whose.config.as_deref(), whose.data_dir.as_deref())?;
    let kafka = settings
        .config
        .kafka
        .as_ref()
        .context("tollgate.kafka: not set; name the configuration with --config. A log without Kafka has no gaps")?;
    let log = kafka::Log::new(log::broker(kafka)).context("tollgate.kafka")?;
    let lanes = Lanes::open(&settings).await?;
    let (store, _) = lanes.standings().await?;
    Ok((log, lanes, store.unwrap_or_default()))
}

fn list(whose: &Whose) -> Result<()> {
    block_on(async {
        let (log, _, standing) = open(whose).await?;
        let holes = mend::holes(&log, &standing).await?;
        let mut out = std::io::stdout().lock();
        for hole in &holes {
            let missing = hole.last.0 - hole.first.0 + 1;
            writeln!(
                out,
                "{}  {missing} missing, {} wait behind",
                named(hole),
                hole.waiting
            )?;
        }
        if holes.is_empty() {
            writeln!(out, "nothing is missing")?;
        }
        Ok(())
    })
}

fn accept(names: &[String], reason: &str, wait: Duration, whose: &Whose) -> Result<()> {
    ensure!(!reason.trim().is_empty(), "--reason: say why they are lost");
    let lost: Vec<Hole> = names
        .iter()
        .map(|name| parse(name))
        .collect::<Result<_>>()?;
    block_on(async {
        let (log, lanes, standing) = open(whose).await?;
        for hole in &lost {
            mend::accept(&log, &standing, hole, reason).await?;
            writeln!(std::io::stdout(), "{}  accepted as lost", named(hole))?;
        }
        let ends: Vec<Identity> = lost.iter().map(end).collect();
        if !lanes.have(&ends, wait).await? {
            bail!(
                "the lanes have not gone past them within {} s: see the readiness of the billing processes",
                wait.as_secs()
            );
        }
        writeln!(std::io::stdout(), "both lanes have gone past them")?;
        Ok(())
    })
}

const fn end(hole: &Hole) -> Identity {
    Identity {
        source_id: hole.source,
        partition: hole.partition,
        pseq: hole.last,
    }
}

fn named(hole: &Hole) -> String {
    format!(
        "{:016x}/{}/{}-{}",
        hole.source.0, hole.partition.0, hole.first.0, hole.last.0
    )
}

/// `source/partition/first-last`, or one number.
fn parse(name: &str) -> Result<Hole> {
    let hole = || {
        let mut parts = name.split('/');
        let source = u64::from_str_radix(parts.next()?, 16).ok()?;
        let partition = parts.next()?.parse().ok()?;
        let numbers = parts.next()?;
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let hole = Hole {
            source: SourceId(source),
            partition: Partition(partition),
            first: Pseq(first.parse().ok()?),
            last: Pseq(last.parse().ok()?),
            waiting: 0,
        };
        parts.next().is_none().then_some(hole)
    };
    hole().with_context(|| {
        format!("{name:?} is not source/partition/first-last, as `tollgate gap list` names it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_can_be_accepted() {
        for name in ["00000000000000ab/3/12-14", "ffffffffffffffff/0/1-1"] {
            assert_eq!(named(&parse(name).unwrap()), name);
        }
        assert_eq!(parse("ab/3/12").unwrap().last, Pseq(12));
        for name in ["", "ab/3", "ab/3/x", "ab/3/1-2/4", "zz/1/1"] {
            assert!(parse(name).is_err(), "{name}");
        }
    }
}

//! `tollgate dlq`: the events that could not be processed, with the reasons; `retry` brings them again.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use billing_consumer::dead_letters;
use billing_consumer::mend::{self, Outcome, Retried, Way};
use jiff::Timestamp;
use journal::{EventLog, Follower};
use schemas::{DeadLetter, Identity, Topic};
use serde_json::json;

use super::lanes::Lanes;
use super::{audit, block_on};
use crate::catalog;
use crate::cli::{DlqCommand, DlqFlags, Whose};
use crate::parts::log;
use crate::settings::{self, Settings};

/// How long the present prices may take to be read.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

pub fn run(flags: &DlqFlags) -> Result<()> {
    match &flags.command {
        None => list(&flags.whose, flags.json),
        Some(DlqCommand::Retry {
            events,
            wait,
            whose,
        }) => retry(events, Duration::from_secs(*wait), whose),
    }
}

fn list(whose: &Whose, as_json: bool) -> Result<()> {
    let settings = settings::of_command(whose.config.as_deref(), whose.data_dir.as_deref())?;
    block_on(async {
        let (_, logs) = audit::logs(&settings)?;
        let mut out = std::io::stdout().lock();
        let mut count = 0;
        for log in logs {
            for letter in dead_letters::all(&*log).await? {
                count += 1;
                if as_json {
                    writeln!(out, "{}", object(&letter))?;
                } else {
                    writeln!(out, "{}", line(&letter))?;
                }
            }
        }
        if count == 0 && !as_json {
            writeln!(out, "no dead letters")?;
        }
        Ok(())
    })
}

type Log = Arc<dyn EventLog>;

/// Where events are brought to, how, and the log of prices.
fn way(settings: &Settings) -> Result<(Log, Way, Log)> {
    if let Some(kafka) = &settings.config.kafka {
        let log = kafka::Log::new(log::broker(kafka)).context("tollgate.kafka")?;
        let log: Log = Arc::new(log);
        return Ok((log.clone(), Way::Broker, log));
    }
    let prices = Arc::new(Follower::new(&settings.data_dir.join("catalog")));
    Ok(match log::journal(settings) {
        Ok(journal) => (Arc::new(journal), Way::Journal, prices),
        Err(error) if is_locked(&error) => {
            let beside = Follower::new(&settings.data_dir.join("journal"));
            (Arc::new(beside), Way::Closed, prices)
        }
        Err(error) => return Err(error),
    })
}

fn is_locked(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<journal::Error>();
    matches!(error, Some(journal::Error::Locked { .. }))
}

fn retry(names: &[String], wait: Duration, whose: &Whose) -> Result<()> {
    let settings = settings::of_command(whose.config.as_deref(), whose.data_dir.as_deref())?;
    block_on(async {
        let (_, letters) = audit::logs(&settings)?;
        let (log, way, prices) = way(&settings)?;
        // Over a journal that nobody uses there are no tables.
        let lanes = match way {
            Way::Journal => None,
            Way::Broker | Way::Closed => Some(Lanes::open(&settings).await?),
        };
        let (store_stands, budgets_stand) = match &lanes {
            Some(lanes) => lanes.standings().await?,
            None => (None, None),
        };
        let followed = catalog::follow(prices, None);
        if !followed.watch().caught_up(KNOWN_WITHIN).await {
            let problem = followed.watch().state().problem.unwrap_or_default();
            bail!("the price catalog cannot be read: {problem}");
        }
        let catalog = followed.catalog.load_full();
        let parts = mend::Parts {
            log: &*log,
            dead_letters: &letters,
            way,
            store: lanes.as_ref().map(|lanes| &lanes.store),
            store_stands: store_stands.as_ref(),
            budgets_stand: budgets_stand.as_ref(),
            catalog: &catalog,
        };
        let wanted =
            |event: &Identity| names.is_empty() || names.iter().any(|name| *name == named(event));
        let retried = mend::retry(&parts, wanted).await?;
        followed.stop().await;
        let missing = names.iter().find(|name| {
            !retried
                .iter()
                .any(|retried| named(&retried.event) == **name)
        });
        if let Some(name) = missing {
            bail!("no open dead letter is of event {name}: `tollgate dlq` lists them");
        }
        let sent: Vec<Identity> = retried.iter().filter_map(name_of_sent).collect();
        let brought = match &lanes {
            Some(lanes) => lanes.have(&sent, wait).await?,
            None => false,
        };
        let back = came_back(&letters, &sent).await?;
        tell(&retried, &back, lanes.is_some().then_some(brought))?;
        ensure!(
            brought || lanes.is_none() || sent.is_empty(),
            "the lanes have not brought everything within {} s; doing this again bills nothing twice",
            wait.as_secs()
        );
        Ok(())
    })
}

const fn name_of_sent(retried: &Retried) -> Option<Identity> {
    match retried.outcome {
        Outcome::Sent(name) => Some(name),
        _ => None,
    }
}

/// Letters of what was sent, with their reasons.
async fn came_back(
    letters: &[Arc<dyn EventLog>],
    sent: &[Identity],
) -> Result<Vec<(String, String)>> {
    let mut back = Vec::new();
    if sent.is_empty() {
        return Ok(back);
    }
    for log in letters {
        for letter in dead_letters::all(&**log).await? {
            let name = event(&letter);
            if sent.iter().any(|sent| named(sent) == name) {
                back.push((name, letter.error.to_string()));
            }
        }
    }
    Ok(back)
}

/// A line for each event, and how many there are of each kind.
fn tell(retried: &[Retried], back: &[(String, String)], brought: Option<bool>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let (mut billed, mut bad, mut later) = (0, 0, 0);
    for Retried { event, outcome } in retried {
        let event = named(event);
        let line = match outcome {
            Outcome::Sent(name) => {
                let name = named(name);
                match (back.iter().find(|(of, _)| *of == name), brought) {
                    (Some((_, why)), _) => {
                        bad += 1;
                        format!("came back as {name}: {why}")
                    }
                    (None, Some(true)) => {
                        billed += 1;
                        format!("billed as {name}")
                    }
                    (None, Some(false)) => {
                        later += 1;
                        format!("on the log as {name}, not billed yet")
                    }
                    (None, None) => {
                        later += 1;
                        format!("on the log as {name}: billed when the gateway runs")
                    }
                }
            }
            Outcome::Stored => {
                billed += 1;
                "its rows are in the tables".to_owned()
            }
            Outcome::Billed(name) => format!("was brought before, as {}", named(name)),
            Outcome::Bad(why) => {
                bad += 1;
                format!("is no better: {why}")
            }
            Outcome::Later(why) => {
                later += 1;
                format!("not now: {why}")
            }
            Outcome::Left(why) => format!("left: {why}"),
        };
        writeln!(out, "{event}  {line}")?;
    }
    writeln!(
        out,
        "{billed} billed, {bad} no better, {later} to come, of {}",
        retried.len()
    )?;
    Ok(())
}

/// As the list names an event.
fn named(event: &Identity) -> String {
    format!(
        "{:016x}/{}/{}",
        event.source_id.0, event.partition.0, event.pseq.0
    )
}

fn at(letter: &DeadLetter) -> String {
    Timestamp::from_microsecond(letter.event_time.0)
        .map_or_else(|_| "?".to_owned(), |at| at.to_string())
}

fn topic(letter: &DeadLetter) -> &'static str {
    let known = Topic::ALL
        .into_iter()
        .find(|topic| u32::from(*topic as u8) == letter.topic);
    known.map_or("unknown", Topic::name)
}

/// Source, partition, number; a message that says not whose it is has source 0, and an offset.
fn event(letter: &DeadLetter) -> String {
    format!(
        "{:016x}/{}/{}",
        letter.of_source, letter.of_partition, letter.of_pseq
    )
}

fn line(letter: &DeadLetter) -> String {
    format!(
        "{}  {}  {}  {}  {} bytes  {}",
        at(letter),
        letter.lane,
        topic(letter),
        event(letter),
        letter.original.0.len(),
        letter.error
    )
}

fn object(letter: &DeadLetter) -> serde_json::Value {
    json!({
        "at": at(letter),
        "lane": &*letter.lane,
        "topic": topic(letter),
        "event": event(letter),
        "error": &*letter.error,
        "original_base64": STANDARD.encode(&letter.original.0),
    })
}

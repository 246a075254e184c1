//! `tollgate dlq`: the events that could not be processed, with the reasons. Changes nothing.

use std::io::Write;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use billing_consumer::dead_letters;
use jiff::Timestamp;
use schemas::{DeadLetter, Topic};
use serde_json::json;

use super::{audit, block_on};
use crate::cli::DlqFlags;
use crate::settings;

pub fn run(flags: &DlqFlags) -> Result<()> {
    let settings = settings::of_command(flags.config.as_deref(), flags.data_dir.as_deref())?;
    block_on(async {
        let (_, logs) = audit::logs(&settings)?;
        let mut out = std::io::stdout().lock();
        let mut count = 0;
        for log in logs {
            for letter in dead_letters::all(&*log).await? {
                count += 1;
                if flags.json {
                    writeln!(out, "{}", object(&letter))?;
                } else {
                    writeln!(out, "{}", line(&letter))?;
                }
            }
        }
        if count == 0 && !flags.json {
            writeln!(out, "no dead letters")?;
        }
        Ok(())
    })
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

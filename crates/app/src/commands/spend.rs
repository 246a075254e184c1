//! `tollgate spend --by team`: what was spent, as a table or as JSON lines.

use std::io::Write;

use analytics::{Dimension, Span, SpendRow};
use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use schemas::Micros;
use serde_json::json;

use super::{block_on, explain, store};
use crate::cli::SpendFlags;

pub fn run(flags: &SpendFlags) -> Result<()> {
    let since = flags.since.as_deref().map(instant).transpose()?;
    let store = store(&flags.instance)?;
    block_on(async {
        let span = Span { since, until: None };
        let rows = store.spend(flags.by, span).await.map_err(explain)?;
        let mut out = std::io::stdout().lock();
        if flags.json {
            for row in &rows {
                writeln!(out, "{}", object(flags.by, row))?;
            }
        } else {
            table(&mut out, flags.by, &rows)?;
        }
        Ok(())
    })
}

fn object(by: Dimension, row: &SpendRow) -> serde_json::Value {
    json!({
        by.name(): row.name,
        "alias": row.alias,
        "requests": row.requests,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "spend": row.spend,
        "saved": row.saved,
    })
}

fn table(out: &mut impl Write, by: Dimension, rows: &[SpendRow]) -> Result<()> {
    let names: Vec<String> = rows.iter().map(name).collect();
    let width = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .max(8);
    let head = by.name().to_uppercase();
    writeln!(
        out,
        "{head:<width$}  {:>9}  {:>13}  {:>13}  {:>16}  {:>16}",
        "REQUESTS", "INPUT TOKENS", "OUTPUT TOKENS", "SPEND USD", "SAVED USD"
    )?;
    for (name, row) in names.iter().zip(rows) {
        writeln!(
            out,
            "{name:<width$}  {:>9}  {:>13}  {:>13}  {:>16}  {:>16}",
            row.requests,
            row.input_tokens,
            row.output_tokens,
            row.spend.to_string(),
            row.saved.to_string()
        )?;
    }
    Ok(())
}

/// A person reads the alias, else enough of a hash; calls without one have a dash.
fn name(row: &SpendRow) -> String {
    match (row.alias.as_str(), row.name.as_str()) {
        ("", "") => "-".to_owned(),
        ("", name) if name.len() == 64 => format!("{}…", &name[..12]),
        ("", name) => name.to_owned(),
        (alias, _) => alias.to_owned(),
    }
}

/// A day, an instant, or so long ago.
fn instant(text: &str) -> Result<Micros> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Micros(at.as_microsecond()));
    }
    if let Ok(day) = text.parse::<Date>() {
        return Ok(Micros(
            day.to_zoned(TimeZone::UTC)?.timestamp().as_microsecond(),
        ));
    }
    let ago: SignedDuration = hours(text)
        .map(SignedDuration::from_hours)
        .with_context(|| {
            format!(
                "--since: {text:?} is not a day (2026-11-01), a time, or a span such as 24h, 7d, 4w"
            )
        })?;
    Ok(Micros(Timestamp::now().checked_sub(ago)?.as_microsecond()))
}

fn hours(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let count: i64 = text[..text.len() - unit.len_utf8()]
        .parse()
        .ok()
        .filter(|n| *n > 0)?;
    count.checked_mul(match unit {
        'h' => 1,
        'd' => 24,
        'w' => 168,
        _ => return None,
    })
}

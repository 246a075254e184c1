//! `tollgate spend --by team`: what was spent, as a table or as JSON lines.

use std::io::Write;

use analytics::{Dimension, Span, SpendRow};
use anyhow::{Context, Result};
use ingress::moment::Moment;
use jiff::{SignedDuration, Timestamp};
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

/// A person reads the alias, else enough of a hash; calls without one have a dash. Whoever may call names
/// tags and users: what would move the cursor of a terminal is shown as an escape.
fn name(row: &SpendRow) -> String {
    let plain = match (row.alias.as_str(), row.name.as_str()) {
        ("", "") => "-".to_owned(),
        ("", name) if name.len() == 64 => format!("{}…", &name[..12]),
        ("", name) => name.to_owned(),
        (alias, _) => alias.to_owned(),
    };
    if !plain.contains(char::is_control) {
        return plain;
    }
    let shown = plain.chars().flat_map(|char| {
        let escaped = char.is_control().then(|| char.escape_default());
        let itself = (!char.is_control()).then_some(char);
        escaped.into_iter().flatten().chain(itself)
    });
    shown.collect()
}

/// A day, an instant, or so long ago.
fn instant(text: &str) -> Result<Micros> {
    if let Some(moment) = Moment::read(text) {
        return Ok(moment.begin);
    }
    ago(text, Timestamp::now()).with_context(|| {
        format!(
            "--since: {text:?} is not a day (2026-11-01), a time, or a span such as 24h, 7d, 4w"
        )
    })
}

fn ago(text: &str, now: Timestamp) -> Option<Micros> {
    let seconds = hours(text)?.checked_mul(3_600)?;
    let at = now.checked_sub(SignedDuration::from_secs(seconds)).ok()?;
    Some(Micros(at.as_microsecond()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_said_in_days_times_and_spans() {
        let day = Micros(1_793_491_200_000_000);
        assert_eq!(instant("2026-11-01").unwrap(), day);
        assert_eq!(instant("2026-11-01T10:00").unwrap(), day.plus_secs(36_000));
        assert_eq!(instant("2026-11-01T10:00Z").unwrap(), day.plus_secs(36_000));
        let now = Timestamp::from_microsecond(day.0).unwrap();
        assert_eq!(ago("7d", now), Some(day.plus_secs(-7 * 86_400)));
        for odd in [
            "",
            "d",
            "0d",
            "5",
            "-1d",
            "7 d",
            "9999999999999999h",
            "2562047788015216h",
            "1\u{e9}",
        ] {
            assert!(instant(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_name_cannot_speak_to_the_terminal() {
        let row = |name: &str| SpendRow {
            name: name.to_owned(),
            alias: String::new(),
            requests: 0,
            input_tokens: 0,
            output_tokens: 0,
            spend: schemas::NanoUsd::ZERO,
            saved: schemas::NanoUsd::ZERO,
        };
        assert_eq!(name(&row("caf\u{e9} \u{1f600}")), "caf\u{e9} \u{1f600}");
        assert_eq!(name(&row("\u{1b}[2Jgone\n")), "\\u{1b}[2Jgone\\n");
        assert_eq!(name(&row("")), "-");
    }
}

//! The prices that ship with us, from `data/prices.txt`: reviewed as text, read exactly.

use schemas::{AttoUsd, Meter, Micros, PriceEntry, Rate, Text};

use crate::Error;
use crate::catalog::BUILTIN_SOURCE;

const DATA: &str = include_str!("../data/prices.txt");

/// Our own price entries: global, in force from the beginning of time.
///
/// Append what [`crate::Catalog::builtin_changes`] says of them, so that prices set by people stand.
#[must_use]
pub fn builtin() -> Vec<PriceEntry> {
    // The text is part of the program, and a test reads it: an error cannot reach anyone.
    read_prices(DATA).unwrap_or_default()
}

/// Reads a price list of that form; its header explains it.
///
/// # Errors
/// [`Error::BadList`] with the number of the first line that is no good.
pub fn read_prices(list: &str) -> Result<Vec<PriceEntry>, Error> {
    let mut entries: Vec<PriceEntry> = Vec::new();
    let mut source: Option<(Text, Text)> = None;
    // The entries of the block being read: one per name of its model.
    let mut block = 0..0;
    for (at, line) in list.lines().enumerate() {
        let bad = |reason: &str| Error::BadList {
            line: at + 1,
            reason: reason.to_owned(),
        };
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if first.starts_with('#') {
            continue;
        }
        if first == "@" {
            let date = words.next().ok_or_else(|| bad("the date is missing"))?;
            let from = words.collect::<Vec<_>>().join(" ");
            source = Some((date.into(), format!("{BUILTIN_SOURCE}{from}").into()));
            continue;
        }
        if !line.starts_with(char::is_whitespace) {
            let (date, from) = source.as_ref().ok_or_else(|| bad("no source is named"))?;
            let start = entries.len();
            entries.extend(words.map(|model| PriceEntry {
                scope: "global".into(),
                provider: first.into(),
                model: model.into(),
                effective_from: Micros(0),
                effective_to: None,
                source: from.clone(),
                source_date: date.clone(),
                max_input: None,
                max_output: None,
                rates: Vec::new(),
            }));
            block = start..entries.len();
            continue;
        }
        if block.is_empty() {
            return Err(bad("no model is named"));
        }
        if first == "window" {
            let mut limit = || match words.next() {
                Some("-") => Ok(None),
                Some(word) => word.parse().map(Some).map_err(|_| bad("no window")),
                None => Err(bad("a window has two sides")),
            };
            let (input, output) = (limit()?, limit()?);
            for entry in &mut entries[block.clone()] {
                (entry.max_input, entry.max_output) = (input, output);
            }
            continue;
        }
        let rates = read_rates(first, words).map_err(|reason| bad(&reason))?;
        for entry in &mut entries[block.clone()] {
            entry.rates.extend_from_slice(&rates);
        }
    }
    Ok(entries)
}

/// `standard>200000 input 2.5 output 15`.
fn read_rates<'a>(
    tier: &str,
    mut words: impl Iterator<Item = &'a str>,
) -> Result<Vec<Rate>, String> {
    let (tier, above) = match tier.split_once('>') {
        Some((tier, above)) => (tier, above.parse().map_err(|_| "no number of tokens")?),
        None => (tier, 0),
    };
    let service_tier = match tier {
        "standard" => None,
        "batch" | "flex" | "priority" => Some(Text::from(tier)),
        other => return Err(format!("unknown tier {other:?}")),
    };
    let mut rates = Vec::new();
    while let Some(name) = words.next() {
        let meter = meter(name).ok_or_else(|| format!("unknown meter {name:?}"))?;
        let text = words.next().ok_or("a meter without a price")?;
        let price: AttoUsd = text.parse().map_err(|error| format!("{error}"))?;
        let price = if meter.is_input_token() || meter.is_output_token() {
            if price.0 % 1_000_000 != 0 {
                return Err(format!("{text} per 1,000,000 needs more than 18 decimals"));
            }
            AttoUsd(price.0 / 1_000_000)
        } else {
            price
        };
        rates.push(Rate {
            meter,
            service_tier: service_tier.clone(),
            context_above: above,
            price: price.to_string().into(),
        });
    }
    Ok(rates)
}

/// The names of the events, with the three most frequent ones shortened.
fn meter(name: &str) -> Option<Meter> {
    match name {
        "input" => Some(Meter::InputText),
        "output" => Some(Meter::OutputText),
        "reasoning" => Some(Meter::OutputReasoning),
        "cache_read" => Some(Meter::InputCacheRead),
        "cache_write_5m" => Some(Meter::InputCacheWrite5m),
        "cache_write_1h" => Some(Meter::InputCacheWrite1h),
        other => Meter::from_name(other).filter(|meter| *meter != Meter::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalog, Price, PriceKey, rate, worst_case};
    use schemas::{CatalogEvent, Meters};
    use std::collections::HashSet;

    #[test]
    fn every_shipped_price_is_read_exactly_and_once() {
        let entries = read_prices(DATA).unwrap();
        assert!(entries.len() > 200, "{}", entries.len());
        let mut names = HashSet::new();
        for entry in &entries {
            let name = format!("{}/{}", entry.provider, entry.model);
            assert!(names.insert(name.clone()), "{name} is listed twice");
            let price = Price::try_from(entry).unwrap();
            let input = price.unit(Meter::InputText, None, 0);
            assert!(input.is_ok_and(|unit| unit.0 > 0), "{name}");
            assert!(entry.source.len() > BUILTIN_SOURCE.len() + 5, "{name}");
            assert_eq!(entry.source_date.len(), 10, "{name}");
        }
        assert_eq!(builtin(), entries);
    }

    #[test]
    fn every_provider_of_the_configuration_has_prices() {
        let entries = builtin();
        for provider in [
            "openai",
            "anthropic",
            "gemini",
            "deepseek",
            "zai",
            "mistral",
            "cohere",
            "xai",
            "groq",
            "together_ai",
            "fireworks_ai",
            "openrouter",
            "moonshot",
            "dashscope",
            "tollgate",
        ] {
            assert!(
                entries.iter().any(|entry| &*entry.provider == provider),
                "{provider}"
            );
        }
    }

    #[test]
    fn known_bills_come_out_to_the_last_digit() {
        let event = CatalogEvent {
            event_time: Micros(0),
            actor: "file".into(),
            entries: builtin(),
        };
        let catalog = Catalog::new().apply(1, &event).unwrap();
        let bill = |provider, model, tier, readings: &[(Meter, i64)]| {
            let key = PriceKey {
                org: "default",
                deployment: "",
                provider,
                model,
            };
            let price = catalog.price(&key, Micros(1), 1).unwrap();
            let mut meters = Meters::default();
            for (meter, quantity) in readings {
                meters.add(*meter, *quantity);
            }
            rate(price, &meters, tier).unwrap().exact.to_string()
        };
        use Meter::*;
        let demo = [(InputText, 7), (InputCacheRead, 5), (OutputText, 20)];
        assert_eq!(bill("tollgate", "demo", None, &demo), "0.0000475");
        let call = [
            (InputText, 1000),
            (InputCacheRead, 24),
            (OutputReasoning, 3),
        ];
        assert_eq!(bill("openai", "gpt-4o", Some("default"), &call), "0.00256");
        assert_eq!(
            bill("openai", "gpt-4o", Some("priority"), &call),
            "0.004352"
        );
        let long = [(InputText, 200_001), (OutputText, 10)];
        assert_eq!(bill("gemini", "gemini-2.5-pro", None, &long), "0.5001525");
        let short = [(InputText, 200_000), (OutputText, 10)];
        assert_eq!(bill("gemini", "gemini-2.5-pro", None, &short), "0.2501");
        let cached = [(InputCacheWrite1h, 1000), (InputCacheWrite5m, 1000)];
        assert_eq!(
            bill("anthropic", "claude-opus-4-5", None, &cached),
            "0.01625"
        );
    }

    #[test]
    fn the_demo_model_is_held_at_its_worst_case() {
        let demo = builtin().into_iter().find(|e| &*e.model == "demo").unwrap();
        let price = Price::try_from(&demo).unwrap();
        assert_eq!(
            (price.max_input(), price.max_output()),
            (Some(128_000), Some(4096))
        );
        assert_eq!(worst_case(&price, 100, 10, 1).to_string(), "0.00012");
    }

    #[test]
    fn a_bad_line_is_named() {
        let read = |list: &str| read_prices(list).unwrap_err().to_string();
        assert!(read("openai m\n").contains("line 1: no source"));
        let head = "@ 2026-01-01 here\nopenai m\n";
        assert!(read(&format!("{head} gold input 1")).contains("line 3: unknown tier"));
        assert!(read(&format!("{head} standard inputs 1")).contains("unknown meter"));
        assert!(read(&format!("{head} standard input")).contains("without a price"));
        assert!(read(&format!("{head} standard input 1e-13")).contains("18 decimals"));
    }
}

//! Reads LiteLLM's `model_prices_and_context_window.json` into catalog entries.
//!
//! Prices come from the text of their numbers, rounded to 15 significant digits, since the file carries
//! the artefacts of floats (`5.0000000000000004E-8`); a price that then needs more than 18 decimals is
//! refused. Nothing is dropped silently: what has no meter here is counted by name in the [`Report`],
//! and what would change a price more than tenfold needs approval.

mod field;
mod own;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use schemas::{AttoUsd, Meter, Micros, PriceEntry, Rate, Text};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::{Catalog, Error};
use field::Field;
pub use own::litellm_rates;

/// How to import.
#[derive(Debug, Clone)]
pub struct Import<'a> {
    /// Where the file came from; used for models that name no source of their own.
    pub source: &'a str,
    /// When it was read, `2026-11-21`.
    pub source_date: &'a str,
    pub effective_from: Micros,
    /// `provider/model` names whose jumps of more than ten times a person has approved.
    pub approved: &'a [&'a str],
}

/// A price that differs from the catalog's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub provider: Text,
    pub model: Text,
    pub meter: Meter,
    pub service_tier: Option<Text>,
    pub context_above: u64,
    /// USD per unit; `None` is no price of its own.
    pub old: Option<AttoUsd>,
    pub new: Option<AttoUsd>,
}

impl Change {
    /// Whether the price moves by more than ten times, or between zero and something.
    #[must_use]
    pub fn is_jump(&self) -> bool {
        match (self.old, self.new) {
            (Some(old), Some(new)) if old != new => {
                let (low, high) = (old.min(new).0, old.max(new).0);
                low == 0 || high > low * 10
            }
            _ => false,
        }
    }
}

/// A model left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The key in the file.
    pub name: Text,
    pub reason: String,
}

/// What became of everything in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Models in the file, its sample left out.
    pub models: usize,
    /// Models that the catalog did not know.
    pub added: usize,
    /// Models with changed prices or limits.
    pub changed: usize,
    pub unchanged: usize,
    /// Second names for a model with the same prices.
    pub duplicates: usize,
    /// Every changed price of known models, those of refused jumps too.
    pub changes: Vec<Change>,
    /// Models that jump and were not approved, with every other reason to leave a model out.
    pub refused: Vec<Refused>,
    /// Models without a price, or with prices of zero only: free or unknown, which the file does not tell.
    pub without_price: Vec<Text>,
    /// Fields about money that have no meter here, with the number of models that carry each.
    pub not_mapped: BTreeMap<String, usize>,
}

/// Reads the file and compares it with the catalog's newest global entries.
///
/// The result holds the entries to append: models that are new, or whose prices or limits changed.
///
/// # Errors
/// When the text is not a JSON object of objects. What is wrong with one model is in the report.
pub fn import_litellm(
    text: &str,
    against: &Catalog,
    how: &Import<'_>,
) -> Result<(Vec<PriceEntry>, Report), Error> {
    let models: Members = serde_json::from_str(text).map_err(|cause| Error::BadImport {
        reason: cause.to_string(),
    })?;
    let mut report = Report::default();
    let mut entries: Vec<PriceEntry> = Vec::new();
    let mut places: HashMap<(Text, Text), usize> = HashMap::new();
    for (name, model) in models.0 {
        if name == "sample_spec" {
            continue;
        }
        report.models += 1;
        let entry = match read_model(&name, &model, how, &mut report) {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                report.without_price.push(name.into());
                continue;
            }
            Err(reason) => {
                report.refuse(&name, reason);
                continue;
            }
        };
        if let Err(error) = Catalog::check(&entry) {
            report.refuse(&name, error.to_string());
            continue;
        }
        match places.entry((entry.provider.clone(), entry.model.clone())) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(entries.len());
                entries.push(entry);
            }
            std::collections::hash_map::Entry::Occupied(place) => {
                let known = &mut entries[*place.get()];
                // `provider/model` is the name that says what it means.
                let (keep, other) = if name.contains('/') {
                    (entry, known.clone())
                } else {
                    (known.clone(), entry)
                };
                if compare(Some(&other), &keep).is_empty() {
                    report.duplicates += 1;
                } else {
                    let reason = "a second entry for this model has other prices".to_owned();
                    report.refuse(&name, reason);
                }
                *known = keep;
            }
        }
    }
    let wanted = entries
        .into_iter()
        .filter(|entry| report.admit(entry, against, how))
        .collect();
    Ok((wanted, report))
}

impl Report {
    fn refuse(&mut self, name: &str, reason: String) {
        self.refused.push(Refused {
            name: name.into(),
            reason,
        });
    }

    /// Compares with the catalog; whether the entry is to be appended.
    fn admit(&mut self, entry: &PriceEntry, against: &Catalog, how: &Import<'_>) -> bool {
        let Some(known) = against.newest_global(&entry.provider, &entry.model) else {
            self.added += 1;
            return true;
        };
        let limits = |entry: &PriceEntry| (entry.max_input, entry.max_output);
        let changes = compare(Some(known), entry);
        if changes.is_empty() && limits(known) == limits(entry) {
            self.unchanged += 1;
            return false;
        }
        let name = format!("{}/{}", entry.provider, entry.model);
        let jump = changes.iter().find(|change| change.is_jump());
        let refused = jump.filter(|_| !how.approved.contains(&name.as_str()));
        if let Some(jump) = refused {
            let reason = format!(
                "the price of {} goes from {} to {} USD: a jump of more than ten times needs approval",
                jump.meter.name(),
                jump.old.unwrap_or_default(),
                jump.new.unwrap_or_default(),
            );
            self.refuse(&name, reason);
        } else {
            self.changed += 1;
        }
        let refused = refused.is_some();
        self.changes.extend(changes);
        !refused
    }
}

type Place<'a> = (Meter, Option<&'a str>, u64);

/// Prices that differ, in the order of the new entry, then those that are gone.
fn compare(old: Option<&PriceEntry>, new: &PriceEntry) -> Vec<Change> {
    fn place(rate: &Rate) -> Place<'_> {
        (rate.meter, rate.service_tier.as_deref(), rate.context_above)
    }
    fn price(rate: &Rate) -> Option<AttoUsd> {
        rate.price.parse().ok()
    }
    let change = |rate: &Rate, old, new| Change {
        provider: Text::default(),
        model: Text::default(),
        meter: rate.meter,
        service_tier: rate.service_tier.clone(),
        context_above: rate.context_above,
        old,
        new,
    };
    let old_rates = old.map_or(&[][..], |entry| &entry.rates);
    let before = |rate: &Rate| old_rates.iter().find(|known| place(known) == place(rate));
    let moved = new.rates.iter().filter_map(|rate| {
        let (old, new) = (before(rate).and_then(price), price(rate));
        (old != new).then(|| change(rate, old, new))
    });
    let gone = old_rates
        .iter()
        .filter(|rate| !new.rates.iter().any(|kept| place(kept) == place(rate)))
        .map(|rate| change(rate, price(rate), None));
    moved
        .chain(gone)
        .map(|change| Change {
            provider: new.provider.clone(),
            model: new.model.clone(),
            ..change
        })
        .collect()
}

/// One model of the file; `None` when it has no price above zero.
fn read_model(
    name: &str,
    model: &Value,
    how: &Import<'_>,
    report: &mut Report,
) -> Result<Option<PriceEntry>, String> {
    let fields = model.as_object().ok_or("it is not an object")?;
    let text = |field: &str| fields.get(field).and_then(Value::as_str);
    let provider = text("litellm_provider").ok_or("it names no litellm_provider")?;
    let provider = provider_name(provider);
    let mode = text("mode").unwrap_or("chat");
    let mut rates = Rates::default();
    for (field, value) in fields {
        match field::read(field, mode) {
            Field::NotMoney => {}
            Field::Price(at) => rates.add(field, at, value, report)?,
            Field::Searches => match same_for_all_sizes(value) {
                Some(price) => rates.add(field, field::SEARCHES, price, report)?,
                None => report.count(field),
            },
            Field::Tiers => read_tiers(value, mode, &mut rates, report)?,
            Field::NotMapped => report.count(field),
        }
    }
    if rates.0.iter().all(|(_, price)| price.0 == 0) {
        return Ok(None);
    }
    let prefix = format!("{provider}/");
    let tokens = |field: &str| fields.get(field).and_then(whole_number);
    Ok(Some(PriceEntry {
        scope: "global".into(),
        provider: provider.into(),
        model: name.strip_prefix(&prefix).unwrap_or(name).into(),
        effective_from: how.effective_from,
        effective_to: None,
        source: text("source").unwrap_or(how.source).into(),
        source_date: how.source_date.into(),
        max_input: tokens("max_input_tokens"),
        max_output: tokens("max_output_tokens"),
        rates: rates.into_rates(),
    }))
}

impl Report {
    fn count(&mut self, field: &str) {
        *self.not_mapped.entry(field.to_owned()).or_default() += 1;
    }
}

/// The prices of one model as they are found.
#[derive(Default)]
struct Rates(Vec<(field::At, AttoUsd)>);

impl Rates {
    /// Two fields may name one price (`cache_read_input_token_cost`, `input_cost_per_token_cache_hit`;
    /// seconds of input and output): equal ones are one, zero gives way, others are refused.
    fn add(
        &mut self,
        field: &str,
        at: field::At,
        value: &Value,
        report: &mut Report,
    ) -> Result<(), String> {
        let Value::Number(number) = value else {
            report.count(field);
            return Ok(());
        };
        let price = read_price(&number.to_string()).map_err(|why| format!("{field}: {why}"))?;
        match self.0.iter_mut().find(|(known, _)| *known == at) {
            None => self.0.push((at, price)),
            Some((_, known)) if known.0 == 0 || *known == price => *known = price,
            Some(_) if price.0 == 0 => {}
            Some(_) => {
                return Err(format!(
                    "{field} contradicts another price of the same meter"
                ));
            }
        }
        Ok(())
    }

    fn into_rates(mut self) -> Vec<Rate> {
        self.0.sort_by_key(|(at, _)| *at);
        let rate = |(at, price): (field::At, AttoUsd)| Rate {
            meter: at.meter,
            service_tier: at.tier.map(Into::into),
            context_above: at.above,
            price: price.to_string().into(),
        };
        self.0.into_iter().map(rate).collect()
    }
}

/// `tiered_pricing`: a list of prices, each with the range of prompt tokens it applies to.
fn read_tiers(
    value: &Value,
    mode: &str,
    rates: &mut Rates,
    report: &mut Report,
) -> Result<(), String> {
    for tier in value.as_array().ok_or("tiered_pricing is not a list")? {
        let fields = tier.as_object().ok_or("a tier is not an object")?;
        let Some(range) = fields.get("range").and_then(Value::as_array) else {
            // By number of results, not of tokens.
            report.count("tiered_pricing.max_results_range");
            continue;
        };
        let above = range.first().and_then(whole_number);
        let above = above.ok_or("a tier's range does not begin with a number of tokens")?;
        for (field, value) in fields.iter().filter(|(field, _)| *field != "range") {
            match field::read(field, mode) {
                Field::Price(at) if at.above == 0 => {
                    rates.add(field, field::At { above, ..at }, value, report)?;
                }
                Field::NotMoney => {}
                _ => report.count(&format!("tiered_pricing.{field}")),
            }
        }
    }
    Ok(())
}

/// The price of a search, where it does not depend on how much context the search brings.
fn same_for_all_sizes(value: &Value) -> Option<&Value> {
    let mut sizes = value.as_object()?.values();
    let first = sizes.next()?;
    sizes.all(|size| size == first).then_some(first)
}

/// `128000`, `256000.0`.
fn whole_number(value: &Value) -> Option<u64> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let atto = text.parse::<AttoUsd>().ok()?.0;
    let unit = 1_000_000_000_000_000_000;
    (atto >= 0 && atto % unit == 0).then(|| u64::try_from(atto / unit).ok())?
}

/// The name our providers go by.
fn provider_name(litellm: &str) -> &str {
    match litellm {
        "cohere_chat" => "cohere",
        "text-completion-openai" => "openai",
        "bedrock_converse" => "bedrock",
        "azure_text" => "azure",
        "fireworks_ai-embedding-models" => "fireworks_ai",
        other if other.starts_with("vertex_ai-") => "vertex_ai",
        other => other,
    }
}

/// A price from the text of its number: 15 significant digits, half to even, at most 18 decimals.
fn read_price(text: &str) -> Result<AttoUsd, String> {
    let rounded = round_significant(text).unwrap_or_else(|| text.to_owned());
    rounded
        .parse::<AttoUsd>()
        .map_err(|error| error.to_string())
}

/// `None` when there is nothing to round, or no number to understand.
fn round_significant(text: &str) -> Option<String> {
    const DIGITS: usize = 15;
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    if digits.len() <= DIGITS || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (kept, rest) = digits.split_at(DIGITS);
    let mut value: u64 = kept.parse().ok()?;
    let tail = rest[1..].bytes().any(|digit| digit != b'0');
    let first = rest.as_bytes()[0];
    if first > b'5' || (first == b'5' && (tail || !value.is_multiple_of(2))) {
        value += 1;
    }
    let exponent =
        exponent - i64::try_from(fraction.len()).ok()? + i64::try_from(rest.len()).ok()?;
    Some(format!("{sign}{value}e{exponent}"))
}

/// The members of an object in their order, repeated names kept.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of models")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_the_text_of_its_number_without_the_float() {
        let read = |text: &str| read_price(text).map(|price| price.to_string());
        assert_eq!(read("5.0000000000000004E-8").unwrap(), "0.00000005");
        assert_eq!(read("2.9999999999999997e-06").unwrap(), "0.000003");
        assert_eq!(read("1.3e-10").unwrap(), "0.00000000013");
        assert_eq!(read("0.0").unwrap(), "0.0");
        assert_eq!(read("9.9999999999999995e-7").unwrap(), "0.000001");
        assert_eq!(read("1.000000000000005e-3").unwrap(), "0.001");
        assert_eq!(read("1.00000000000015e-4").unwrap(), "0.000100000000000015");
        assert!(
            read("1.1428571428571428e-06")
                .unwrap_err()
                .contains("more than 18")
        );
    }
}

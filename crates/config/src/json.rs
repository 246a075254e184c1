//! Parts of the file that go out as JSON: what a scalar is by the core schema of YAML 1.2, with its digits kept.

use serde_json::{Number, Value as Json};

use crate::DecimalText;
use crate::expand::{Env, expand};
use crate::tree::{Node, Value};

/// A node as JSON, variables put in. `None` where a variable is missing.
pub(crate) fn of(node: &Node, env: Env<'_>) -> Option<Json> {
    Some(match &node.value {
        Value::Null => Json::Null,
        Value::Scalar(text) => {
            let text = expand(text, env).ok()?;
            if node.bare { bare(text) } else { text.into() }
        }
        Value::List(items) => {
            let items = items.iter().map(|item| of(item, env));
            Json::Array(items.collect::<Option<_>>()?)
        }
        Value::Map(entries) => {
            let entries = entries
                .iter()
                .map(|entry| Some((entry.key.clone(), of(&entry.value, env)?)));
            Json::Object(entries.collect::<Option<_>>()?)
        }
    })
}

/// A scalar without quotes.
fn bare(text: String) -> Json {
    match text.as_str() {
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => number(&text).map_or_else(|| text.into(), Json::Number),
    }
}

/// A number, however YAML lets it be written: `.5`, `5.`, `+1`, `007`, `0x1F`, `0o17`. What is not finite is none
/// in JSON.
pub(crate) fn number(text: &str) -> Option<Number> {
    let based = |rest: &str, base| {
        let digits = rest.bytes().all(|b| b.is_ascii_hexdigit());
        u64::from_str_radix(rest, base).ok().filter(|_| digits)
    };
    let whole = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(hex), _) => based(hex, 16),
        (None, Some(octal)) => based(octal, 8),
        (None, None) => None,
    };
    if let Some(whole) = whole {
        return Some(whole.into());
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return None;
    }
    // As it is written, where JSON writes it so.
    serde_json::from_str(text).ok().or_else(|| {
        let text = DecimalText::new(text)?;
        serde_json::from_str(&as_json_writes(text.as_str())).ok()
    })
}

/// The same number with a digit on both sides of its point, and no needless sign or zero before it.
fn as_json_writes(decimal: &str) -> String {
    let (sign, unsigned) = match decimal.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", decimal.strip_prefix('+').unwrap_or(decimal)),
    };
    let power = unsigned.find(['e', 'E']).unwrap_or(unsigned.len());
    let (mantissa, power) = unsigned.split_at(power);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}{power}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_yaml_says_they_are() {
        for (text, expected) in [
            ("12", "12"),
            ("-0.50", "-0.50"),
            ("1e3", "1e+3"),
            (".5", "0.5"),
            ("5.", "5"),
            ("+1", "1"),
            ("-.5e-3", "-0.5e-3"),
            ("007", "7"),
            ("00", "0"),
            ("0x1F", "31"),
            ("0o17", "15"),
            (
                "123456789012345678901234567890123456789012345678901234567890",
                "123456789012345678901234567890123456789012345678901234567890",
            ),
        ] {
            assert_eq!(
                number(text).map(|number| number.to_string()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        for text in [
            "",
            ".",
            "-",
            "+",
            "0x",
            "0xg",
            "0x+1",
            "1_000",
            ".inf",
            ".nan",
            "nan",
            "1.2.3",
            "12a",
            "2026-11-21",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}

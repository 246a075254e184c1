//! Reading a management request field by field, so that each error names its field.

use metering::Period;
use schemas::{Micros, NanoUsd, Text};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::moment::Moment;

/// Bytes of a name or a word at most: it travels in every record of a key's calls.
const TEXT_MAX: usize = 1024;
/// Items of a list at most, for the same reason.
const LIST_MAX: usize = 1000;

/// One field of a request: its name and what the client sent.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    pub name: &'a str,
    pub value: &'a Value,
}

impl<'a> Field<'a> {
    fn wrong(&self, expected: &str) -> Error {
        let got = match self.value {
            Value::Number(number) => number.to_string(),
            other => kind(other).to_owned(),
        };
        Error::bad_request(
            format!("{}: expected {expected}, got {got}", self.name),
            self.name,
        )
    }

    /// A refusal of this field in the caller's own words.
    pub fn refuse(&self, why: impl std::fmt::Display) -> Error {
        Error::bad_request(format!("{}: {why}", self.name), self.name)
    }

    /// Text; `null` and the empty text are "none".
    pub fn text(&self) -> Result<Option<Text>, Error> {
        match self.value {
            Value::Null => Ok(None),
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(text) => self.word(text).map(Some),
            _ => Err(self.wrong("text")),
        }
    }

    fn word(&self, text: &str) -> Result<Text, Error> {
        if text.len() > TEXT_MAX {
            return Err(self.refuse(format_args!(
                "is longer than {TEXT_MAX} bytes: it has {}",
                text.len()
            )));
        }
        Ok(text.into())
    }

    pub fn texts(&self) -> Result<Vec<Text>, Error> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) if items.len() > LIST_MAX => Err(self.refuse(format_args!(
                "has more than {LIST_MAX} items: {}",
                items.len()
            ))),
            Value::Array(items) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) => self.word(text),
                    _ => Err(self.wrong("a list of texts")),
                })
                .collect(),
            _ => Err(self.wrong("a list of texts")),
        }
    }

    pub fn flag(&self) -> Result<bool, Error> {
        match self.value {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            _ => Err(self.wrong("true or false")),
        }
    }

    pub fn object(&self) -> Result<Map<String, Value>, Error> {
        match self.value {
            Value::Null => Ok(Map::new()),
            Value::Object(object) => Ok(object.clone()),
            _ => Err(self.wrong("an object")),
        }
    }

    /// A count that is not negative; `10.0` is 10.
    pub fn count(&self) -> Result<Option<u64>, Error> {
        if self.value.is_null() {
            return Ok(None);
        }
        let text = match self.value {
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let whole = match text.split_once('.') {
            Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
            _ => &text,
        };
        whole
            .parse()
            .map(Some)
            .map_err(|_| self.wrong("a whole number that is not negative"))
    }

    /// An amount in USD, read from the text of its number; never negative. What is finer than a nano-dollar
    /// is cut off.
    pub fn money(&self) -> Result<Option<NanoUsd>, Error> {
        let text = match self.value {
            Value::Null => return Ok(None),
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return Err(self.wrong("an amount in USD")),
        };
        let amount = NanoUsd::floor(&text).map_err(|e| self.refuse(e))?;
        if amount < NanoUsd::ZERO {
            return Err(self.refuse("must not be negative"));
        }
        Ok(Some(amount))
    }

    /// The word of a budget's period.
    pub fn period(&self) -> Result<Option<String>, Error> {
        let Some(word) = self.text()? else {
            return Ok(None);
        };
        word.parse::<Period>().map_err(|e| self.refuse(e))?;
        Ok(Some(word.to_string()))
    }

    /// When a life of `30d`, `12h`, … that begins at `now` ends; `null` and `-1`: never.
    pub fn expiry(&self, now: Micros) -> Result<Option<Micros>, Error> {
        match self.text()?.as_deref() {
            None | Some("-1") => Ok(None),
            Some(word) => after(word, now).map(Some).ok_or_else(|| {
                self.refuse(format_args!(
                    "{word:?} is not a duration such as 30s, 30m, 30h, 30d, 1w, 1mo"
                ))
            }),
        }
    }

    /// An instant: RFC 3339, a day (its first instant), or so long from `now`.
    pub fn instant(&self, now: Micros) -> Result<Option<Micros>, Error> {
        let Some(text) = self.text()? else {
            return Ok(None);
        };
        let known = Moment::read(&text).map(|moment| moment.begin);
        known
            .or_else(|| after(&text, now))
            .map(Some)
            .ok_or_else(|| {
                self.refuse(format_args!(
                "{text:?} is not a day (2026-01-31), an RFC 3339 time, or a duration such as 10d"
            ))
            })
    }

    /// Accepts a field that has no effect yet only where it asks for nothing.
    pub fn nothing_asked(&self) -> Result<(), Error> {
        let nothing = match self.value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(object) => object.is_empty(),
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::Bool(true) => false,
        };
        if nothing {
            Ok(())
        } else {
            Err(self.refuse("is not supported yet, and is not taken without effect"))
        }
    }
}

/// The body of a management request.
///
/// # Errors
/// 400 with the place of the mistake.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, Error> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Error::bad_request(
            format!("the body must be a JSON object, got {}", kind(&other)),
            "body",
        )),
        Err(e) => Err(Error::bad_request(
            format!("the body is not valid JSON: {e}"),
            "body",
        )),
    }
}

/// A text that must be there.
pub fn required(object: &Map<String, Value>, name: &str) -> Result<Text, Error> {
    let missing = || Error::bad_request(format!("{name}: required"), name);
    Field {
        name,
        value: object.get(name).ok_or_else(missing)?,
    }
    .text()?
    .ok_or_else(missing)
}

/// So long from `now`, within the calendar.
fn after(word: &str, now: Micros) -> Option<Micros> {
    let at = now.plus_secs(life_seconds(word)?);
    jiff::Timestamp::from_microsecond(at.0)
        .is_ok()
        .then_some(at)
}

/// Seconds of a key's life; months and years count 30 and 365 days.
fn life_seconds(word: &str) -> Option<i64> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let count: i64 = word[..digits].parse().ok().filter(|count| *count > 0)?;
    let unit = match &word[digits..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        "mo" => 30 * 86_400,
        "y" => 365 * 86_400,
        _ => return None,
    };
    count.checked_mul(unit)
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn field(value: &Value) -> Field<'_> {
        Field { name: "f", value }
    }

    #[test]
    fn money_is_read_from_the_text_of_its_number() {
        let amount: Value = serde_json::from_str("0.1").unwrap();
        assert_eq!(field(&amount).money().unwrap(), Some(NanoUsd(100_000_000)));
        assert!(field(&json!(-1)).money().is_err());
        assert!(field(&json!("-0.0000000001")).money().is_err());
        assert!(field(&json!([])).money().is_err());
        assert_eq!(
            field(&json!("1e-3")).money().unwrap(),
            Some(NanoUsd(1_000_000))
        );
    }

    #[test]
    fn a_life_ends_when_it_says() {
        let now = Micros(0);
        assert_eq!(
            field(&json!("30d")).expiry(now).unwrap(),
            Some(now.plus_secs(30 * 86_400))
        );
        assert_eq!(field(&json!("-1")).expiry(now).unwrap(), None);
        assert_eq!(field(&json!(null)).expiry(now).unwrap(), None);
        for bad in [
            "",
            "d",
            "0d",
            "5 days",
            "30x",
            "99999999999y",
            "99999999999999999999s",
        ] {
            assert_eq!(
                field(&json!(bad)).expiry(now).is_err(),
                !bad.is_empty(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_count_is_whole_however_it_is_written() {
        let count = |text: &str| field(&serde_json::from_str(text).unwrap()).count().ok();
        assert_eq!(count("10"), Some(Some(10)));
        assert_eq!(count("10.0"), Some(Some(10)));
        assert_eq!(count("null"), Some(None));
        for bad in ["1.5", "-1", "\"10\"", "1e400", "[]"] {
            assert_eq!(count(bad), None, "{bad}");
        }
        let told = field(&json!(-1)).count().unwrap_err().to_string();
        assert!(told.ends_with("not negative, got -1"), "{told}");
    }

    #[test]
    fn an_instant_is_said_in_three_ways() {
        let now = Micros(1_000_000);
        let instant = |text: &str| field(&json!(text)).instant(now).ok().flatten();
        let day = Micros(1_736_899_200_000_000);
        assert_eq!(instant("2025-01-15"), Some(day));
        assert_eq!(instant("2025-01-15T00:00:00Z"), Some(day));
        assert_eq!(instant("10d"), Some(now.plus_secs(864_000)));
        assert_eq!(instant("soon"), None);
    }

    #[test]
    fn what_every_record_would_carry_has_a_bound() {
        let long = "x".repeat(TEXT_MAX + 1);
        assert!(field(&json!(long)).text().is_err());
        assert!(field(&json!([long])).texts().is_err());
        assert!(field(&json!(vec!["x"; LIST_MAX + 1])).texts().is_err());
        assert!(field(&json!("x".repeat(TEXT_MAX))).text().is_ok());
    }

    #[test]
    fn a_limit_without_effect_is_refused_unless_it_asks_for_nothing() {
        for nothing in [
            json!(null),
            json!({}),
            json!([]),
            json!(""),
            json!(false),
            json!(0),
        ] {
            assert!(field(&nothing).nothing_asked().is_ok());
        }
        assert!(field(&json!({"gpt-4o": 10})).nothing_asked().is_err());
    }
}

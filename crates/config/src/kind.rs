//! What a setting may hold, and how the text of a scalar is read as it.

use std::time::Duration;

use schemas::NanoUsd;

use crate::{DecimalText, Period};

/// One known setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The key. One that ends in `*` stands for every key with that beginning.
    pub name: &'static str,
    pub kind: Kind,
    pub effect: Effect,
    /// One line for `config check` and the reference; empty where the name and LiteLLM's docs say it all.
    pub doc: &'static str,
    pub required: bool,
}

/// Whether a setting does what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does.
    Effective,
    /// It depends on the value; whoever resolves it warns.
    Judged,
    /// Understood and checked, and without effect in this version. The reason names what happens instead.
    NotYet(&'static str),
    /// Has no place in Tollgate, for this reason.
    NeverHonoured(&'static str),
}

/// The shape of a value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A mapping whose keys are known.
    Section(&'static [&'static [Setting]]),
    /// A mapping that may hold keys of its writer's own as well; a near miss is still an error.
    OpenSection(&'static [&'static [Setting]]),
    /// A list; a lone value counts as a list of one.
    List(&'static Kind),
    /// A mapping from names of the writer's own.
    Map(&'static Kind),
    /// One of two shapes: a mapping, or something else.
    Either {
        mapping: &'static Kind,
        other: &'static Kind,
    },
    Text,
    /// Text that is never printed.
    Secret,
    /// `http://…` or `https://…`, to which paths are appended.
    Url,
    Bool,
    /// A whole number, 0 included.
    Count,
    /// A whole number from 1.
    Positive,
    /// A port: 1 to 65535.
    Port,
    /// A decimal number from 0.
    Number,
    /// A decimal number.
    Signed,
    /// A decimal number from 0 to 1.
    Ratio,
    /// USD, to nine decimal places, from 0.
    Usd,
    /// Seconds, above 0: `30`, `2.5`, or with a unit, `30s`, `5m`.
    Seconds,
    /// A time span with a unit: `30s`, `5m`, `12h`, `30d`, `1w`, `1mo`.
    Span,
    /// Window of a budget: `daily`, `weekly`, `monthly`, `yearly`, or a span.
    Window,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Anything: free form, passed on or ignored.
    Any,
}

impl Kind {
    /// What the value should have been.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Section(_) | Self::OpenSection(_) | Self::Map(_) => "a mapping".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Either { other, .. } => format!("a mapping or {}", other.expected()),
            Self::Text | Self::Secret => "text".to_owned(),
            Self::Url => {
                "a URL that begins with http:// or https:// and holds no login and no query"
                    .to_owned()
            }
            Self::Bool => "true or false".to_owned(),
            Self::Count => "a whole number, 0 or more".to_owned(),
            Self::Positive => "a whole number, 1 or more".to_owned(),
            Self::Port => "a port from 1 to 65535".to_owned(),
            Self::Number => "a number, 0 or more".to_owned(),
            Self::Signed => "a number".to_owned(),
            Self::Ratio => "a number from 0 to 1".to_owned(),
            Self::Usd => "an amount in USD, 0 or more, with at most 9 decimal places".to_owned(),
            Self::Seconds => {
                "seconds above 0, such as 30 or 2.5, or a time with a unit such as 30s or 5m"
                    .to_owned()
            }
            Self::Span => "a time with a unit, such as 30s, 5m, 12h, 30d, 1w or 1mo".to_owned(),
            Self::Window => {
                "daily, weekly, monthly, yearly, or a time with a unit such as 12h, 7d or 1mo"
                    .to_owned()
            }
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Any => "anything".to_owned(),
        }
    }

    /// What else is to be said of a text that is not of this kind.
    pub(crate) fn hint(&self, text: &str) -> &'static str {
        let counts = matches!(self, Self::Count | Self::Positive | Self::Port);
        if !counts || text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            ""
        } else if text.len() > 1 && text.starts_with('0') {
            "; other readers take a number that begins with 0 for an octal one"
        } else if whole(text).is_none() {
            "; at most 9007199254740991"
        } else {
            ""
        }
    }

    /// Whether the text of a scalar is one of this kind.
    pub(crate) fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Text | Self::Secret => !text.trim().is_empty(),
            Self::Any => true,
            Self::Section(_) | Self::OpenSection(_) | Self::Map(_) => false,
            Self::List(item) => item.accepts(text),
            Self::Either { other, .. } => other.accepts(text),
            Self::Url => is_url(text) && !text.contains(['?', '#']),
            Self::Bool => parse_bool(text).is_some(),
            Self::Count => whole(text).is_some(),
            Self::Positive => whole(text).is_some_and(|n| n > 0),
            Self::Port => whole(text).is_some_and(|n| (1..=65_535).contains(&n)),
            Self::Number => DecimalText::new(text).is_some_and(|n| !n.is_negative()),
            Self::Signed => DecimalText::new(text).is_some(),
            Self::Ratio => {
                DecimalText::new(text).is_some_and(|n| !n.is_negative() && n.to_f64() <= 1.0)
            }
            Self::Usd => text
                .parse::<NanoUsd>()
                .is_ok_and(|usd| usd >= NanoUsd::ZERO),
            Self::Seconds => parse_seconds(text).is_some(),
            Self::Span => parse_span(text).is_some(),
            Self::Window => parse_period(text).is_some(),
            Self::Word(words) => words.iter().any(|word| word.eq_ignore_ascii_case(text)),
        }
    }
}

/// The largest whole number that JSON and Lua hold exactly: more than any count means.
const COUNT_MAX: u64 = (1 << 53) - 1;

/// A whole number as every reader of YAML takes it: `010` is 8 to some.
pub(crate) fn whole(text: &str) -> Option<u64> {
    let octal = text.len() > 1 && text.starts_with('0');
    let count: u64 = text.parse().ok()?;
    (!octal && count <= COUNT_MAX).then_some(count)
}

/// A login in a URL would travel into logs and headers; keys have settings of their own.
pub(crate) fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        is_host(authority) && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

/// `host`, `host:port` or `[address]:port`, and no login before it.
pub(crate) fn is_host(authority: &str) -> bool {
    let (host, after) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or(("", "")),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = after.strip_prefix(':').unwrap_or("0");
    !host.is_empty()
        && !host.contains('@')
        && (after.is_empty() || after.starts_with(':'))
        && port.parse::<u16>().is_ok()
}

/// YAML 1.1's words too, since files written for other readers hold them.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Ten years: longer than any time-out that means something, short enough for every clock.
const SECONDS_MAX: f64 = 315_360_000.0;

pub(crate) fn parse_seconds(text: &str) -> Option<Duration> {
    if let Some(number) = DecimalText::new(text) {
        let seconds = number.to_f64();
        let in_range = (0.001..=SECONDS_MAX).contains(&seconds);
        return in_range.then(|| Duration::from_secs_f64(seconds));
    }
    parse_span(text).filter(|span| span.as_secs_f64() <= SECONDS_MAX)
}

/// `1mo` counts as 30 days here; where calendar months matter, [`parse_period`] reads it.
fn parse_span(text: &str) -> Option<Duration> {
    let (count, unit) = split_unit(text)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        "mo" => 2_592_000,
        _ => return None,
    };
    let seconds = count.checked_mul(unit_s)?;
    (seconds > 0 && (seconds as f64) <= 10.0 * SECONDS_MAX).then(|| Duration::from_secs(seconds))
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(at);
    Some((count.parse().ok()?, unit.trim_start()))
}

/// LiteLLM aligns `1d`, `7d`, `30d` and `1mo` to the calendar; the words mean the same periods.
pub(crate) fn parse_period(text: &str) -> Option<Period> {
    let text = text.trim().to_ascii_lowercase();
    Some(match text.as_str() {
        "daily" | "day" | "1d" | "24h" => Period::Daily,
        "weekly" | "week" | "1w" | "7d" => Period::Weekly,
        "monthly" | "month" | "1mo" | "30d" => Period::Monthly,
        "yearly" | "annually" | "year" | "1y" | "365d" => Period::Yearly,
        "hourly" | "hour" => Period::Seconds(3_600),
        // Several calendar months have no fixed length: refused, never guessed at 30 days each.
        other if other.ends_with("mo") => return None,
        other => Period::Seconds(parse_span(other)?.as_secs()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_words_mean_calendar_periods() {
        for (text, period) in [
            ("monthly", Some(Period::Monthly)),
            ("1mo", Some(Period::Monthly)),
            ("30d", Some(Period::Monthly)),
            ("7d", Some(Period::Weekly)),
            ("1d", Some(Period::Daily)),
            ("Weekly", Some(Period::Weekly)),
            ("12h", Some(Period::Seconds(43_200))),
            ("30s", Some(Period::Seconds(30))),
            ("10d", Some(Period::Seconds(864_000))),
            ("2mo", None),
            ("fortnightly", None),
            ("0s", None),
            ("30", None),
            ("", None),
        ] {
            assert_eq!(parse_period(text), period, "{text}");
        }
    }

    #[test]
    fn kinds_accept_what_they_say() {
        let table: &[(Kind, &[&str], &[&str])] = &[
            (
                Kind::Bool,
                &["true", "False", "yes", "off"],
                &["maybe", "2", ""],
            ),
            (
                Kind::Count,
                &["0", "12", "9007199254740991"],
                &[
                    "-1",
                    "1.5",
                    "x",
                    "",
                    "010",
                    "9007199254740992",
                    "18446744073709551616",
                    ".nan",
                ],
            ),
            (Kind::Positive, &["1"], &["0", "-1", "1_000", "0x10"]),
            (Kind::Port, &["1", "65535"], &["0", "65536", "08080"]),
            (
                Kind::Ratio,
                &["0", "0.9", "1", "1.0"],
                &["1.01", "-0.1", "x"],
            ),
            (
                Kind::Usd,
                &["0", "12.50", "3e-06"],
                &["-1", "1e-10", "lots"],
            ),
            (
                Kind::Seconds,
                &["30", "0.5", "30s", "5m"],
                &["0", "-3", "soon", "1e30"],
            ),
            (
                Kind::Url,
                &[
                    "http://x",
                    "https://a.b/v1",
                    "http://h:8000/models/x@001",
                    "http://[::1]:8000/v1",
                ],
                &[
                    "a.b/v1",
                    "ftp://x",
                    "http://",
                    "http:///v1",
                    "http://a b",
                    "http://u:p@h",
                    "http://u:p/w@h/v1",
                    "http://h:99999",
                    "http://[::1",
                    "http://h/v1?key=k",
                    "http://h/v1#",
                ],
            ),
            (Kind::Text, &["x"], &["", "  "]),
            (
                Kind::Word(&["local", "redis"]),
                &["local", "REDIS"],
                &["memcached"],
            ),
        ];
        for (kind, good, bad) in table {
            for text in *good {
                assert!(kind.accepts(text), "{kind:?} {text}");
            }
            for text in *bad {
                assert!(!kind.accepts(text), "{kind:?} {text}");
            }
        }
    }
}

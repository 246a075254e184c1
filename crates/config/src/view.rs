//! Reads typed values out of a checked tree. What is wrong was told by the check and reads as absent.

use std::time::Duration;

use schemas::NanoUsd;

use crate::check::Context;
use crate::expand::{self, Unread, expand_as};
use crate::json;
use crate::kind::{Kind, parse_bool, parse_period, parse_seconds};
use crate::tree::{Node, Value, join};
use crate::{DecimalText, Period, Secret};

/// A place in the file that may be empty.
#[derive(Clone)]
pub(crate) struct View<'a> {
    context: &'a Context<'a>,
    node: Option<&'a Node>,
    /// Line of the key, else of the nearest thing above it.
    pub line: usize,
    pub path: String,
}

impl<'a> View<'a> {
    pub fn root(context: &'a Context<'a>, node: &'a Node) -> Self {
        Self {
            context,
            node: Some(node),
            line: node.line,
            path: String::new(),
        }
    }

    /// The value below a key.
    pub fn at(&self, key: &str) -> Self {
        let entry = self.node.and_then(|node| node.get(key));
        let line = match entry {
            Some(entry) if entry.line > 0 => entry.line,
            Some(entry) => entry.value.line,
            None => self.line,
        };
        Self {
            context: self.context,
            node: entry.map(|entry| entry.value.as_ref()),
            line,
            path: join(&self.path, key),
        }
    }

    /// The value at a dotted path from here.
    pub fn get(&self, path: &str) -> Self {
        path.split('.').fold(self.clone(), |view, key| view.at(key))
    }

    pub fn is_set(&self) -> bool {
        self.node
            .is_some_and(|node| !matches!(node.value, Value::Null))
    }

    pub fn is_mapping(&self) -> bool {
        self.node
            .is_some_and(|node| matches!(node.value, Value::Map(_)))
    }

    /// The items of a list; a lone value is a list of one.
    pub fn items(&self) -> Vec<Self> {
        match self.node.map(|node| &node.value) {
            Some(Value::List(items)) => items
                .iter()
                .enumerate()
                .map(|(at, node)| Self {
                    context: self.context,
                    node: Some(node),
                    line: node.line,
                    path: format!("{}[{at}]", self.path),
                })
                .collect(),
            Some(Value::Scalar(_)) => vec![self.clone()],
            _ => Vec::new(),
        }
    }

    /// The keys of a mapping and what is below them.
    pub fn entries(&self) -> Vec<(String, Self)> {
        let entries = self.node.and_then(Node::map).unwrap_or_default();
        entries
            .iter()
            .map(|entry| (entry.key.clone(), self.at(&entry.key)))
            .collect()
    }

    /// Why the value of a secret cannot be read, where it is one that is not there.
    pub fn unread(&self) -> Option<Unread> {
        match &self.node?.value {
            Value::Scalar(text) => expand_as(&Kind::Secret, text, self.context.env).err(),
            _ => None,
        }
    }

    /// Where the value of a secret stands, in words; never the value.
    pub fn origin(&self) -> Option<String> {
        let Value::Scalar(text) = &self.node?.value else {
            return None;
        };
        Some(expand::origin(text).unwrap_or_else(|| format!("line {} of this file", self.line)))
    }

    fn read(&self, kind: &Kind) -> Option<String> {
        match &self.node?.value {
            Value::Scalar(text) => expand_as(kind, text, self.context.env)
                .ok()
                .filter(|text| kind.accepts(text)),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<String> {
        self.read(&Kind::Text).map(|text| text.trim().to_owned())
    }

    /// Any scalar, be it empty.
    pub fn raw(&self) -> Option<String> {
        self.read(&Kind::Any)
    }

    pub fn secret(&self) -> Option<Secret> {
        self.read(&Kind::Secret)
            .map(|text| Secret::new(text.trim()))
    }

    pub fn url(&self) -> Option<String> {
        self.read(&Kind::Url)
            .map(|url| url.trim_end_matches('/').to_owned())
    }

    pub fn bool(&self) -> Option<bool> {
        parse_bool(&self.read(&Kind::Bool)?)
    }

    pub fn count(&self) -> Option<u64> {
        self.read(&Kind::Count)?.parse().ok()
    }

    /// As [`Self::count`]; a number that does not fit is the largest that does.
    pub fn count_u32(&self) -> Option<u32> {
        self.count()
            .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Tells of a count that is larger than what can be meant, and than what clocks hold.
    pub fn at_most(&self, most: u64) {
        if self.count().is_some_and(|count| count > most) {
            self.error(format!("must be {most} or less"));
        }
    }

    pub fn port(&self) -> Option<u16> {
        self.read(&Kind::Port)?.parse().ok()
    }

    pub fn decimal(&self) -> Option<DecimalText> {
        DecimalText::new(&self.read(&Kind::Number)?)
    }

    pub fn usd(&self) -> Option<NanoUsd> {
        self.read(&Kind::Usd)?.parse().ok()
    }

    /// USD of any number of decimals; finer than a nano-dollar is rounded. For thresholds, never for bills.
    pub fn usd_rounded(&self) -> Option<NanoUsd> {
        let usd = self.decimal()?.to_f64();
        // In range by the bound.
        Some(NanoUsd((usd.clamp(0.0, 1e9) * 1e9).round() as i64))
    }

    /// A number of seconds, 0 included, up to a day.
    pub fn span(&self) -> Option<Duration> {
        self.span_of(1.0)
    }

    /// A number of milliseconds, 0 included, up to a day.
    pub fn milliseconds(&self) -> Option<Duration> {
        self.span_of(1_000.0)
    }

    /// A number of parts of a second.
    fn span_of(&self, parts: f64) -> Option<Duration> {
        let seconds = self.decimal()?.to_f64() / parts;
        Some(Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0)))
    }

    pub fn seconds(&self) -> Option<Duration> {
        parse_seconds(&self.read(&Kind::Seconds)?)
    }

    pub fn period(&self) -> Option<Period> {
        parse_period(&self.read(&Kind::Window)?)
    }

    pub fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(Self::text).collect()
    }

    /// The value as JSON, variables put in. `None` where it is not set or a variable is missing.
    pub fn json(&self) -> Option<serde_json::Value> {
        json::of(self.node?, self.context.env)
    }

    pub fn error(&self, message: impl Into<String>) {
        self.context.error(self.line, &self.path, message);
    }

    pub fn warn(&self, reason: impl Into<String>) {
        self.context.warn(self.line, &self.path, reason);
    }

    pub fn context(&self) -> &'a Context<'a> {
        self.context
    }
}

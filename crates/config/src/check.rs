//! Holds the tree of the file against the table of settings: unknown keys, wrong kinds, missing
//! variables and what has no effect, all told at once.

use std::cell::RefCell;

use crate::error::{ConfigError, Warning};
use crate::expand::{Env, Unread, expand, expand_as};
use crate::kind::{Effect, Kind, Setting, parse_bool};
use crate::known;
use crate::tree::{Node, Value, join};

/// What a missing environment variable does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strictness {
    /// An error, where the setting has an effect.
    #[default]
    Strict,
    /// A warning: to look at a file on a machine that does not hold its secrets.
    AllowMissingVariables,
}

/// Everything that reading a file needs and collects.
pub(crate) struct Context<'a> {
    pub file: &'a str,
    pub env: Env<'a>,
    pub strictness: Strictness,
    pub errors: RefCell<Vec<ConfigError>>,
    pub warnings: RefCell<Vec<Warning>>,
}

impl Context<'_> {
    pub fn error(&self, line: usize, path: &str, message: impl Into<String>) {
        self.errors.borrow_mut().push(ConfigError {
            file: self.file.to_owned(),
            line,
            path: path.to_owned(),
            message: message.into(),
        });
    }

    pub fn warn(&self, line: usize, path: &str, reason: impl Into<String>) {
        let warning = Warning {
            line,
            path: path.to_owned(),
            reason: reason.into(),
        };
        self.warnings.borrow_mut().push(warning);
    }

    /// What a setting names is not there.
    fn unread(&self, line: usize, path: &str, why: &Unread) {
        match (why, self.strictness) {
            (Unread::Variable(_) | Unread::File(_), Strictness::AllowMissingVariables) => {
                self.warn(line, path, why.to_string());
            }
            _ => self.error(line, path, why.to_string()),
        }
    }
}

/// Checks the whole file.
pub(crate) fn check(context: &Context<'_>, root: &Node) {
    match &root.value {
        Value::Null => {}
        Value::Map(_) => value(context, root, &Kind::Section(&[known::TOP]), true, ""),
        _ => context.error(
            root.line,
            "",
            "the file must be a mapping with keys such as model_list",
        ),
    }
}

fn value(context: &Context<'_>, node: &Node, kind: &Kind, active: bool, path: &str) {
    match (&node.value, kind) {
        // Nothing written is nothing said.
        (Value::Null, _) => {}
        (Value::Map(_), Kind::Section(groups)) => {
            section(context, node, groups, active, path, false)
        }
        (Value::Map(_), Kind::OpenSection(groups)) => {
            section(context, node, groups, active, path, true)
        }
        (Value::Map(entries), Kind::Map(item)) => {
            for entry in entries {
                value(context, &entry.value, item, active, &join(path, &entry.key));
            }
        }
        (Value::Map(_), Kind::Either { mapping, .. }) => {
            value(context, node, mapping, active, path)
        }
        (Value::Scalar(_), Kind::Either { other, .. }) => value(context, node, other, active, path),
        (Value::List(items), Kind::List(item)) => {
            for (at, node) in items.iter().enumerate() {
                let path = format!("{path}[{at}]");
                match (&node.value, *item) {
                    (Value::Null, Kind::Any) => {}
                    (Value::Null, _) => context.error(node.line, &path, "an empty item"),
                    _ => value(context, node, item, active, &path),
                }
            }
        }
        (Value::Map(_), Kind::List(item)) if is_mapping(item) => {
            context.error(
                node.line,
                path,
                "expected a list; put `- ` before each item",
            );
        }
        (Value::Scalar(text), _) => scalar(context, node.line, text, kind, active, path),
        (_, Kind::Any) => {}
        (found, expected) => {
            let found = if matches!(found, Value::List(_)) {
                "a list"
            } else {
                "a mapping"
            };
            context.error(
                node.line,
                path,
                format!("expected {}, found {found}", expected.expected()),
            );
        }
    }
}

fn is_mapping(kind: &Kind) -> bool {
    matches!(kind, Kind::Section(_) | Kind::OpenSection(_) | Kind::Map(_))
}

fn scalar(context: &Context<'_>, line: usize, text: &str, kind: &Kind, active: bool, path: &str) {
    let text = match expand_as(kind, text, context.env) {
        Ok(text) => text,
        Err(why) if active || why == Unread::Form => return context.unread(line, path, &why),
        Err(_) => return,
    };
    if kind.accepts(&text) {
        return;
    }
    let mut message = format!("expected {}", kind.expected());
    if let Kind::Word(words) = kind
        && let Some(near) = nearest(&text, words.iter().copied())
    {
        message.push_str(&format!("; did you mean \"{near}\"?"));
    }
    if text.trim() == "0" && matches!(kind, Kind::Positive | Kind::Port | Kind::Seconds) {
        message.push_str("; 0 is not allowed here");
    }
    message.push_str(kind.hint(&text));
    context.error(line, path, message);
}

fn section(
    context: &Context<'_>,
    node: &Node,
    groups: &'static [&'static [Setting]],
    active: bool,
    path: &str,
    open: bool,
) {
    for entry in node.map().unwrap_or_default() {
        let path = join(path, &entry.key);
        let line = if entry.line == 0 {
            entry.value.line
        } else {
            entry.line
        };
        let Some(setting) = known::find(groups, &entry.key) else {
            unknown(context, line, &path, &entry.key, groups, open);
            continue;
        };
        let active = match setting.effect {
            Effect::Effective => active,
            Effect::Judged => false,
            Effect::NotYet(reason) | Effect::NeverHonoured(reason) => {
                // Below a section that has no effect, saying so once is enough.
                if active && says_something(context, &entry.value, &setting.kind) {
                    context.warn(line, &path, reason);
                }
                false
            }
        };
        value(context, &entry.value, &setting.kind, active, &path);
    }
    for setting in groups
        .iter()
        .flat_map(|group| group.iter())
        .filter(|setting| setting.required)
    {
        let missing = node
            .get(setting.name)
            .is_none_or(|entry| matches!(entry.value.value, Value::Null));
        if missing {
            context.error(
                node.line,
                &join(path, setting.name),
                "is required and not set",
            );
        }
    }
}

/// Whether a setting without effect asks for anything: `null` and a plain `false` do not.
fn says_something(context: &Context<'_>, node: &Node, kind: &Kind) -> bool {
    match (&node.value, kind) {
        (Value::Null, _) => false,
        (Value::Scalar(text), Kind::Bool) => {
            expand(text, context.env)
                .ok()
                .and_then(|text| parse_bool(&text))
                != Some(false)
        }
        _ => true,
    }
}

fn unknown(
    context: &Context<'_>,
    line: usize,
    path: &str,
    key: &str,
    groups: &[&[Setting]],
    open: bool,
) {
    let here = groups
        .iter()
        .flat_map(|group| group.iter())
        .map(|setting| setting.name.trim_end_matches('*'));
    let near = nearest(key, here);
    if open && near.is_none() {
        context.warn(
            line,
            path,
            "not a key that Tollgate knows; kept as a note, without effect",
        );
        return;
    }
    let mut message = "unknown key".to_owned();
    if let Some(near) = near {
        message.push_str(&format!(", did you mean \"{near}\"?"));
    }
    let elsewhere = known::sections_with(key);
    if !elsewhere.is_empty() {
        message.push_str(&format!(
            "{} it belongs in {}",
            if near.is_some() { " Or" } else { ";" },
            elsewhere.join(" or ")
        ));
    } else if near.is_none()
        && let Some((near, section)) = nearest_anywhere(key)
    {
        message.push_str(&format!("; \"{near}\" in {section} is the nearest"));
    }
    if path.contains(".litellm_params.") && near.is_none() {
        message.push_str("; parameters for the provider itself go under extra_body");
    }
    context.error(line, path, message);
}

/// The candidate that `text` was most probably meant to be.
pub(crate) fn nearest<'c>(
    text: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    let text = text.to_ascii_lowercase();
    candidates
        .filter(|candidate| candidate.len().min(text.len()) >= 3)
        .map(|candidate| (strsim::damerau_levenshtein(&text, candidate), candidate))
        // A third of the letters may be wrong, in a short word one; or the end is missing.
        .filter(|(distance, candidate)| {
            let cut_short = text.len() >= 4 && candidate.starts_with(&text);
            *distance <= (text.len().min(candidate.len()) / 3).max(1) || cut_short
        })
        .min_by_key(|(distance, candidate)| (*distance, candidate.len()))
        .map(|(_, candidate)| candidate)
}

fn nearest_anywhere(key: &str) -> Option<(&'static str, &'static str)> {
    let near = nearest(
        key,
        known::SECTIONS
            .iter()
            .flat_map(|(_, groups)| groups.iter())
            .flat_map(|g| g.iter())
            .map(|s| s.name),
    )?;
    let section = known::SECTIONS
        .iter()
        .find(|(_, groups)| known::find(groups, near).is_some_and(|s| s.name == near))?;
    Some((near, section.0))
}

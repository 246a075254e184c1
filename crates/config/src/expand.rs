//! `os.environ/NAME`, `${NAME}` and `${NAME:-default}` in the values of the file; and `file/PATH` in those
//! that are secrets. What was put in is never looked at again: a variable's text is no reference.

use std::fmt;

use crate::kind::Kind;

/// The environment as the caller sees it, and files by `file/PATH`.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

const VARIABLE: &str = "os.environ/";
const FILE: &str = "file/";
/// Defaults within defaults; deeper ones are text.
const DEPTH_MAX: usize = 8;

/// Why a text has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// This variable is not set, or is empty.
    Variable(String),
    /// This file cannot be read, or is empty.
    File(String),
    /// `${NAME?…}`, `${NAME-…}` and what else shells know, and this file does not.
    Form,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) if is_name(name) => {
                write!(f, "the environment variable {name} is not set")
            }
            // Perhaps the secret itself.
            Self::Variable(_) => f.write_str(
                "what stands after os.environ/ is not the name of a variable that is set",
            ),
            Self::File(path) => write!(f, "the file {path} cannot be read, or is empty"),
            Self::Form => f.write_str(
                "a variable is written ${NAME}, or ${NAME:-default}; $${ stands for ${ itself",
            ),
        }
    }
}

/// The text with every variable put in. `$${` stands for a literal `${`.
///
/// # Errors
/// The first variable that is not set, or is empty, and has no default.
pub(crate) fn expand(text: &str, env: Env<'_>) -> Result<String, Unread> {
    within(text, env, 0)
}

fn within(text: &str, env: Env<'_>, depth: usize) -> Result<String, Unread> {
    let lookup = |name: &str| env(name).filter(|value| !value.is_empty());
    if let Some(name) = text.trim().strip_prefix(VARIABLE) {
        return lookup(name).ok_or_else(|| Unread::Variable(name.to_owned()));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        let Some(end) = end_of(from) else { break };
        out.push_str(before);
        match reference(&from[2..end])? {
            None => out.push_str(&from[..=end]),
            Some((name, default)) => match (lookup(name), default) {
                (Some(value), _) => out.push_str(&value),
                (None, Some(default)) if depth < DEPTH_MAX => {
                    out.push_str(&within(default, env, depth + 1)?);
                }
                (None, Some(default)) => out.push_str(default),
                (None, None) => return Err(Unread::Variable(name.to_owned())),
            },
        }
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the brace that a `${` opens is closed: braces in a default are counted, where they come out even.
fn end_of(from: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, byte) in from.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' if open == 1 => return Some(at),
            b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    from.find('}')
}

/// The name and the default between the braces. `None`: no reference at all.
fn reference(inside: &str) -> Result<Option<(&str, Option<&str>)>, Unread> {
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let (name, rest) = inside.split_at(end.unwrap_or(inside.len()));
    if name.is_empty() {
        return Ok(None);
    }
    match rest.strip_prefix(":-") {
        Some(default) => Ok(Some((name, Some(default)))),
        None if rest.is_empty() => Ok(Some((name, None))),
        None if is_operator(name, rest) => Err(Unread::Form),
        None => Ok(None),
    }
}

/// What a shell would read as more than a name: a default, a demand. `${5-3}` is none.
fn is_operator(name: &str, rest: &str) -> bool {
    rest.starts_with([':', '-', '?', '+', '=']) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// As [`expand`], for a value of this kind: a secret may stand in a file of its own, `file/PATH`.
///
/// # Errors
/// As [`expand`]; and a file that cannot be read or is empty.
pub(crate) fn expand_as(kind: &Kind, text: &str, env: Env<'_>) -> Result<String, Unread> {
    let text_or_path = text.trim();
    let Some(path) = text_or_path
        .strip_prefix(FILE)
        .filter(|_| matches!(kind, Kind::Secret))
    else {
        return expand(text, env);
    };
    env(text_or_path)
        .map(|inside| inside.trim().to_owned())
        .filter(|inside| !inside.is_empty())
        .ok_or_else(|| Unread::File(path.to_owned()))
}

/// In words, where the value of a text comes from, if that is one variable or one file and nothing beside it.
pub(crate) fn origin(text: &str) -> Option<String> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix(FILE) {
        return Some(format!("the file {path}"));
    }
    let braced = || {
        let inside = text.strip_prefix("${")?;
        let inside = inside.get(..end_of(text)?.checked_sub(2)?)?;
        // Nothing after the brace.
        (inside.len() + 3 == text.len()).then_some(())?;
        reference(inside).ok().flatten().map(|(name, _)| name)
    };
    let name = text.strip_prefix(VARIABLE).or_else(braced)?;
    is_name(name).then(|| format!("the variable {name}"))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "KEY" => Some("sk-1".to_owned()),
            "LOOP" => Some("${KEY}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_literals() {
        let missing = |name: &str| Err(Unread::Variable(name.to_owned()));
        let deep = format!("{}x{}", "${NOPE:-".repeat(5_000), "}".repeat(5_000));
        for (text, expected) in [
            ("plain", Ok("plain")),
            ("os.environ/KEY", Ok("sk-1")),
            ("os.environ/NOPE", missing("NOPE")),
            ("os.environ/EMPTY", missing("EMPTY")),
            ("os.environ/", missing("")),
            ("${KEY}", Ok("sk-1")),
            ("a-${KEY}-b-${KEY}", Ok("a-sk-1-b-sk-1")),
            ("${NOPE}", missing("NOPE")),
            ("${NOPE:-fallback}", Ok("fallback")),
            ("${NOPE:-}", Ok("")),
            ("${EMPTY:-x}", Ok("x")),
            ("${NOPE:-${KEY}}", Ok("sk-1")),
            ("${KEY:-${NOPE}}", Ok("sk-1")),
            ("${NOPE:-${ALSO:-${KEY}}}!", Ok("sk-1!")),
            ("${NOPE:-${ALSO}}", missing("ALSO")),
            ("${NOPE:-os.environ/KEY}", Ok("sk-1")),
            ("${KEY:-{\"a\":1}}", Ok("sk-1")),
            ("${NOPE:-{\"a\":1}}", Ok("{\"a\":1}")),
            ("${NOPE:-{}", Ok("{")),
            ("${LOOP}", Ok("${KEY}")),
            ("${KEY-x}", Err(Unread::Form)),
            ("${5-3}", Ok("${5-3}")),
            ("${KEY:?must be there}", Err(Unread::Form)),
            ("$${KEY}", Ok("${KEY}")),
            ("$${KEY:?x}", Ok("${KEY:?x}")),
            ("${", Ok("${")),
            ("${}", Ok("${}")),
            ("${KEY", Ok("${KEY")),
            ("${not a name}", Ok("${not a name}")),
            ("$KEY", Ok("$KEY")),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(expand(text, &env), expected, "{text}");
        }
        assert!(expand(&deep, &env).is_ok_and(|text| text.contains('x')));
    }

    #[test]
    fn an_origin_is_a_name_and_never_a_default() {
        for (text, expected) in [
            ("os.environ/KEY", Some("the variable KEY")),
            (" ${KEY} ", Some("the variable KEY")),
            ("${KEY:-sk-default}", Some("the variable KEY")),
            ("${KEY:-${OTHER}}", Some("the variable KEY")),
            ("file/run/key", Some("the file run/key")),
            ("${A}${B}", None),
            ("x${A}", None),
            ("${KEY-sk-default}", None),
            ("os.environ/sk-the-key-itself", None),
            ("${", None),
            ("${}", None),
            ("sk-1", None),
        ] {
            assert_eq!(origin(text).as_deref(), expected, "{text}");
        }
        let said = Unread::Variable("sk-the-key-itself".to_owned()).to_string();
        assert!(!said.contains("sk-"), "{said}");
    }
}

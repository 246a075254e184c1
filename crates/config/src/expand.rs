//! `os.environ/NAME`, `${NAME}` and `${NAME:-default}` in the values of the file; and `file/PATH` in those
//! that are secrets.

use crate::kind::Kind;

/// The environment as the caller sees it, and files by `file/PATH`.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The text with every variable put in. `$${` stands for a literal `${`.
///
/// # Errors
/// The first variable that is not set, or is empty, and has no default.
pub(crate) fn expand(text: &str, env: Env<'_>) -> Result<String, String> {
    let lookup = |name: &str| env(name).filter(|value| !value.is_empty());
    if let Some(name) = text.trim().strip_prefix("os.environ/") {
        return lookup(name).ok_or_else(|| name.to_owned());
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
        let Some(end) = from.find('}') else { break };
        let inside = &from[2..end];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        out.push_str(before);
        if is_name(name) {
            match (lookup(name), default) {
                (Some(value), _) => out.push_str(&value),
                (None, Some(default)) => out.push_str(default),
                (None, None) => return Err(name.to_owned()),
            }
        } else {
            out.push_str(&from[..=end]);
        }
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// As [`expand`], for a value of this kind: a secret may stand in a file of its own, `file/PATH`.
///
/// # Errors
/// As [`expand`]; for a file that cannot be read or is empty, `file/PATH` itself.
pub(crate) fn expand_as(kind: &Kind, text: &str, env: Env<'_>) -> Result<String, String> {
    if matches!(kind, Kind::Secret) && text.trim().starts_with(FILE) {
        let text = text.trim();
        let inside = env(text).map(|inside| inside.trim().to_owned());
        return inside
            .filter(|inside| !inside.is_empty())
            .ok_or_else(|| text.to_owned());
    }
    expand(text, env)
}

const FILE: &str = "file/";

/// What is said of a variable or file that `expand_as` did not find.
pub(crate) fn absent(name: &str) -> String {
    match name.strip_prefix(FILE) {
        Some(path) => format!("the file {path} cannot be read, or is empty"),
        None => format!("the environment variable {name} is not set"),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_defaults_and_literals() {
        let env = |name: &str| match name {
            "KEY" => Some("sk-1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("plain", Ok("plain")),
            ("os.environ/KEY", Ok("sk-1")),
            ("os.environ/NOPE", Err("NOPE")),
            ("os.environ/EMPTY", Err("EMPTY")),
            ("${KEY}", Ok("sk-1")),
            ("a-${KEY}-b-${KEY}", Ok("a-sk-1-b-sk-1")),
            ("${NOPE}", Err("NOPE")),
            ("${NOPE:-fallback}", Ok("fallback")),
            ("${NOPE:-}", Ok("")),
            ("${EMPTY:-x}", Ok("x")),
            ("$${KEY}", Ok("${KEY}")),
            ("${", Ok("${")),
            ("${KEY", Ok("${KEY")),
            ("${not a name}", Ok("${not a name}")),
            ("$KEY", Ok("$KEY")),
        ] {
            assert_eq!(
                expand(text, &env).as_deref().map_err(String::as_str),
                expected,
                "{text}"
            );
        }
    }
}

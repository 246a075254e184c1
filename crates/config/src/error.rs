//! What is said about a file: errors that stop it, warnings that do not. Never the value of a setting,
//! since any value may be a secret that was put in the wrong place.

use std::fmt;

/// One thing wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{}{message}", Place(file, *line), path, if path.is_empty() { "" } else { ": " })]
pub struct ConfigError {
    /// The name that was given to [`crate::parse`].
    pub file: String,
    /// From 1; 0 where no line is to blame.
    pub line: usize,
    /// e.g. `model_list[0].litellm_params.api_key`.
    pub path: String,
    pub message: String,
}

struct Place<'a>(&'a str, usize);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            ("", _) => Ok(()),
            (file, 0) => write!(f, "{file}: "),
            (file, line) => write!(f, "{file}:{line}: "),
        }
    }
}

/// Everything wrong with the file, in the order of its lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A setting that is known and does not do, or not wholly do, what its writer may expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub line: usize,
    /// e.g. `router_settings.fallbacks`.
    pub path: String,
    /// Why, and what happens instead.
    pub reason: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// The warnings in groups, one line each: what stands many times in a file is told once, with its count.
#[must_use]
pub fn summary(warnings: &[Warning]) -> Vec<String> {
    let mut groups: Vec<(String, &Warning, usize)> = Vec::new();
    for warning in warnings {
        let path = without_indices(&warning.path);
        match groups
            .iter_mut()
            .find(|(known, first, _)| *known == path && first.reason == warning.reason)
        {
            Some((_, _, count)) => *count += 1,
            None => groups.push((path, warning, 1)),
        }
    }
    let line = |warning: &Warning| {
        if warning.line == 0 {
            String::new()
        } else {
            format!("line {}: ", warning.line)
        }
    };
    groups
        .into_iter()
        .map(|(path, first, count)| match count {
            1 => format!("{}{first}", line(first)),
            _ => format!("{}{path} ({count} times): {}", line(first), first.reason),
        })
        .collect()
}

/// `model_list[3].litellm_params.rpm` as `model_list[].litellm_params.rpm`.
fn without_indices(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        inside = inside && c != ']';
        if !inside {
            out.push(c);
        }
        inside = inside || c == '[';
    }
    out
}

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

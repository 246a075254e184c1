//! A configuration that can be resolved again: the file as it was read, with models beside it that no file
//! holds. What is wrong with such a model leaves that model out, and never the rest.

use std::fmt;

use serde_json::Value;

use crate::check::Strictness;
use crate::kind::{Kind, Setting};
use crate::settings::Config;
use crate::{ConfigError, ConfigErrors, Loaded, known, parse_beside};

/// Looks a variable up, or the text of a file where the name begins with `file/`.
type Lookup = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where a configuration comes from.
pub struct Source {
    base: Base,
    env: Lookup,
}

enum Base {
    File {
        name: String,
        text: String,
    },
    /// Made without a file.
    Made(Box<Loaded>),
}

/// A model that no file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// Its `model_info.id`.
    pub id: String,
    /// In the shape of an entry of `model_list`.
    pub entry: Value,
}

/// A model that cannot be called as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub id: String,
    /// Within its entry, e.g. `litellm_params.api_key`; empty where no one field is to blame.
    pub path: String,
    pub message: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.path, self.message)
    }
}

/// A source with models beside it, resolved as one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    pub loaded: Loaded,
    pub left_out: Vec<LeftOut>,
}

impl Source {
    /// A file. `name` is what errors call it; `env` as for [`crate::parse`].
    #[must_use]
    pub fn file(
        name: impl Into<String>,
        text: impl Into<String>,
        env: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let (name, text) = (name.into(), text.into());
        Self {
            base: Base::File { name, text },
            env: Box::new(env),
        }
    }

    /// What holds without a file.
    #[must_use]
    pub fn made(
        loaded: Loaded,
        env: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            base: Base::Made(Box::new(loaded)),
            env: Box::new(env),
        }
    }

    /// Everything as one configuration.
    ///
    /// # Errors
    /// What is wrong with the file itself.
    pub fn resolve(&self, added: &[Added]) -> Result<Resolved, ConfigErrors> {
        let alone = self.with(&[])?;
        let (mut kept, mut left_out): (Vec<&Added>, _) = (added.iter().collect(), Vec::new());
        while !kept.is_empty() {
            let errors = match self.with(&kept) {
                Ok(loaded) => return Ok(Resolved { loaded, left_out }),
                Err(errors) => errors,
            };
            let before = kept.len();
            let mut at = 0;
            kept.retain(|added| {
                let place = format!("model_list[{}]", self.of_file() + at);
                at += 1;
                let fault = errors
                    .0
                    .iter()
                    .find_map(|error| fault(error, &place, added));
                let fine = fault.is_none();
                left_out.extend(fault);
                fine
            });
            if kept.len() == before {
                return Ok(self.one_by_one(alone, &kept, left_out));
            }
        }
        Ok(Resolved {
            loaded: alone,
            left_out,
        })
    }

    /// For what breaks a rule of the file only together with it: each that does is left out.
    fn one_by_one(&self, alone: Loaded, added: &[&Added], left_out: Vec<LeftOut>) -> Resolved {
        let mut resolved = Resolved {
            loaded: alone,
            left_out,
        };
        let mut kept = Vec::new();
        for one in added {
            kept.push(*one);
            match self.with(&kept) {
                Ok(loaded) => resolved.loaded = loaded,
                Err(errors) => {
                    kept.pop();
                    resolved.left_out.push(LeftOut {
                        id: one.id.clone(),
                        path: String::new(),
                        message: errors.to_string(),
                    });
                }
            }
        }
        resolved
    }

    /// How many entries the file's own list has.
    fn of_file(&self) -> usize {
        match &self.base {
            Base::File { text, .. } => crate::entries(text),
            Base::Made(_) => 0,
        }
    }

    fn with(&self, added: &[&Added]) -> Result<Loaded, ConfigErrors> {
        let entries: Vec<&Value> = added.iter().map(|added| &added.entry).collect();
        let parse = |text: &str, name: &str| {
            parse_beside(text, name, &*self.env, Strictness::Strict, &entries)
        };
        match &self.base {
            Base::File { name, text } => parse(text, name),
            Base::Made(made) => {
                let beside = parse("", "")?.config;
                let mut loaded = (**made).clone();
                let config: &mut Config = &mut loaded.config;
                for (at, model) in beside.models.into_iter().enumerate() {
                    let twice =
                        |known: &crate::ModelEntry| known.deployment_id == model.deployment_id;
                    if config.models.iter().any(twice) {
                        return Err(ConfigErrors(vec![ConfigError {
                            file: String::new(),
                            line: 0,
                            path: format!("model_list[{at}].model_info.id"),
                            message: "is the id of another model".to_owned(),
                        }]));
                    }
                    config.models.push(model);
                }
                config.budgets.hold = config.budgets.hold.max(beside.budgets.hold);
                Ok(loaded)
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never its text: secrets stand in it.
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

/// An error as that of the entry at `place`, if it is.
fn fault(error: &ConfigError, place: &str, added: &Added) -> Option<LeftOut> {
    let path = error.path.strip_prefix(place)?;
    let path = path.strip_prefix('.').or(path.is_empty().then_some(path))?;
    Some(LeftOut {
        id: added.id.clone(),
        path: path.to_owned(),
        message: error.message.clone(),
    })
}

/// Calls `each` with the path and the value of everything in a model entry that must never be printed.
pub fn model_secrets(entry: &mut Value, each: &mut dyn FnMut(&str, &mut Value)) {
    walk(entry, &known::MODEL, "", each);
}

fn walk(value: &mut Value, kind: &Kind, path: &str, each: &mut dyn FnMut(&str, &mut Value)) {
    match (kind, value) {
        (_, Value::Null) => {}
        (Kind::Secret, value) => each(path, value),
        (Kind::Section(groups) | Kind::OpenSection(groups), Value::Object(fields)) => {
            for (name, value) in fields {
                let kind = known::find(groups, name).map(|setting: &Setting| &setting.kind);
                if let Some(kind) = kind {
                    walk(value, kind, &crate::tree::join(path, name), each);
                }
            }
        }
        (Kind::Map(kind), Value::Object(fields)) => {
            for (name, value) in fields {
                walk(value, kind, &crate::tree::join(path, name), each);
            }
        }
        (Kind::Either { mapping, .. }, value @ Value::Object(_)) => {
            walk(value, mapping, path, each)
        }
        (Kind::Either { other, .. }, value) => walk(value, other, path, each),
        (Kind::List(kind), Value::Array(items)) => {
            for (at, value) in items.iter_mut().enumerate() {
                walk(value, kind, &format!("{path}[{at}]"), each);
            }
        }
        (Kind::List(kind), value) => walk(value, kind, path, each),
        _ => {}
    }
}

//! Who is calling, once that is known: what the call is booked to and which limits it must pass.

use std::sync::{Arc, LazyLock};

use budgets::{Scope, ScopeKind};
use schemas::{Attribution, Micros, OrgId, Text};

use super::{Directory, KeyRecord, TeamRecord, UserRecord};
use crate::error::Error;

/// With which right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The master key: everything, within the global limits.
    Master,
    /// A virtual key: its models, within its limits.
    Key,
}

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Principal {
    pub role: Role,
    pub key: Option<Arc<KeyRecord>>,
    pub team: Option<Arc<TeamRecord>>,
    pub user: Option<Arc<UserRecord>>,
}

static GLOBAL: LazyLock<Text> = LazyLock::new(|| "global".into());
static MASTER: LazyLock<Text> = LazyLock::new(|| "master".into());

impl Principal {
    /// The holder of the master key.
    #[must_use]
    pub const fn master() -> Self {
        Self {
            role: Role::Master,
            key: None,
            team: None,
            user: None,
        }
    }

    /// What its calls are booked to, before the call's own tags and end user.
    #[must_use]
    pub fn attribution(&self) -> Attribution {
        let Some(key) = &self.key else {
            return Attribution {
                key_alias: Some(MASTER.clone()),
                ..Attribution::default()
            };
        };
        let org = key.organization_id.as_ref().or_else(|| {
            self.team
                .as_ref()
                .and_then(|team| team.organization_id.as_ref())
        });
        let mut tags = key.tags.clone();
        tags.extend(self.team.iter().flat_map(|team| team.tags.iter().cloned()));
        Attribution {
            org: org.map_or_else(OrgId::default, |org| OrgId(org.clone())),
            team: key.team_id.clone(),
            user: key.user_id.clone(),
            key: Some(key.hash),
            key_alias: key.key_alias.clone(),
            end_user: None,
            tags,
        }
    }

    /// The scopes that one reservation must pass, all or none: key, team, user, customer, global. `customer` is
    /// whom the call is made for.
    pub fn scopes(
        &self,
        directory: &Directory,
        customer: Option<&Text>,
        now: Micros,
        out: &mut Vec<Scope>,
    ) {
        let zone = &directory.zone;
        if let Some(key) = &self.key {
            let id = key
                .key_alias
                .clone()
                .unwrap_or_else(|| key.key_name.clone());
            out.push(
                key.quota
                    .scope(ScopeKind::Key, id, key.budget.clone(), now, zone),
            );
        }
        if let Some(team) = &self.team {
            let id = team
                .team_alias
                .clone()
                .unwrap_or_else(|| team.team_id.clone());
            out.push(
                team.quota
                    .scope(ScopeKind::Team, id, team.budget.clone(), now, zone),
            );
        }
        if let Some(user) = &self.user {
            let id = user.user_id.clone();
            out.push(
                user.quota
                    .scope(ScopeKind::User, id, user.budget.clone(), now, zone),
            );
        }
        let unknown = match (&self.user, &self.key) {
            (None, Some(key)) => key.user_id.as_ref(),
            _ => None,
        };
        if unknown.is_some() || customer.is_some() {
            let defaults = directory.defaults.load();
            if let (Some(id), Some(quota)) = (unknown, &defaults.user) {
                let budget = format!("user:{id}").into();
                out.push(quota.scope(ScopeKind::User, id.clone(), budget, now, zone));
            }
            if let (Some(id), Some(quota)) = (customer, &defaults.end_user) {
                let budget = format!("end_user:{id}").into();
                out.push(quota.scope(ScopeKind::Customer, id.clone(), budget, now, zone));
            }
        }
        let global = GLOBAL.clone();
        out.push(directory.global.load().scope(
            ScopeKind::Global,
            global.clone(),
            global,
            now,
            zone,
        ));
    }

    /// Which names this caller may ask for; `None`: all.
    #[must_use]
    pub fn models(&self) -> Option<&[Text]> {
        let own = self
            .key
            .as_ref()
            .map(|key| &key.models)
            .filter(|names| restricts(names));
        let team = self
            .team
            .as_ref()
            .map(|team| &team.models)
            .filter(|names| restricts(names));
        own.or(team).map(Vec::as_slice)
    }

    /// Whether the key or its team is limited to some models.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        let own = self.key.as_ref().map(|key| &key.models);
        let of_team = self.team.as_ref().map(|team| &team.models);
        [own, of_team]
            .into_iter()
            .flatten()
            .any(|names| restricts(names))
    }

    /// # Errors
    /// When the key, or its team, is limited to other models. Both must allow it.
    pub fn may_use(&self, model: &str) -> Result<(), Error> {
        let lists = [
            self.key.as_ref().map(|key| ("key", &key.models)),
            self.team.as_ref().map(|team| ("team", &team.models)),
        ];
        for (who, names) in lists
            .into_iter()
            .flatten()
            .filter(|(_, names)| restricts(names))
        {
            if !names.iter().any(|name| allows(name, model)) {
                return Err(Error::ModelNotAllowed {
                    who,
                    models: names.iter().map(ToString::to_string).collect(),
                    tried: model.to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// Whether a list limits anything. LiteLLM's words for "no limit of its own" count as empty.
fn restricts(names: &[Text]) -> bool {
    !names.is_empty()
        && !names
            .iter()
            .any(|name| matches!(&**name, "all-team-models" | "all-proxy-models" | "*"))
}

/// A name allows itself; a pattern with one `*` allows what it matches.
fn allows(name: &str, model: &str) -> bool {
    match name.split_once('*') {
        None => name == model,
        Some((head, tail)) => {
            model.len() >= head.len() + tail.len()
                && model.starts_with(head)
                && model.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(key: &[&str], team: &[&str]) -> Principal {
        let texts = |names: &[&str]| names.iter().map(|name| Text::from(*name)).collect();
        Principal {
            role: Role::Key,
            key: Some(Arc::new(KeyRecord {
                models: texts(key),
                ..KeyRecord::default()
            })),
            team: Some(Arc::new(TeamRecord {
                models: texts(team),
                ..TeamRecord::default()
            })),
            user: None,
        }
    }

    #[test]
    fn key_and_team_must_both_allow_a_model() {
        assert!(caller(&[], &[]).may_use("a").is_ok());
        assert!(caller(&["a"], &[]).may_use("a").is_ok());
        assert!(caller(&["a"], &[]).may_use("b").is_err());
        assert!(caller(&["a", "b"], &["b"]).may_use("a").is_err());
        assert!(caller(&["openai/*"], &[]).may_use("openai/gpt-4o").is_ok());
        assert!(caller(&["all-team-models"], &["b"]).may_use("b").is_ok());
        assert!(caller(&["all-team-models"], &["b"]).may_use("c").is_err());
    }
}

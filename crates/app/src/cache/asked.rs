//! What a call asks of the answer cache, and in whose name.

use cache_service::Controls;
use schemas::Attribution;
use serde::Deserialize;

/// Whose answers a caller may see: its team's, else its own; with `per_user` those alone that the same key asked
/// for in the name of the same user and customer. Quoted, so that no id can pass for another.
pub fn scope(who: &Attribution, per_user: bool) -> String {
    let org = &who.org.0;
    let mut scope = match (&who.team, &who.key) {
        (Some(team), _) => format!("org {org:?} team {team:?}"),
        (None, Some(key)) => format!("org {org:?} key {key}"),
        (None, None) => format!("org {org:?} master"),
    };
    if per_user {
        if let (Some(_), Some(key)) = (&who.team, &who.key) {
            scope.push_str(&format!(" key {key}"));
        }
        for (word, id) in [("user", &who.user), ("customer", &who.end_user)] {
            if let Some(id) = id {
                scope.push_str(&format!(" {word} {id:?}"));
            }
        }
    }
    scope
}

/// The body's `cache` object, with LiteLLM's names.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    ttl: Option<u64>,
    #[serde(rename = "s-maxage", alias = "s-max-age")]
    max_age: Option<u64>,
    #[serde(rename = "no-cache")]
    no_cache: bool,
    #[serde(rename = "no-store")]
    no_store: bool,
    #[serde(rename = "use-cache")]
    pub use_cache: bool,
    namespace: Option<String>,
}

impl Asked {
    /// What cannot be read asks for the careful thing: a fresh answer that is not kept.
    pub fn read(controls: Option<&str>) -> Self {
        match controls {
            None => Self::default(),
            Some(text) => serde_json::from_str(text).unwrap_or(Self {
                no_cache: true,
                no_store: true,
                ..Self::default()
            }),
        }
    }

    /// `ttl_s`: life of an answer where the call says none.
    pub fn controls(self, ttl_s: u64) -> Controls {
        Controls {
            no_cache: self.no_cache,
            no_store: self.no_store,
            ttl_s: self.ttl.or(Some(ttl_s)),
            max_age_s: self.max_age,
            threshold: None,
            namespace: self.namespace,
        }
    }
}

//! A request as the cache sees it: read once, before any entry is looked at.

use std::sync::Arc;

use serde_json::Value;

use crate::config::{CacheConfig, Controls, Mode, Policy, THRESHOLD_FLOOR};
use crate::eligibility::{self, Reason, Tier};
use crate::embed::Vector;
use crate::guards::Features;
use crate::json;
use crate::key::{self, Asked, Key};

/// A request.
#[derive(Clone, Debug)]
pub struct Lookup<'a> {
    /// The tenant, from the authenticated key only.
    pub scope: &'a str,
    /// The model that the request was resolved to.
    pub model: &'a str,
    /// The client's chat request as it came.
    pub body: &'a [u8],
    /// What the client asks of the cache.
    pub controls: Controls,
    /// What the operator allows.
    pub policy: &'a Policy,
}

/// A request, read once.
pub(crate) struct Prepared {
    pub(crate) scope: Arc<str>,
    pub(crate) key: Key,
    pub(crate) controls: Controls,
    pub(crate) threshold: f32,
    /// What the semantic tier works with; `None` with the reason why it is not used.
    pub(crate) question: Result<Question, Reason>,
}

pub(crate) struct Question {
    pub(crate) text: String,
    pub(crate) features: Features,
    pub(crate) vector: Option<Vector>,
}

/// Reads a request; an error is the reason to leave it alone.
pub(crate) fn prepare(config: &CacheConfig, lookup: &Lookup<'_>) -> Result<Prepared, Reason> {
    if lookup.policy.mode == Mode::Off {
        return Err(Reason::Off);
    }
    if lookup.body.len() > config.body_bytes_max {
        return Err(Reason::TooLarge);
    }
    let request = json::object(lookup.body).ok_or(Reason::Unreadable)?;
    let tier = eligibility::tier(&request, lookup.policy);
    let question = match tier {
        Tier::Bypass(reason) => return Err(reason),
        Tier::Exact(reason) => Err(reason),
        Tier::Semantic => key::question(&request)
            .ok_or(Reason::NotPlainText)
            .map(|text| Question {
                text: text.to_owned(),
                features: Features::of(text),
                vector: None,
            }),
    };
    let controls = merged(&lookup.controls, request.get("cache"));
    let key = key::key(Asked {
        scope: lookup.scope,
        model: lookup.model,
        revision: &lookup.policy.revision,
        namespace: controls.namespace.as_deref(),
        request: &request,
    });
    let base = lookup
        .policy
        .threshold
        .unwrap_or(config.threshold)
        .max(THRESHOLD_FLOOR);
    // A client may only ask for more likeness; NaN and the like change nothing.
    let threshold = controls
        .threshold
        .filter(|t| *t <= 1.0)
        .map_or(base, |t| t.max(base));
    Ok(Prepared {
        scope: lookup.scope.into(),
        key,
        controls,
        threshold,
        question,
    })
}

/// The client's headers, completed from the body's `cache` object (LiteLLM's shape). Of two ages the
/// smaller counts, of two wishes not to be cached each. The body's namespace is hashed by the key.
fn merged(controls: &Controls, body: Option<&Value>) -> Controls {
    let mut controls = controls.clone();
    let Some(body) = body else { return controls };
    let is = |name: &str| body.get(name) == Some(&Value::Bool(true));
    // Fractions of a second are cut, as LiteLLM does not have them.
    let seconds = |name: &str| {
        let v = body.get(name)?;
        v.as_u64()
            .or_else(|| v.as_f64().filter(|v| *v >= 0.0).map(|v| v as u64))
    };
    controls.no_cache |= is("no-cache");
    controls.no_store |= is("no-store");
    controls.ttl_s = controls.ttl_s.or_else(|| seconds("ttl"));
    for name in ["s-maxage", "s-max-age", "max-age"] {
        controls.max_age_s = match (controls.max_age_s, seconds(name)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    controls
}

//! The file's rules, ready for use at each failure.

use std::time::Duration;

use config::{FailureKind, Routing};

use crate::Failure;

/// Attempts of one request end here, whatever the settings add up to.
pub(crate) const ATTEMPTS_MAX: u32 = 32;
/// Retries where the file says nothing: at other deployments only.
const RETRIES_DEFAULT: u32 = 2;

/// `config::Routing`, asked by name.
#[derive(Debug, Clone, Default)]
pub struct Rules(pub Routing);

/// What a client says for its own request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `num_retries`, `x-litellm-num-retries`.
    pub retries: Option<u32>,
    /// `fallbacks` of the body: in the place of the general list.
    pub fallbacks: Option<Vec<String>>,
}

/// Which list of names follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    General,
    ContextWindow,
    ContentPolicy,
}

impl List {
    const ALL: [Self; 3] = [Self::General, Self::ContextWindow, Self::ContentPolicy];
}

impl Rules {
    /// Retries at the name asked for after a failure, and whether the same deployment may be among them.
    pub(crate) fn retries(
        &self,
        name: &str,
        kind: FailureKind,
        deployment: Option<u32>,
        overrides: &Overrides,
    ) -> (u32, bool) {
        let by_kind = self.by_kind(name, kind);
        if by_kind.is_none() && !Failure::of(kind).is_deployments() {
            return (0, false);
        }
        if let Some(count) = overrides.retries {
            return (count, true);
        }
        let count = by_kind
            .or_else(|| self.0.names.get(name).and_then(|own| own.retries))
            .or(deployment)
            .or(self.0.retries.count);
        count.map_or((RETRIES_DEFAULT, false), |count| (count, true))
    }

    fn by_kind(&self, name: &str, kind: FailureKind) -> Option<u32> {
        let own = self.0.names.get(name);
        own.and_then(|own| own.by_kind.get(&kind))
            .or_else(|| self.0.retries.by_kind.get(&kind))
            .copied()
    }

    /// Whether a retry policy speaks of this kind of failure.
    pub(crate) fn has_retries(&self, name: &str, kind: FailureKind) -> bool {
        self.by_kind(name, kind).is_some()
    }

    /// The least wait before a deployment is asked again.
    pub(crate) fn wait(&self, name: &str) -> Duration {
        let own = self.0.names.get(name).and_then(|own| own.wait);
        own.unwrap_or(self.0.retries.wait)
    }

    /// The list that follows a failure, if one does.
    pub(crate) fn list(&self, name: &str, failure: &Failure) -> Option<List> {
        let lists = &self.0.fallbacks;
        match failure.kind {
            FailureKind::ContextWindow if lists.context_window.contains_key(name) => {
                return Some(List::ContextWindow);
            }
            FailureKind::ContentPolicy if lists.content_policy.contains_key(name) => {
                return Some(List::ContentPolicy);
            }
            _ => {}
        }
        let follows = match &lists.on {
            Some(kinds) => kinds.contains(&failure.kind),
            // The caller's own mistake is one everywhere.
            None => failure.kind != FailureKind::BadRequest,
        };
        follows.then_some(List::General)
    }

    /// The names of a list.
    pub(crate) fn names<'a>(
        &'a self,
        name: &str,
        list: List,
        overrides: &'a Overrides,
    ) -> &'a [String] {
        let lists = &self.0.fallbacks;
        let found = match list {
            List::ContextWindow => lists.context_window.get(name),
            List::ContentPolicy => lists.content_policy.get(name),
            List::General => overrides
                .fallbacks
                .as_ref()
                .or_else(|| lists.general.get(name))
                .or_else(|| lists.general.get("*"))
                .or(Some(&lists.default)),
        };
        found.map_or(&[], Vec::as_slice)
    }

    /// Every name that may follow a name, whatever the failure.
    pub fn followers<'a>(
        &'a self,
        name: &'a str,
        overrides: &'a Overrides,
    ) -> impl Iterator<Item = &'a String> {
        List::ALL
            .into_iter()
            .flat_map(move |list| self.names(name, list, overrides))
    }

    /// `max_fallbacks`, and attempts at each of them.
    pub(crate) fn fallback_bounds(&self) -> (u32, u32) {
        let lists = &self.0.fallbacks;
        (lists.names_max, lists.attempts_each.max(1))
    }

    /// How many names may follow a name, for `x-litellm-max-fallbacks`.
    #[must_use]
    pub fn max_fallbacks(&self, name: &str, overrides: &Overrides) -> u32 {
        let names = self.names(name, List::General, overrides).len();
        u32::try_from(names)
            .unwrap_or(u32::MAX)
            .min(self.0.fallbacks.names_max)
    }

    /// The most attempts that a request for a name can make.
    #[must_use]
    pub fn attempts_max(
        &self,
        name: &str,
        of_deployments: Option<u32>,
        overrides: &Overrides,
    ) -> u32 {
        let retries = |own| {
            let by_kind = FailureKind::ALL.map(|kind| self.retries(name, kind, own, overrides).0);
            by_kind.into_iter().max().unwrap_or(0)
        };
        let retries = [retries(None), retries(of_deployments)];
        let retries = retries.into_iter().max().unwrap_or(0);
        let (names, each) = self.fallback_bounds();
        let longest = List::ALL
            .map(|list| self.names(name, list, overrides).len())
            .into_iter()
            .max()
            .unwrap_or(0);
        let names = names.min(u32::try_from(longest).unwrap_or(u32::MAX));
        retries
            .saturating_add(1)
            .saturating_add(names.saturating_mul(each))
            .min(ATTEMPTS_MAX)
    }
}

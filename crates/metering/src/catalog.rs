//! Every price that was ever in force: an append-only fold of the catalog's events.
//!
//! Holds all versions, so that an event is rated with the prices it was admitted under, however late.
//! Never edits an entry: a correction is an entry of a later version.

use std::collections::HashMap;
use std::sync::Arc;

use schemas::{CatalogEvent, Micros, PriceEntry, Text};

use crate::{Error, Price};

/// Which price is asked for: who calls, through what, and what served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceKey<'a> {
    pub org: &'a str,
    pub deployment: &'a str,
    pub provider: &'a str,
    pub model: &'a str,
}

/// Whom an entry is for; the later variant is the narrower one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Global,
    Org(Text),
    Deployment(Text),
}

impl Scope {
    fn read(entry: &PriceEntry) -> Result<Self, Error> {
        let id = |id: &str| (!id.is_empty()).then(|| Text::from(id));
        let scope = match entry.scope.split_once(':') {
            None if &*entry.scope == "global" => Some(Self::Global),
            Some(("org", org)) => id(org).map(Self::Org),
            Some(("deployment", deployment)) => id(deployment).map(Self::Deployment),
            _ => None,
        };
        scope.ok_or_else(|| Error::BadScope {
            provider: entry.provider.clone(),
            model: entry.model.clone(),
            scope: entry.scope.clone(),
        })
    }

    /// How narrowly it fits the key: 0 to 2, nothing when it does not.
    fn fits(&self, key: &PriceKey<'_>) -> Option<u8> {
        match self {
            Self::Global => Some(0),
            Self::Org(org) => (&**org == key.org).then_some(1),
            Self::Deployment(deployment) => (&**deployment == key.deployment).then_some(2),
        }
    }
}

/// An entry with the version that brought it.
#[derive(Debug, Clone)]
struct Held {
    since_version: u64,
    /// The version whose entry for the same scope and start stands in its place, whatever the span of that one.
    until_version: Option<u64>,
    scope: Scope,
    entry: PriceEntry,
    price: Price,
}

/// Entries of one model, oldest first: those of each deployment by itself, since a model may be served by
/// thousands with prices of their own, and every call asks for one.
#[derive(Debug, Clone, Default)]
struct History {
    /// Sorted by hash and name.
    own: Vec<Own>,
    /// For everyone, and by organisation.
    shared: Vec<Arc<Held>>,
}

/// Entries for one deployment.
#[derive(Debug, Clone)]
struct Own {
    /// Compared in place: a name lies elsewhere in memory.
    hash: u64,
    deployment: Text,
    entries: Vec<Arc<Held>>,
}

impl History {
    fn push(&mut self, held: Arc<Held>) {
        let list = match &held.scope {
            Scope::Deployment(deployment) => match self.place(deployment) {
                Ok(at) => &mut self.own[at].entries,
                Err(at) => {
                    let own = Own {
                        hash: hash(deployment),
                        deployment: deployment.clone(),
                        entries: Vec::new(),
                    };
                    self.own.insert(at, own);
                    &mut self.own[at].entries
                }
            },
            Scope::Global | Scope::Org(_) => &mut self.shared,
        };
        let replaced = list.iter_mut().rev().find(|known| {
            known.until_version.is_none()
                && known.scope == held.scope
                && known.entry.effective_from == held.entry.effective_from
        });
        if let Some(replaced) = replaced {
            Arc::make_mut(replaced).until_version = Some(held.since_version);
        }
        list.push(held);
    }

    fn place(&self, deployment: &str) -> Result<usize, usize> {
        let hash = hash(deployment);
        self.own.binary_search_by(|own| {
            let by_hash = own.hash.cmp(&hash);
            by_hash.then_with(|| (*own.deployment).cmp(deployment))
        })
    }

    fn of_deployment(&self, deployment: &str) -> &[Arc<Held>] {
        match self.own.as_slice() {
            [only] if *only.deployment == *deployment => &only.entries,
            [] | [_] => &[],
            many => self.place(deployment).map_or(&[], |at| &many[at].entries),
        }
    }

    /// Those among which all of a scope are.
    fn with(&self, scope: &Scope) -> &[Arc<Held>] {
        match scope {
            Scope::Deployment(deployment) => self.of_deployment(deployment),
            Scope::Global | Scope::Org(_) => &self.shared,
        }
    }

    fn lists(&self) -> impl Iterator<Item = &[Arc<Held>]> {
        let own = self.own.iter().map(|own| own.entries.as_slice());
        own.chain([self.shared.as_slice()])
    }
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Models of one provider; shared between versions that did not touch it.
type Models = Arc<HashMap<Text, History>>;

/// All prices, by version.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    version: u64,
    providers: HashMap<Text, Models>,
}

impl Catalog {
    /// The empty catalog, version 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The version of the last event applied.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The catalog after one more event; this one stays as it was.
    ///
    /// # Errors
    /// When the version does not rise, or an entry of the event is no good: then nothing of it applies.
    pub fn apply(&self, version: u64, event: &CatalogEvent) -> Result<Self, Error> {
        if version <= self.version {
            return Err(Error::VersionOrder {
                have: self.version,
                got: version,
            });
        }
        let mut next = self.clone();
        next.version = version;
        for entry in &event.entries {
            let held = Arc::new(Held::read(version, entry)?);
            let models = next.providers.entry(entry.provider.clone()).or_default();
            let history = Arc::make_mut(models)
                .entry(entry.model.clone())
                .or_default();
            history.push(held);
        }
        Ok(next)
    }

    /// Checks an entry before it is appended to the log.
    ///
    /// # Errors
    /// What [`Catalog::apply`] would say of it.
    pub fn check(entry: &PriceEntry) -> Result<(), Error> {
        Held::read(0, entry).map(drop)
    }

    /// The price in force at an instant, as known at a version.
    ///
    /// The narrowest scope that fits wins (deployment, organisation, global); in it, the newest entry.
    /// Allocates nothing.
    #[must_use]
    pub fn price(&self, key: &PriceKey<'_>, at: Micros, version: u64) -> Option<&Price> {
        let history = self.history(key.provider, key.model)?;
        let in_force = |held: &&Arc<Held>| {
            let span = &held.entry;
            held.since_version <= version
                && held.until_version.is_none_or(|until| version < until)
                && span.effective_from <= at
                && span.effective_to.is_none_or(|end| at < end)
        };
        let own = history.of_deployment(key.deployment);
        if let Some(held) = own.iter().rev().find(in_force) {
            return Some(&held.price);
        }
        let mut best: Option<(u8, &Price)> = None;
        for held in history.shared.iter().rev().filter(in_force) {
            let Some(narrowness) = held.scope.fits(key) else {
                continue;
            };
            if best.is_none_or(|(known, _)| narrowness > known) {
                best = Some((narrowness, &held.price));
            }
        }
        best.map(|(_, price)| price)
    }

    /// Those of the wanted entries that must be appended to bring them into force: new ones, and ones
    /// whose prices, limits or span differ from the newest entry for the same scope, model and start.
    #[must_use]
    pub fn changes(&self, wanted: &[PriceEntry]) -> Vec<PriceEntry> {
        let stands = |entry: &PriceEntry| {
            self.newest(entry, |known| known.effective_from == entry.effective_from)
                .is_some_and(|known| same(known, entry))
        };
        wanted.iter().filter(|e| !stands(e)).cloned().collect()
    }

    /// What ends the prices that deployments stated and no longer do: of the ids that `is_of` knows, those in force
    /// at `now` that a configuration brought (`source`) and that are not among the stated ones.
    #[must_use]
    pub fn ended(
        &self,
        is_of: impl Fn(&str) -> bool,
        source: &str,
        stated: &[PriceEntry],
        now: Micros,
    ) -> Vec<PriceEntry> {
        let own = |entry: &&PriceEntry| {
            let id = entry.scope.strip_prefix("deployment:");
            id.is_some_and(&is_of) && *entry.source == *source
        };
        let in_force = |entry: &&PriceEntry| {
            entry.effective_from < now && entry.effective_to.is_none_or(|end| now < end)
        };
        let is_stated = |entry: &PriceEntry| {
            stated.iter().any(|other| {
                (&other.scope, &other.provider, &other.model)
                    == (&entry.scope, &entry.provider, &entry.model)
            })
        };
        self.entries()
            .filter(own)
            .filter(in_force)
            .filter(|entry| !is_stated(entry))
            .map(|entry| PriceEntry {
                effective_to: Some(now),
                ..entry.clone()
            })
            .collect()
    }

    /// Those of our own entries ([`crate::builtin`]) that must be appended: models that nobody priced, and
    /// ones whose newest entry is an older one of ours. What people set or imported stands.
    #[must_use]
    pub fn builtin_changes(&self, builtin: &[PriceEntry]) -> Vec<PriceEntry> {
        let stands = |entry: &PriceEntry| {
            self.newest(entry, |_| true)
                .is_some_and(|known| !is_builtin(known) || same(known, entry))
        };
        builtin.iter().filter(|e| !stands(e)).cloned().collect()
    }

    /// The newest entry of every scope and model, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &PriceEntry> {
        let histories = self.providers.values().flat_map(|models| models.values());
        histories.flat_map(History::lists).flat_map(|list| {
            list.iter().enumerate().filter_map(|(at, held)| {
                let later = &list[at + 1..];
                let replaced = later.iter().any(|other| other.scope == held.scope);
                (!replaced).then_some(&held.entry)
            })
        })
    }

    /// The newest entry for everyone of one model.
    #[must_use]
    pub fn newest_global(&self, provider: &str, model: &str) -> Option<&PriceEntry> {
        let mut history = self.history(provider, model)?.shared.iter().rev();
        let found = history.find(|held| held.scope == Scope::Global);
        found.map(|held| &held.entry)
    }

    fn history(&self, provider: &str, model: &str) -> Option<&History> {
        self.providers.get(provider)?.get(model)
    }

    fn newest(&self, like: &PriceEntry, also: impl Fn(&PriceEntry) -> bool) -> Option<&PriceEntry> {
        // An entry without a scope that can be read is never held.
        let scope = Scope::read(like).ok()?;
        self.history(&like.provider, &like.model)?
            .with(&scope)
            .iter()
            .rev()
            .map(|held| &held.entry)
            .find(|entry| entry.scope == like.scope && also(entry))
    }
}

impl Held {
    fn read(since_version: u64, entry: &PriceEntry) -> Result<Self, Error> {
        if entry
            .effective_to
            .is_some_and(|end| end <= entry.effective_from)
        {
            return Err(Error::EmptySpan {
                provider: entry.provider.clone(),
                model: entry.model.clone(),
            });
        }
        Ok(Self {
            since_version,
            until_version: None,
            scope: Scope::read(entry)?,
            price: Price::try_from(entry)?,
            entry: entry.clone(),
        })
    }
}

/// Starts the `source` of every entry that ships with us.
pub(crate) const BUILTIN_SOURCE: &str = "built-in: ";

fn is_builtin(entry: &PriceEntry) -> bool {
    entry.source.starts_with(BUILTIN_SOURCE)
}

/// Whether two entries mean the same, however their prices are written and wherever they were read.
fn same(a: &PriceEntry, b: &PriceEntry) -> bool {
    a.effective_from == b.effective_from
        && a.effective_to == b.effective_to
        && match (Price::try_from(a), Price::try_from(b)) {
            (Ok(a), Ok(b)) => a.means(&b),
            _ => a == b,
        }
}

//! Which deployments stand behind a name.

mod deployment;
mod list;
mod served;

use std::collections::HashMap;
use std::sync::Arc;

use config::{Config, Dialect, ModelEntry, Strategy};
use parking_lot::RwLock;
use routing::{Member, Rules};
use schemas::Text;

use crate::Error;
use crate::upstream::Peer;

pub use deployment::Deployment;
pub(crate) use deployment::without_userinfo;
pub use list::list;
pub use served::{Served, Shown, Target};

/// Deployments that share a name.
pub type Group = routing::Group<Arc<Served>>;

/// Names that clients make up for a pattern are kept up to this many.
const MADE_MAX: usize = 1_024;

/// A name with a `*`.
#[derive(Debug)]
struct Pattern {
    name: String,
    deployments: Vec<Arc<Deployment>>,
}

/// All deployments by the name that clients ask for, with the settings that they were made under: what a
/// call takes when it begins, and goes by to its end.
#[derive(Debug, Default)]
pub struct Models {
    pub config: Arc<Config>,
    pub rules: Arc<Rules>,
    /// By name, sorted: found by comparing, which for names is cheaper than hashing.
    groups: Vec<(Text, Arc<Group>)>,
    /// The most specific first.
    patterns: Vec<Pattern>,
    /// Groups that were made for names of a pattern.
    made: RwLock<HashMap<Text, Arc<Group>>>,
    /// In the order of the file.
    names: Vec<(Text, Text)>,
    /// Every deployment with a name of its own, where a threshold may send a call to any.
    everything: Option<Arc<Group>>,
    /// No rule looks at requests.
    plain: bool,
    by_capability: bool,
    deployments: Vec<(Text, Arc<Deployment>)>,
}

impl Models {
    /// # Errors
    /// An entry whose URL or header values cannot be sent; the message names the entry.
    pub fn new(config: &Arc<Config>) -> Result<Self, Error> {
        Self::after(config, None)
    }

    /// Those of another configuration. Deployments that it does not change keep their state, their counters
    /// and their connections.
    ///
    /// # Errors
    /// As [`Models::new`].
    pub fn after(config: &Arc<Config>, before: Option<&Self>) -> Result<Self, Error> {
        let rules = Arc::new(Rules(config.routing.clone()));
        let mut models = Self {
            config: config.clone(),
            rules: rules.clone(),
            ..Self::default()
        };
        let mut served: Vec<(Text, Vec<Arc<Served>>)> = Vec::new();
        let known: HashMap<&str, &Arc<Deployment>> = before
            .into_iter()
            .flat_map(Self::deployments)
            .map(|(_, deployment)| (&*deployment.id, deployment))
            .collect();
        // Deployments at one host share its connections.
        let mut peers: Vec<Arc<Peer>> = Vec::new();
        for peer in known.values().filter_map(|known| known.peer.clone()) {
            if !peers.iter().any(|other| Arc::ptr_eq(other, &peer)) {
                peers.push(peer);
            }
        }
        for entry in &config.models {
            let known = known.get(entry.deployment_id.as_str());
            let deployment = Deployment::after(entry, known.copied(), &mut peers)?;
            let name: Text = entry.model_name.as_str().into();
            if !models.names.iter().any(|(known, _)| *known == name) {
                models
                    .names
                    .push((name.clone(), deployment.provider.clone()));
            }
            models.deployments.push((name.clone(), deployment.clone()));
            if entry.is_wildcard() {
                let known = models.patterns.iter_mut();
                match known
                    .into_iter()
                    .find(|known| known.name == entry.model_name)
                {
                    Some(known) => known.deployments.push(deployment),
                    None => models.patterns.push(Pattern {
                        name: entry.model_name.clone(),
                        deployments: vec![deployment],
                    }),
                }
                continue;
            }
            let shown = match served.iter().find(|(known, _)| *known == name) {
                Some((_, same)) => same.first().map(|one| one.shown.clone()),
                None => None,
            };
            let shown = shown.unwrap_or_else(|| Arc::new(Shown::new(&name)));
            let one = Arc::new(Served::new(deployment, &entry.upstream_model, shown)?);
            match served.iter_mut().find(|(known, _)| *known == name) {
                Some((_, same)) => same.push(one),
                None => served.push((name, vec![one])),
            }
        }
        models.group(config, &rules, &served);
        let routing = &config.routing;
        models.list_aliases(config);
        let strategies = [Some(routing.strategy), routing.then];
        models.by_capability = strategies.contains(&Some(Strategy::Capability))
            || config.models.iter().any(|m| !m.hints.lacks.is_empty());
        models.plain = !models.by_capability
            && !strategies.contains(&Some(Strategy::Cost))
            && !routing.tag_filtering
            && !routing.pre_call_checks
            && !routing.sticky_sessions
            && models.everything.is_none();
        models
            .patterns
            .sort_by_key(|pattern| std::cmp::Reverse(pattern.name.len()));
        Ok(models)
    }

    fn group(&mut self, config: &Config, rules: &Rules, served: &[(Text, Vec<Arc<Served>>)]) {
        let routing = &config.routing;
        let in_pool = |name: &str| routing.weights.contains_key(name);
        for (name, same) in served.iter().filter(|(name, _)| !in_pool(name)) {
            let group = Group::new(name.clone(), members(same), rules, None);
            self.groups.push((name.clone(), Arc::new(group)));
        }
        self.pool(config, rules, served);
        let targets: Vec<(Text, Arc<Group>)> = routing
            .aliases
            .iter()
            .filter_map(|(alias, target)| {
                let known = self.groups.iter().find(|(name, _)| **name == **target);
                Some((alias.as_str().into(), known?.1.clone()))
            })
            .filter(|(alias, _)| !self.groups.iter().any(|(name, _)| name == alias))
            .collect();
        self.groups.extend(targets);
        self.groups.sort_by(|(a, _), (b, _)| a.cmp(b));
        if routing.cost_threshold.is_some() || routing.context_threshold.is_some() {
            let all: Vec<Arc<Served>> = served.iter().flat_map(|(_, same)| same.clone()).collect();
            let group = Group::new("*".into(), members(&all), rules, None);
            self.everything = Some(Arc::new(group));
        }
    }

    /// Names for other names are shown as those are, but for hidden ones and what is a name itself.
    fn list_aliases(&mut self, config: &Config) {
        let routing = &config.routing;
        for (alias, target) in &routing.aliases {
            if routing.hidden.contains(alias)
                || self.names.iter().any(|(name, _)| **name == **alias)
            {
                continue;
            }
            if let Some((entry, _)) = config.deployments(target).first() {
                let name: Text = alias.as_str().into();
                self.names.push((name, entry.provider.as_str().into()));
            }
        }
    }

    /// The names with weights: each of them is answered by all, in these shares. So is the model that they
    /// all stand for, where no entry has its name.
    fn pool(&mut self, config: &Config, rules: &Rules, served: &[(Text, Vec<Arc<Served>>)]) {
        let weights = &config.routing.weights;
        let pooled: Vec<_> = served
            .iter()
            .filter_map(|(name, same)| Some((name, same, *weights.get(&**name)?)))
            .collect();
        let shares: Vec<f64> = pooled
            .iter()
            .flat_map(|(_, same, share)| same.iter().map(move |_| share / same.len() as f64))
            .collect();
        let all: Vec<Arc<Served>> = pooled
            .iter()
            .flat_map(|(_, same, _)| same.iter().cloned())
            .collect();
        let Some(first) = all.first() else {
            return;
        };
        let group = Arc::new(Group::new(
            first.shown.name.clone(),
            members(&all),
            rules,
            Some(&shares),
        ));
        let one_model = all
            .iter()
            .all(|one| one.upstream_model == first.upstream_model);
        for (name, _, _) in &pooled {
            self.groups.push(((*name).clone(), group.clone()));
        }
        let model = first.upstream_model.clone();
        if one_model && !self.groups.iter().any(|(name, _)| *name == model) {
            self.groups.push((model, group));
        }
    }

    /// What stands behind a name.
    ///
    /// # Errors
    /// [`Error::UnknownModel`].
    pub fn find(&self, requested: &str) -> Result<Arc<Group>, Error> {
        let found = self
            .groups
            .binary_search_by(|(name, _)| (**name).cmp(requested));
        if let Some((_, group)) = found.ok().and_then(|at| self.groups.get(at)) {
            return Ok(group.clone());
        }
        if !self.patterns.is_empty() {
            if let Some(group) = self.made.read().get(requested) {
                return Ok(group.clone());
            }
            if let Some(group) = self.make(requested)? {
                return Ok(group);
            }
        }
        Err(Error::UnknownModel {
            model: requested.to_owned(),
        })
    }

    /// A group for a name that a pattern answers for, be it as another name.
    fn make(&self, requested: &str) -> Result<Option<Arc<Group>>, Error> {
        let aliases = &self.config.routing.aliases;
        let target = aliases.get(requested).map_or(requested, String::as_str);
        for pattern in &self.patterns {
            let shown = Arc::new(Shown::new(requested));
            let served: Vec<Arc<Served>> = pattern
                .deployments
                .iter()
                .filter_map(|deployment| {
                    let model = deployment.entry.serves(target)?;
                    Some(Served::new(deployment.clone(), &model, shown.clone()).map(Arc::new))
                })
                .collect::<Result<_, _>>()?;
            if served.is_empty() {
                continue;
            }
            let group = Group::new(requested.into(), members(&served), &self.rules, None);
            let group = Arc::new(group);
            let mut made = self.made.write();
            if made.len() >= MADE_MAX {
                made.clear();
            }
            made.insert(requested.into(), group.clone());
            return Ok(Some(group));
        }
        Ok(None)
    }

    /// Where thresholds send calls; none without thresholds.
    #[must_use]
    pub const fn everything(&self) -> Option<&Arc<Group>> {
        self.everything.as_ref()
    }

    /// Whether no rule looks at requests.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether what a request needs decides who may serve it.
    #[must_use]
    pub const fn steers_by_capability(&self) -> bool {
        self.by_capability
    }

    /// Every deployment with the name that clients call it by, in the order of the file.
    pub fn deployments(&self) -> impl Iterator<Item = (&Text, &Arc<Deployment>)> {
        self.deployments
            .iter()
            .map(|(name, deployment)| (name, deployment))
    }
}

/// What can be called; all of it where nothing can, so that the refusal has a reason.
fn members(served: &[Arc<Served>]) -> Vec<Member<Arc<Served>>> {
    let callable =
        |one: &&Arc<Served>| !matches!(one.deployment.entry.dialect, Dialect::Unsupported(_));
    let any = served.iter().any(|one| callable(&one));
    served
        .iter()
        .filter(|one| !any || callable(one))
        .map(|one| Member {
            deployment: one.deployment.state.clone(),
            served: one.clone(),
        })
        .collect()
}

/// Whether an entry of this kind can be called as it stands.
///
/// # Errors
/// As [`Models::new`].
pub fn check(entry: &ModelEntry) -> Result<(), Error> {
    let deployment = Arc::new(Deployment::new(entry, &mut Vec::new())?);
    let shown = Arc::new(Shown::new(&entry.model_name));
    Served::new(deployment, &entry.upstream_model, shown).map(drop)
}

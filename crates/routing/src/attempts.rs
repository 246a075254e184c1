//! The plan of one request: who is asked first, and what follows each failure.
//!
//! Attempts only ever add up: those at the name that was asked for, then at most so many at each of at most
//! so many other names. A name's own lists are followed for the request's name only, so nothing nests.

use std::sync::Arc;
use std::time::Duration;

use crate::group::is_among;
use crate::rules::{ATTEMPTS_MAX, List};
use crate::score::mix;
use crate::{Ask, Deployment, Failure, Group, Moment, NoChoice, Overrides, Rules};

/// The longest wait before another attempt; a provider that wants more is given up.
const WAIT_MAX: Duration = Duration::from_secs(60);
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(8);

/// Finds the group of another name, if the caller may use it.
pub type Lookup<'a, T> = &'a dyn Fn(&str) -> Option<Arc<Group<T>>>;

/// One request on its way through the deployments.
#[derive(Debug)]
pub struct Attempts<T> {
    rules: Arc<Rules>,
    overrides: Overrides,
    asked: Arc<Group<T>>,
    /// Where thresholds send the first attempt.
    elsewhere: Option<Arc<Group<T>>>,
    deadline: Moment,
    place: Place,
    group: Arc<Group<T>>,
    at: usize,
    /// Another attempt at the same name, on its way at the same time.
    aside: Option<usize>,
    made: u32,
    made_here: u32,
    /// Which list is followed, and its next name.
    list: Option<List>,
    next: usize,
    names: u32,
    tried: Vec<Arc<Deployment>>,
}

/// Where an attempt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where a threshold sends it.
    Elsewhere,
    /// To the name that was asked for.
    Asked,
    /// To a name of a fallback list.
    Fallback,
}

/// What comes next.
#[derive(Debug)]
pub enum Step<T> {
    Try(Try<T>),
    GiveUp(GiveUp),
}

/// One attempt.
#[derive(Debug)]
pub struct Try<T> {
    pub group: Arc<Group<T>>,
    /// Place among the group's members.
    pub at: usize,
    pub place: Place,
    /// To be waited for first.
    pub after: Duration,
    /// From 1.
    pub number: u32,
}

/// Why nothing comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// The last failure is the answer.
    Failed,
    /// Nothing was tried.
    None(NoChoice),
}

impl<T> Attempts<T> {
    /// A request for the name of `asked` that ends by `deadline`.
    #[must_use]
    pub fn new(
        rules: Arc<Rules>,
        asked: Arc<Group<T>>,
        elsewhere: Option<Arc<Group<T>>>,
        overrides: Overrides,
        deadline: Moment,
    ) -> Self {
        Self {
            rules,
            overrides,
            elsewhere,
            deadline,
            place: Place::Asked,
            group: asked.clone(),
            asked,
            at: 0,
            aside: None,
            made: 0,
            made_here: 0,
            list: None,
            next: 0,
            names: 0,
            tried: Vec::new(),
        }
    }

    /// The first attempt.
    pub fn first(
        &mut self,
        ask: &Ask<'_, T>,
        now: Moment,
        random: u64,
        lookup: Lookup<'_, T>,
    ) -> Step<T> {
        if let Some(elsewhere) = self.elsewhere.clone()
            && let Ok(at) = elsewhere.choose(ask, &self.rules, &[], now, random)
        {
            return self.go(Place::Elsewhere, elsewhere, at, Duration::ZERO);
        }
        self.begin(ask, now, random, lookup)
    }

    /// At the name that was asked for.
    fn begin(
        &mut self,
        ask: &Ask<'_, T>,
        now: Moment,
        random: u64,
        lookup: Lookup<'_, T>,
    ) -> Step<T> {
        // Thresholds have had their way.
        let ask = &Ask {
            class: crate::Class::Ordinary,
            ..*ask
        };
        let none = match self
            .asked
            .choose(ask, &self.rules, &self.tried, now, random)
        {
            Ok(at) => return self.go(Place::Asked, self.asked.clone(), at, Duration::ZERO),
            Err(none) => none,
        };
        let list = match none {
            NoChoice::TooLong { .. } => {
                let failure = Failure::of(config::FailureKind::ContextWindow);
                self.rules.list(&self.asked.name, &failure)
            }
            NoChoice::Cooled { .. } | NoChoice::Tried => Some(List::General),
            NoChoice::Tags | NoChoice::Region | NoChoice::Unfit => None,
        };
        if let Some(step) = list.and_then(|list| self.other_name(list, ask, now, random, lookup)) {
            return step;
        }
        Step::GiveUp(if self.made == 0 {
            GiveUp::None(none)
        } else {
            GiveUp::Failed
        })
    }

    /// The present attempt failed after `took`: counts that against its deployment and says what is next.
    pub fn failed(
        &mut self,
        failure: &Failure,
        took: Duration,
        ask: &Ask<'_, T>,
        now: Moment,
        random: u64,
        lookup: Lookup<'_, T>,
    ) -> Step<T> {
        let Some(deployment) = self.deployment().cloned() else {
            return Step::GiveUp(GiveUp::Failed);
        };
        let rules = self.rules.clone();
        let alone = self.group.is_alone();
        deployment.failed(failure, took, &rules.0.cooldown, alone, now);
        if !is_among(&self.tried, &deployment) {
            self.tried.push(deployment.clone());
        }
        if self.made >= self.budget() || now >= self.deadline {
            return Step::GiveUp(GiveUp::Failed);
        }
        if self.place == Place::Elsewhere {
            let step = self.begin(ask, now, random, lookup);
            return step;
        }
        if let Some(step) = self.again(&deployment, failure, ask, now, random) {
            return step;
        }
        rules
            .list(&self.asked.name, failure)
            .and_then(|list| self.other_name(list, ask, now, random, lookup))
            .unwrap_or(Step::GiveUp(GiveUp::Failed))
    }

    /// The present attempt broke off when its answer had begun to reach the client: it counts against its
    /// deployment, and nothing follows.
    pub fn broke(&self, failure: &Failure, took: Duration, now: Moment) {
        if let Some(deployment) = self.deployment() {
            let alone = self.group.is_alone();
            deployment.failed(failure, took, &self.rules.0.cooldown, alone, now);
        }
    }

    /// The present attempt is slow: another one at the same name goes out beside it, where the budget has one
    /// more and a deployment is left. It is the one aside until [`Attempts::swap`].
    pub fn hedge(&mut self, ask: &Ask<'_, T>, now: Moment, random: u64) -> Option<Try<T>> {
        if self.aside.is_some() || self.made >= self.budget() || now >= self.deadline {
            return None;
        }
        let mut known = self.tried.clone();
        known.push(self.deployment()?.clone());
        let group = self.group.clone();
        let at = group.choose(ask, &self.rules, &known, now, random).ok()?;
        self.made += 1;
        self.made_here += 1;
        self.aside = Some(at);
        Some(Try {
            group,
            at,
            place: self.place,
            after: Duration::ZERO,
            number: self.made,
        })
    }

    /// The attempt aside was not sent after all.
    pub fn unhedge(&mut self) {
        if self.aside.take().is_some() {
            self.made -= 1;
            self.made_here -= 1;
        }
    }

    /// The attempt aside is the present one, and the other way round.
    pub fn swap(&mut self) {
        if let Some(aside) = &mut self.aside {
            std::mem::swap(aside, &mut self.at);
        }
    }

    /// The attempt aside is over after `took`: it failed, or was given up for the other one's answer.
    pub fn aside_over(&mut self, failure: Option<&Failure>, took: Duration, now: Moment) {
        let Some(at) = self.aside.take() else { return };
        let Some(member) = self.group.members().get(at) else {
            return;
        };
        let deployment = member.deployment.clone();
        match failure {
            None => deployment.outrun(took, now),
            Some(failure) => {
                let alone = self.group.is_alone();
                deployment.failed(failure, took, &self.rules.0.cooldown, alone, now);
            }
        }
        if !is_among(&self.tried, &deployment) {
            self.tried.push(deployment);
        }
    }

    /// The chosen deployment has no room (its own limits): another one, as if it had not been chosen.
    pub fn full(
        &mut self,
        ask: &Ask<'_, T>,
        now: Moment,
        random: u64,
        lookup: Lookup<'_, T>,
    ) -> Step<T> {
        if let Some(deployment) = self.deployment().cloned() {
            self.tried.push(deployment);
        }
        self.made = self.made.saturating_sub(1);
        self.made_here = self.made_here.saturating_sub(1);
        if self.place == Place::Elsewhere {
            return self.begin(ask, now, random, lookup);
        }
        let (group, place) = (self.group.clone(), self.place);
        if let Ok(at) = group.choose(ask, &self.rules, &self.tried, now, random) {
            return self.go(place, group, at, Duration::ZERO);
        }
        self.other_name(List::General, ask, now, random, lookup)
            .unwrap_or(Step::GiveUp(GiveUp::Failed))
    }

    /// Another attempt at the present name.
    fn again(
        &mut self,
        deployment: &Deployment,
        failure: &Failure,
        ask: &Ask<'_, T>,
        now: Moment,
        random: u64,
    ) -> Option<Step<T>> {
        let group = self.group.clone();
        let (retries, same) = match self.place {
            Place::Fallback => {
                let (_, each) = self.rules.fallback_bounds();
                (each - 1, each > 1)
            }
            Place::Asked | Place::Elsewhere => self.rules.retries(
                &group.name,
                failure.kind,
                deployment.spec.retries,
                &self.overrides,
            ),
        };
        if self.made_here > retries {
            return None;
        }
        if failure.is_deployments()
            && let Ok(at) = group.choose(ask, &self.rules, &self.tried, now, random)
        {
            return Some(self.go(self.place, group, at, Duration::ZERO));
        }
        if !same || !(failure.may_pass() || self.rules.has_retries(&group.name, failure.kind)) {
            return None;
        }
        let wait = self
            .rules
            .wait(&group.name)
            .max(failure.retry_after.unwrap_or_default())
            .max(backoff(self.made_here, random));
        if wait > WAIT_MAX || now.plus(wait) >= self.deadline {
            return None;
        }
        // Those whose cooldown is over by then.
        let at = group
            .choose(ask, &self.rules, &[], now.plus(wait), random)
            .ok()?;
        Some(self.go(self.place, group, at, wait))
    }

    /// The first attempt at the next name of a list.
    fn other_name(
        &mut self,
        list: List,
        ask: &Ask<'_, T>,
        now: Moment,
        random: u64,
        lookup: Lookup<'_, T>,
    ) -> Option<Step<T>> {
        if self.list != Some(list) {
            (self.list, self.next) = (Some(list), 0);
        }
        let rules = self.rules.clone();
        let (names_max, _) = rules.fallback_bounds();
        while self.names < names_max {
            let names = rules.names(&self.asked.name, list, &self.overrides);
            let name = names.get(self.next)?;
            self.next += 1;
            if **name == *self.asked.name {
                continue;
            }
            let Some(group) = lookup(name) else { continue };
            if let Ok(at) = group.choose(ask, &rules, &self.tried, now, random) {
                self.names += 1;
                self.made_here = 0;
                return Some(self.go(Place::Fallback, group, at, Duration::ZERO));
            }
        }
        None
    }

    fn go(&mut self, place: Place, group: Arc<Group<T>>, at: usize, after: Duration) -> Step<T> {
        if place != self.place {
            self.made_here = 0;
        }
        self.made += 1;
        self.made_here += 1;
        self.place = place;
        self.group = group.clone();
        self.at = at;
        Step::Try(Try {
            group,
            at,
            place,
            after,
            number: self.made,
        })
    }

    fn deployment(&self) -> Option<&Arc<Deployment>> {
        (self.made > 0).then_some(())?;
        self.group.members().get(self.at).map(|m| &m.deployment)
    }

    /// The most attempts that the request may make.
    #[must_use]
    pub fn budget(&self) -> u32 {
        let of_deployments = self
            .asked
            .members()
            .iter()
            .filter_map(|member| member.deployment.spec.retries)
            .max();
        self.rules
            .attempts_max(&self.asked.name, of_deployments, &self.overrides)
            .saturating_add(u32::from(self.elsewhere.is_some()))
            .min(ATTEMPTS_MAX)
    }

    #[must_use]
    pub const fn made(&self) -> u32 {
        self.made
    }

    /// `x-litellm-attempted-retries`: attempts that were neither the first nor the first at another name.
    #[must_use]
    pub const fn retries(&self) -> u32 {
        self.made.saturating_sub(1).saturating_sub(self.names)
    }

    /// `x-litellm-attempted-fallbacks`: other names that were tried.
    #[must_use]
    pub const fn fallbacks(&self) -> u32 {
        self.names
    }

    #[must_use]
    pub const fn deadline(&self) -> Moment {
        self.deadline
    }

    #[must_use]
    pub fn asked(&self) -> &Arc<Group<T>> {
        &self.asked
    }

    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }
}

/// Twice as long each time, from half to the whole of it at random.
fn backoff(made: u32, random: u64) -> Duration {
    let doubled = BACKOFF_FIRST.saturating_mul(1 << made.saturating_sub(1).min(8));
    let whole = doubled.min(BACKOFF_MAX);
    let unit = (mix(random) >> 11) as f64 / (1_u64 << 53) as f64;
    whole.mul_f64(0.5 + unit / 2.0)
}

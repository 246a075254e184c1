//! Deployments behind one name, and the choice of one of them.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use config::Strategy;
use schemas::Text;

use crate::schedule::schedule;
use crate::score::{mix, of_class, same, score, sticky};
use crate::{Ask, Class, Deployment, Member, Moment, Probe, Rules};

/// Groups up to this size are looked at whole for every choice.
const LOOKED_AT_WHOLE: usize = 64;
/// Of larger ones so many members, taken at random.
const SAMPLE: u64 = 32;

/// Why none can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoChoice {
    /// Every one that would do is left alone until then.
    Cooled { until: Moment },
    /// Every one that would do has been tried.
    Tried,
    /// The prompt fits no window; the largest has so many tokens.
    TooLong { window: u64 },
    /// None has the tags.
    Tags,
    /// None is in the region.
    Region,
    /// None can do what the call needs, or the caller may use none.
    Unfit,
}

/// Deployments that share a name.
#[derive(Debug)]
pub struct Group<T> {
    pub name: Text,
    strategy: Strategy,
    then: Option<Strategy>,
    members: Vec<Member<T>>,
    weights: Vec<f64>,
    /// Sums of the weights, for drawing one.
    sums: Vec<f64>,
    /// Members by turn, for round robin.
    turns: Vec<u32>,
    turn: AtomicUsize,
    /// The best of the last sample.
    best: AtomicUsize,
    /// Whether a draw needs no more than a look at health: no orders, tags or regions.
    plain: bool,
}

impl<T> Group<T> {
    /// A group under the file's rules. `weights`, where given, are in the order of the members.
    #[must_use]
    pub fn new(
        name: Text,
        members: Vec<Member<T>>,
        rules: &Rules,
        weights: Option<&[f64]>,
    ) -> Self {
        let strategy = match weights {
            Some(_) if rules.0.strategy == Strategy::SimpleShuffle => Strategy::WeightedRoundRobin,
            _ => rules.0.strategy,
        };
        let weights = weights.map_or_else(|| weights_of(&members), <[f64]>::to_vec);
        let sums = weights
            .iter()
            .scan(0.0, |sum, weight| {
                *sum += weight.max(0.0);
                Some(*sum)
            })
            .collect();
        let first = members.first().map_or(0, |m| m.deployment.spec.order);
        let plain = !rules.0.tag_filtering
            && !rules.0.health.steer
            && rules.0.latency_threshold.is_none()
            && members.iter().all(|m| m.deployment.spec.order == first);
        let turns = match strategy {
            Strategy::WeightedRoundRobin if members.len() > 1 => schedule(&weights),
            _ => Vec::new(),
        };
        Self {
            name,
            strategy,
            then: rules.0.then,
            members,
            weights,
            sums,
            turns,
            turn: AtomicUsize::new(0),
            best: AtomicUsize::new(0),
            plain,
        }
    }

    #[must_use]
    pub fn members(&self) -> &[Member<T>] {
        &self.members
    }

    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.members.len() == 1
    }

    /// Takes a member for a call. `tried` are those that this request has been to.
    ///
    /// One that is alone is taken even while it cools down: nothing better is known, and its answer is
    /// more use than ours. Of several, never one that cools down.
    ///
    /// # Errors
    /// Why none will do.
    pub fn choose(
        &self,
        ask: &Ask<'_, T>,
        rules: &Rules,
        tried: &[Arc<Deployment>],
        now: Moment,
        random: u64,
    ) -> Result<usize, NoChoice> {
        if let [only] = self.members.as_slice() {
            return match self.fit(only, ask, rules) {
                Err(why) => Err(why),
                Ok(()) if is_among(tried, &only.deployment) => Err(NoChoice::Tried),
                Ok(()) => Ok(0),
            };
        }
        let simple = self.plain && tried.is_empty() && ask.class == Class::Ordinary;
        if simple
            && ask.session.is_none()
            && let Some(at) = self.draw(ask, rules, now, random)
        {
            return Ok(at);
        }
        self.search(ask, rules, tried, now, random)
    }

    /// A quick draw, where the choice needs no look at all members: a few tries to meet one that will do.
    fn draw(&self, ask: &Ask<'_, T>, rules: &Rules, now: Moment, random: u64) -> Option<usize> {
        let will_do = |at: usize| self.will_do(at, ask, rules, now);
        match self.strategy {
            Strategy::SimpleShuffle => {
                let total = *self.sums.last()?;
                (0..4_u64)
                    .map(|nth| {
                        let draw = mix(random.wrapping_add(nth));
                        let point = (draw >> 11) as f64 / (1_u64 << 53) as f64 * total;
                        self.sums.partition_point(|sum| *sum <= point)
                    })
                    .find(|&at| will_do(at))
            }
            Strategy::WeightedRoundRobin => (0..self.turns.len())
                .map(|_| {
                    let turn = self.turn.fetch_add(1, Relaxed) % self.turns.len();
                    self.turns[turn] as usize
                })
                .find(|&at| will_do(at)),
            _ if self.members.len() <= LOOKED_AT_WHOLE => None,
            // Who can do it at all may be one of a thousand.
            _ if !ask.needs.is_empty() && self.is_by(Strategy::Capability) => None,
            _ => self.sample(ask, rules, now, random),
        }
    }

    /// The best of some members taken at random and of the one that was best before: it costs the same among
    /// thousands as among a few, what is best is soon known and kept, and calls that come at once do not all
    /// run to the same place.
    fn sample(&self, ask: &Ask<'_, T>, rules: &Rules, now: Moment, random: u64) -> Option<usize> {
        let known = self.best.load(Relaxed);
        let count = self.members.len() as u128;
        let drawn = (0..SAMPLE).map(|nth| {
            let draw = u128::from(mix(random.wrapping_add(nth)));
            // Below the count, which is a `usize`.
            ((draw * count) >> 64) as usize
        });
        let mut best: Option<(Rank, usize)> = None;
        for at in drawn.chain([known]) {
            let Some(member) = self.members.get(at) else {
                continue;
            };
            if !self.will_do(at, ask, rules, now) {
                continue;
            }
            let rank = self.rank(at, member, ask, rules, now, random);
            if best.as_ref().is_none_or(|(known, _)| rank.beats(known)) {
                best = Some((rank, at));
            }
        }
        let (_, at) = best?;
        if at != known {
            self.best.store(at, Relaxed);
        }
        Some(at)
    }

    /// Whether a member can be taken now.
    fn will_do(&self, at: usize, ask: &Ask<'_, T>, rules: &Rules, now: Moment) -> bool {
        self.members.get(at).is_some_and(|member| {
            member.deployment.cooled_until(now).is_none() && self.fit(member, ask, rules).is_ok()
        })
    }

    fn is_by(&self, strategy: Strategy) -> bool {
        self.strategy == strategy || self.then == Some(strategy)
    }

    fn search(
        &self,
        ask: &Ask<'_, T>,
        rules: &Rules,
        tried: &[Arc<Deployment>],
        now: Moment,
        random: u64,
    ) -> Result<usize, NoChoice> {
        let mut best: Option<(Rank, usize)> = None;
        let mut none = NoChoice::Unfit;
        for (at, member) in self.members.iter().enumerate() {
            let why = match self.fit(member, ask, rules) {
                Err(why) => Some(why),
                Ok(()) if is_among(tried, &member.deployment) => Some(NoChoice::Tried),
                Ok(()) => {
                    let cooled = member.deployment.cooled_until(now);
                    cooled.map(|until| NoChoice::Cooled { until })
                }
            };
            if let Some(why) = why {
                none = none.or(why);
                continue;
            }
            let rank = self.rank(at, member, ask, rules, now, random);
            if best.as_ref().is_none_or(|(known, _)| rank.beats(known)) {
                best = Some((rank, at));
            }
        }
        best.map(|(_, at)| at).ok_or(none)
    }

    /// Whether a member can serve the call at all, at any time.
    fn fit(&self, member: &Member<T>, ask: &Ask<'_, T>, rules: &Rules) -> Result<(), NoChoice> {
        let spec = &member.deployment.spec;
        let known = || ask.window.and_then(|window| window(&member.served));
        if ask.must_fit
            && let Some(window) = spec.window.or_else(known)
            && ask.size.map_or(ask.tokens, |size| size(&member.served)) > window
        {
            return Err(NoChoice::TooLong { window });
        }
        if rules.0.tag_filtering && !tagged(&spec.tags, ask.tags, rules.0.tags_match_any) {
            return Err(NoChoice::Tags);
        }
        if let Some(region) = ask.region
            && spec
                .region
                .as_deref()
                .is_none_or(|own| !within(own, region))
        {
            return Err(NoChoice::Region);
        }
        let lacks = |need: &&str| spec.lacks.iter().any(|word| same(word, need));
        if ask.needs.iter().any(lacks)
            || ask.allowed.is_some_and(|allowed| !allowed(&member.served))
        {
            return Err(NoChoice::Unfit);
        }
        Ok(())
    }

    fn rank(
        &self,
        at: usize,
        member: &Member<T>,
        ask: &Ask<'_, T>,
        rules: &Rules,
        now: Moment,
        random: u64,
    ) -> Rank {
        let deployment = &*member.deployment;
        let weight = self.weights.get(at).copied().unwrap_or(1.0);
        let draw = mix(random.wrapping_add(at as u64));
        let strategy = |strategy| score(strategy, member, weight, ask, now, draw);
        let slow = rules.0.latency_threshold.is_some_and(|most| {
            let first = deployment.first_token(now);
            first.is_some_and(|first| first > most.as_secs_f32())
        });
        let down = rules.0.health.steer && deployment.probe() == Probe::Down;
        let class = of_class(member, ask);
        let score = match (class, ask.session) {
            (None, Some(session)) => sticky(deployment, session, weight),
            _ => strategy(self.strategy),
        };
        Rank {
            last: u8::from(down) * 2 + u8::from(slow),
            order: deployment.spec.order,
            class: class.unwrap_or(0.0),
            score,
            then: self.then.map_or(0.0, strategy),
            draw,
        }
    }
}

/// What members are compared by, in this order; lower is better.
struct Rank {
    last: u8,
    order: u32,
    class: f64,
    score: f64,
    then: f64,
    draw: u64,
}

impl Rank {
    fn beats(&self, other: &Self) -> bool {
        let by = (self.last, self.order).cmp(&(other.last, other.order));
        by.then(self.class.total_cmp(&other.class))
            .then(self.score.total_cmp(&other.score))
            .then(self.then.total_cmp(&other.then))
            .then(self.draw.cmp(&other.draw))
            == Ordering::Less
    }
}

impl NoChoice {
    /// Of several reasons, the one that helps most: soonest over first, then the nearest miss.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Cooled { until: a }, Self::Cooled { until: b }) => {
                Self::Cooled { until: a.min(b) }
            }
            (Self::TooLong { window: a }, Self::TooLong { window: b }) => {
                Self::TooLong { window: a.max(b) }
            }
            (a, b) if a.weight() >= b.weight() => a,
            (_, b) => b,
        }
    }

    const fn weight(&self) -> u8 {
        match self {
            Self::Cooled { .. } => 5,
            Self::Tried => 4,
            Self::TooLong { .. } => 3,
            Self::Tags => 2,
            Self::Region => 1,
            Self::Unfit => 0,
        }
    }
}

pub(crate) fn is_among(tried: &[Arc<Deployment>], deployment: &Arc<Deployment>) -> bool {
    tried.iter().any(|known| Arc::ptr_eq(known, deployment))
}

/// LiteLLM's rule: a request with tags goes to deployments with them; one without goes to those marked
/// `default`, or without any tags.
fn tagged(own: &[Text], asked: &[Text], any: bool) -> bool {
    if asked.is_empty() {
        return own.is_empty() || own.iter().any(|tag| &**tag == "default");
    }
    if any {
        asked.iter().any(|tag| own.contains(tag))
    } else {
        asked.iter().all(|tag| own.contains(tag))
    }
}

/// `eu` holds `eu-west-1`.
fn within(own: &str, asked: &str) -> bool {
    own.strip_prefix(asked)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_', '.']))
}

/// One way of weighing for the whole group: `weight` where one has it, else `rpm`, else `tpm`, else all alike.
fn weights_of<T>(members: &[Member<T>]) -> Vec<f64> {
    let spec = |read: fn(&crate::Spec) -> Option<f64>| {
        let read: Vec<_> = members.iter().map(|m| read(&m.deployment.spec)).collect();
        read.iter().any(Option::is_some).then_some(read)
    };
    let known = spec(|spec| spec.weight)
        .or_else(|| spec(|spec| spec.rpm.map(|rpm| rpm as f64)))
        .or_else(|| spec(|spec| spec.tpm.map(|tpm| tpm as f64)));
    let weights: Vec<f64> = match known {
        Some(known) => known.into_iter().map(Option::unwrap_or_default).collect(),
        None => vec![1.0; members.len()],
    };
    if weights.iter().sum::<f64>() > 0.0 {
        weights
    } else {
        vec![1.0; members.len()]
    }
}

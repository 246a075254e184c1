//! Where a call goes: what its request asks of a deployment, and the plan of its attempts.
//!
//! Where the file says nothing that depends on requests, nothing is looked at in one.

mod facts;
mod session;
mod tokens;

use std::sync::Arc;
use std::time::{Duration, Instant};

use metering::Price;
use routing::{Ask, Attempts, Class, Failure, GiveUp, Group, Moment, NoChoice, Overrides, Step};
use schemas::Text;

use crate::directory::Principal;
use crate::models::{Models, Served};
use crate::request::ModelRequest;
use crate::{Error, Gateway};
use facts::Facts;

pub use tokens::{COUNTED_HERE, FRAMING, push_text};

/// One call's way.
pub struct Plan {
    /// What was in force when the call came: it goes by that to its end.
    models: Arc<Models>,
    attempts: Attempts<Arc<Served>>,
    /// None where no rule looks at requests.
    facts: Option<Box<Facts>>,
    pub max_fallbacks: u32,
    /// When the choice began.
    began: Option<Instant>,
}

/// A call as it came.
pub struct Came<'a> {
    pub request: &'a ModelRequest,
    pub caller: &'a Principal,
    pub wishes: Wishes,
    /// Of the headers; the request has its own.
    pub tags: &'a [Text],
    pub started: Instant,
    /// The whole of it ends within this.
    pub timeout: Duration,
}

/// What the headers of a call say for routing.
#[derive(Debug, Default)]
pub struct Wishes {
    /// `x-litellm-num-retries`.
    pub retries: Option<u32>,
    /// `x-litellm-session-id`.
    pub session: Option<Text>,
    /// `x-tollgate-region`.
    pub region: Option<Text>,
}

/// What has happened.
pub enum Event<'a> {
    /// The call has come.
    Begun,
    /// Its attempt failed after so long.
    Failed(&'a Failure, Duration),
    /// The chosen deployment is at a limit of its own.
    Full,
    /// The answer has not begun yet: another attempt beside it.
    Slow,
}

impl Plan {
    /// The plan of a call whose name is `asked`.
    pub async fn new(
        gateway: &Gateway,
        models: Arc<Models>,
        asked: Arc<Group<Arc<Served>>>,
        came: Came<'_>,
    ) -> Self {
        let overrides = Overrides {
            retries: came.wishes.retries.or(came.request.num_retries),
            fallbacks: came.request.fallbacks.clone(),
        };
        let deadline = gateway.moment_of(came.started).plus(came.timeout);
        let mut began = None;
        let facts = if models.is_plain() && came.wishes.region.is_none() {
            None
        } else {
            began = Some(Instant::now());
            // A box, so that calls that need none of it have no room for it.
            let facts = Box::pin(Facts::of(gateway, &models, &asked, &overrides, came));
            Some(Box::new(facts.await))
        };
        let elsewhere = facts
            .as_ref()
            .filter(|facts| facts.class != Class::Ordinary)
            .and_then(|_| models.everything().cloned());
        let max_fallbacks = models.rules.max_fallbacks(&asked.name, &overrides);
        Self {
            attempts: Attempts::new(models.rules.clone(), asked, elsewhere, overrides, deadline),
            facts,
            max_fallbacks,
            began,
            models,
        }
    }

    /// Of a call to one deployment alone, once.
    pub fn alone(models: Arc<Models>, group: Arc<Group<Arc<Served>>>, deadline: Moment) -> Self {
        let overrides = Overrides {
            retries: Some(0),
            fallbacks: Some(Vec::new()),
        };
        let rules = models.rules.clone();
        Self {
            attempts: Attempts::new(rules, group, None, overrides, deadline),
            facts: None,
            began: None,
            models,
            max_fallbacks: 0,
        }
    }

    /// The settings that the call goes by.
    #[must_use]
    pub fn config(&self) -> &config::Config {
        &self.models.config
    }

    /// What comes next.
    pub fn step(&mut self, gateway: &Gateway, event: &Event<'_>) -> Step<Arc<Served>> {
        let step = self.choose(gateway, event);
        // None can do what the call needs: whichever is next says which parameter it cannot take, or goes
        // without it where the file wants that.
        if let (Step::GiveUp(GiveUp::None(NoChoice::Unfit)), Some(facts)) = (&step, &mut self.facts)
            && !facts.needs.is_empty()
        {
            facts.needs.clear();
            return self.choose(gateway, event);
        }
        step
    }

    fn choose(&mut self, gateway: &Gateway, event: &Event<'_>) -> Step<Arc<Served>> {
        let at = Instant::now();
        self.began.get_or_insert(at);
        let (now, random) = (gateway.moment_of(at), rand::random());
        let models = &self.models;
        let lookup = |name: &str| models.find(name).ok().filter(|group| callable(group));
        let facts = self.facts.as_deref();
        let cost = |served: &Arc<Served>| facts?.cost(gateway, served);
        let window = |served: &Arc<Served>| facts?.of_price(gateway, served, Price::max_input);
        let size = |served: &Arc<Served>| facts.map_or(0, |facts| facts.size(served));
        let allowed = |served: &Arc<Served>| {
            facts.is_none_or(|facts| !facts.barred.contains(&served.shown.name))
        };
        let ask = match facts {
            None => Ask::default(),
            Some(facts) => Ask {
                tokens: facts.tokens,
                size: (!facts.also.is_empty()).then_some(&size),
                output: facts.output,
                tags: &facts.tags,
                region: facts.region.as_deref(),
                session: facts.session,
                needs: &facts.needs,
                must_fit: facts.must_fit,
                class: facts.class,
                cost: facts.by_price.then_some(&cost),
                window: Some(&window),
                allowed: (!facts.barred.is_empty()).then_some(&allowed),
            },
        };
        let attempts = &mut self.attempts;
        match event {
            Event::Begun => attempts.first(&ask, now, random, &lookup),
            Event::Failed(failure, took) => {
                attempts.failed(failure, *took, &ask, now, random, &lookup)
            }
            Event::Full => attempts.full(&ask, now, random, &lookup),
            Event::Slow => attempts
                .hedge(&ask, now, random)
                .map_or(Step::GiveUp(GiveUp::Failed), Step::Try),
        }
    }

    /// What a client is told where nothing could be tried.
    pub fn refusal(&self, gateway: &Gateway, why: GiveUp) -> Error {
        let model = self.attempts.asked().name.to_string();
        let none = match why {
            GiveUp::None(none) => none,
            GiveUp::Failed => NoChoice::Tried,
        };
        let reason = match none {
            NoChoice::Cooled { until } => {
                let left = until.since(gateway.moment());
                return Error::CoolingDown {
                    model,
                    seconds: left.as_secs() + 1,
                };
            }
            NoChoice::TooLong { window } => {
                return Error::PromptTooLong {
                    window,
                    tokens: self.facts.as_ref().map_or(0, |facts| facts.tokens),
                };
            }
            NoChoice::Tags => "none has the tags of this request",
            NoChoice::Region => "none is in the region of this request",
            NoChoice::Unfit => "none can do what this request needs",
            NoChoice::Tried => "none has room",
        };
        Error::NoDeployment { model, reason }
    }

    /// When the first choice began; `now` before it.
    #[must_use]
    pub fn began(&self, now: Instant) -> Instant {
        self.began.unwrap_or(now)
    }

    pub const fn attempts_mut(&mut self) -> &mut Attempts<Arc<Served>> {
        &mut self.attempts
    }

    #[must_use]
    pub const fn attempts(&self) -> &Attempts<Arc<Served>> {
        &self.attempts
    }
}

/// A fallback that nothing can be sent to is passed over.
fn callable(group: &Group<Arc<Served>>) -> bool {
    group.members().iter().any(|member| {
        let dialect = member.served.deployment.entry.dialect;
        !matches!(dialect, config::Dialect::Unsupported(_))
    })
}

//! The calls of this process, from the reservation until their cost is settled: what a server that lost
//! its state is told, and what is said again when an answer did not come.
//!
//! A call is in here before the server hears of it, so that nothing the server knows of this process is
//! ever unknown here. Asks nobody and reads no clock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use schemas::{Identity, Micros, NanoUsd, Partition, Pseq, RequestId, SourceId, Text};

use crate::{HoldSettled, Scope};

/// Of a call that is over and whose event nobody told: as long as in the server.
const FINISHED_KEPT_S: i64 = 24 * 3600;

/// One scope of a call, as the server names it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub budget: Text,
    pub start: Micros,
    pub end: Micros,
    /// The minute that it was counted in, where a rate or slots are limited.
    pub minute: Option<i64>,
}

/// A call that was admitted.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub amount: NanoUsd,
    pub tokens: u64,
    pub expires: Micros,
    pub places: Arc<[Place]>,
    pub over: Option<Over>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Over {
    pub actual: NanoUsd,
    pub tokens: u64,
    pub event: Option<Identity>,
    /// The server has heard of it.
    pub told: bool,
}

#[derive(Debug)]
enum Call {
    /// Asked for, in this generation.
    Asked(Option<Text>),
    Known(Known),
    /// Admitted by local bounds: the server never heard of it.
    Local,
    /// To be given back: nobody waits for it any more.
    Unwanted,
}

/// What is known of a call that ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Where {
    Server,
    Local,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    calls: HashMap<RequestId, Call>,
    /// Of the state that this process has told its calls to, or is telling.
    generation: Option<Text>,
    /// It has told all of them.
    told: bool,
    open: u64,
    finished: u64,
}

impl Book {
    /// (open, finished) calls.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.open, self.finished)
    }

    /// A reservation is about to be asked for. Answers the generation to ask in, and whether the call is
    /// new.
    pub(super) fn ask(&mut self, hold: RequestId) -> (Option<Text>, bool) {
        let generation = self.generation.clone();
        let new = !matches!(self.calls.get(&hold), Some(Call::Known(_) | Call::Local));
        if new {
            self.calls.insert(hold, Call::Asked(generation.clone()));
        }
        (generation, new)
    }

    /// The server granted it. `false` when that is worth nothing: state that was lost meanwhile will not
    /// be told of it. `hard` grants need the generation they were asked in.
    pub(super) fn grant(&mut self, hold: RequestId, known: Known, hard: bool) -> bool {
        let Some(Call::Asked(asked)) = self.calls.get(&hold) else {
            return true;
        };
        if hard && *asked != self.generation {
            self.calls.insert(hold, Call::Unwanted);
            return false;
        }
        self.calls.insert(hold, Call::Known(known));
        self.open += 1;
        true
    }

    /// More is to be asked for a call in progress. Answers what was granted so far, and the generation to
    /// ask in.
    pub(super) fn ask_more(&self, hold: RequestId) -> Option<(NanoUsd, Option<Text>)> {
        match self.calls.get(&hold) {
            Some(Call::Known(known)) if known.over.is_none() => {
                Some((known.amount, self.generation.clone()))
            }
            _ => None,
        }
    }

    /// The server granted so much more. `false` as with [`grant`](Self::grant).
    pub(super) fn raise(&mut self, hold: RequestId, by: NanoUsd, asked: Option<&Text>) -> bool {
        let Some(Call::Known(known)) = self.calls.get_mut(&hold) else {
            return false;
        };
        let counts = asked == self.generation.as_ref();
        if counts {
            known.amount = known.amount.saturating_add(by);
        }
        counts
    }

    pub(super) fn admit_locally(&mut self, hold: RequestId) {
        self.calls.insert(hold, Call::Local);
    }

    /// The server refused it.
    pub(super) fn refuse(&mut self, hold: RequestId) {
        if let Some(Call::Asked(_)) = self.calls.get(&hold) {
            self.calls.remove(&hold);
        }
    }

    /// Nobody waits for the answer: if there was none yet, the call is to be given back, and `true`.
    pub(super) fn doubt(&mut self, hold: RequestId) -> bool {
        match self.calls.get_mut(&hold) {
            Some(call @ Call::Asked(_)) => {
                *call = Call::Unwanted;
                true
            }
            _ => false,
        }
    }

    pub(super) fn is_local(&self, hold: RequestId) -> bool {
        matches!(self.calls.get(&hold), Some(Call::Local))
    }

    pub(super) fn finish(&mut self, hold: RequestId, over: Over) -> Where {
        match self.calls.get_mut(&hold) {
            Some(call @ Call::Local) => {
                // The server may have done what it never answered.
                *call = Call::Unwanted;
                Where::Local
            }
            Some(Call::Known(known)) => {
                if known.over.is_none() {
                    known.over = Some(over);
                    self.open -= 1;
                    self.finished += 1;
                }
                Where::Server
            }
            _ => Where::Server,
        }
    }

    /// The server has heard that a call is over. Without an event the settlement may come unseen.
    pub(super) fn heard(&mut self, hold: RequestId) {
        if let Some(Call::Known(Known {
            amount,
            over: Some(over),
            ..
        })) = self.calls.get_mut(&hold)
        {
            over.told = true;
            // Nothing held and nothing spent: no settlement is waited for.
            if (*amount, over.actual) == (NanoUsd::ZERO, NanoUsd::ZERO) {
                self.remove(hold);
            }
        }
    }

    /// The call leaves no trace. `Local` and `Server` tell who has to give it back.
    pub(super) fn release(&mut self, hold: RequestId) -> Where {
        match self.calls.get_mut(&hold) {
            Some(call @ Call::Local) => {
                // The server may have done what it never answered.
                *call = Call::Unwanted;
                Where::Local
            }
            Some(call @ Call::Known(Known { over: None, .. })) => {
                *call = Call::Unwanted;
                self.open -= 1;
                Where::Server
            }
            _ => Where::Server,
        }
    }

    /// The server has given these back.
    pub(super) fn released(&mut self, holds: &[RequestId]) {
        for hold in holds {
            if let Some(Call::Unwanted) = self.calls.get(hold) {
                self.calls.remove(hold);
            }
        }
    }

    /// The generation that knows every call of this process.
    pub(super) fn told(&self) -> Option<Text> {
        self.generation.clone().filter(|_| self.told)
    }

    pub(super) fn remove(&mut self, hold: RequestId) {
        if let Some(Call::Known(known)) = self.calls.remove(&hold) {
            match known.over {
                Some(_) => self.finished -= 1,
                None => self.open -= 1,
            }
        }
    }

    /// A settlement by this process took these with it.
    pub(super) fn settled(&mut self, holds: &[HoldSettled]) {
        for settled in holds.iter().filter(|settled| settled.last) {
            if let Some(Call::Known(_)) = self.calls.get(&settled.hold) {
                self.remove(settled.hold);
            }
        }
    }

    /// Whose marks are worth knowing: of the events that are not known to be settled.
    pub(super) fn sources(&self) -> Vec<(SourceId, Partition)> {
        let mut sources: HashSet<(SourceId, Partition)> = HashSet::new();
        if self.finished > 0 {
            let events = self.over().filter_map(|(_, over)| over.event);
            sources.extend(events.map(|event| (event.source_id, event.partition)));
        }
        sources.into_iter().collect()
    }

    fn over(&self) -> impl Iterator<Item = (RequestId, Over)> {
        self.calls.iter().filter_map(|(&hold, call)| match call {
            Call::Known(known) => known.over.map(|over| (hold, over)),
            _ => None,
        })
    }

    /// Forgets what is settled, and what is long past.
    pub(super) fn forget(&mut self, marks: &[((SourceId, Partition), Pseq)], now: Micros) {
        let marks: HashMap<_, _> = marks.iter().copied().collect();
        let settled = |over: &Over| {
            over.event.is_some_and(|event| {
                let mark = marks.get(&(event.source_id, event.partition));
                over.told && mark.is_some_and(|mark| *mark >= event.pseq)
            })
        };
        let late = |known: &Known| match &known.over {
            None => known.expires <= now,
            Some(over) => over.event.is_none() && known.expires.plus_secs(FINISHED_KEPT_S) <= now,
        };
        let gone = self.calls.iter().filter_map(|(&hold, call)| match call {
            Call::Known(known) => {
                (late(known) || known.over.as_ref().is_some_and(settled)).then_some(hold)
            }
            _ => None,
        });
        for hold in gone.collect::<Vec<_>>() {
            self.remove(hold);
        }
    }

    /// What the server has yet to hear: calls that are over, and calls to give back.
    pub(super) fn unheard(&self) -> (Vec<(RequestId, Over)>, Vec<RequestId>) {
        let over = self.over().filter(|(_, over)| !over.told).collect();
        let unwanted = self.calls.iter();
        let unwanted = unwanted.filter_map(|(&hold, call)| match call {
            Call::Unwanted => Some(hold),
            _ => None,
        });
        (over, unwanted.collect())
    }

    /// From here on grants of this generation count, and everything that stands is to be told.
    pub(super) fn begin(&mut self, generation: &Text) -> Vec<(RequestId, Known)> {
        self.generation = Some(generation.clone());
        self.told = false;
        let known = self.calls.iter().filter_map(|(&hold, call)| match call {
            Call::Known(known) => Some((hold, known.clone())),
            _ => None,
        });
        known.collect()
    }

    /// Of calls that were told to be in progress, those that have ended since.
    pub(super) fn ended(&self, told: &[(RequestId, Known)]) -> Vec<(RequestId, Over)> {
        let running = told.iter().filter(|(_, known)| known.over.is_none());
        let ended = running.filter_map(|(hold, _)| match self.calls.get(hold) {
            Some(Call::Known(known)) => known.over.map(|over| (*hold, over)),
            _ => None,
        });
        ended.collect()
    }

    pub(super) fn complete(&mut self, generation: &Text) {
        self.told = self.generation.as_ref() == Some(generation);
    }

    /// Whether the server may know it of this process.
    pub(super) fn knows(&self, hold: RequestId) -> bool {
        self.calls.contains_key(&hold)
    }
}

/// The places of a request's scopes.
pub(super) fn places(scopes: &[Scope], minutes: impl Iterator<Item = Option<i64>>) -> Arc<[Place]> {
    let places = scopes.iter().zip(minutes).map(|(scope, minute)| Place {
        budget: scope.budget.clone(),
        start: scope.window.start,
        end: scope.window.end,
        minute,
    });
    places.collect()
}

//! The counters and every move on them. Each move checks first and writes last, so that a refusal or an
//! error leaves nothing half done; the caller holds the lock around one move.

use std::collections::BTreeMap;

use metering::budget::{self, Phase};
use schemas::{
    BudgetRef, Identity, Micros, NanoUsd, Offset, Partition, Pseq, RequestId, SourceId, Standing,
    Text,
};

use super::hold::{Call, Part, Parts, Purse};
use super::keyed::{Keyed, ReadyMap, Slot, hash_of};
use crate::limits::{Gauge, Reached};
use crate::{
    Advance, CaughtUp, Delta, Error, Granted, HoldSettled, OVERDUE_S, Onward, Refusal, Reserve,
    Restored, RestoredWindow, Scope, ScopeState, SeenWindow, Settled, Settlement, Snapshot, Spend,
    Stats,
};

/// A finished hold is money that is certainly spent: it stands until its event is settled. Where nobody told
/// the event, it outlives its call's expiry by this.
const FINISHED_KEPT_S: i64 = 24 * 3600;
/// Windows stay known this long after their end, for late events and reports (as in Redis).
const WINDOW_KEPT_S: i64 = 35 * 24 * 3600;
/// Windows and gauges are looked through for old ones this often.
const FORGET_EVERY_S: i64 = 60;

#[derive(Default)]
pub(super) struct State {
    pub ready: bool,
    purses: Keyed<Purse>,
    gauges: Keyed<Gauge>,
    calls: ReadyMap<RequestId, Call>,
    marks: ReadyMap<(SourceId, Partition), Pseq>,
    next: BTreeMap<Partition, Offset>,
    stats: Stats,
    /// No hold expires before this.
    quiet_until: Micros,
    /// When old windows are looked for again.
    forget_at: Micros,
}

/// Hashes of one scope's two counters, made before the lock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hashes {
    purse: u64,
    gauge: u64,
}

impl Hashes {
    pub(super) fn of(scope: &Scope) -> Self {
        let gauge = if is_metered(scope) {
            hash_of(&scope.budget, Micros(0))
        } else {
            0
        };
        Self {
            purse: hash_of(&scope.budget, scope.window.start),
            gauge,
        }
    }
}

const fn is_metered(scope: &Scope) -> bool {
    scope.rpm.is_some() || scope.tpm.is_some() || scope.parallel.is_some()
}

impl State {
    pub(super) fn reserve(
        &mut self,
        request: &Reserve<'_>,
        hashes: impl Fn(usize, &Scope) -> Hashes,
        mut scopes: Vec<ScopeState>,
    ) -> Result<Granted, Refusal> {
        if let Some(call) = self.calls.get(&request.hold) {
            let parts = call.parts.iter().zip(request.scopes);
            scopes.extend(parts.map(|(part, scope)| self.seen(part, scope)));
            return Ok(Granted {
                amount: call.money.granted(),
                scopes,
            });
        }
        if request
            .scopes
            .iter()
            .any(|scope| !scope.window.contains(request.now))
        {
            return Err(Refusal::Stale { now: request.now });
        }
        if !self.ready && request.scopes.iter().any(|scope| scope.limit.is_some()) {
            return Err(Refusal::Unavailable {
                reason: "spend is not restored from the log yet",
            });
        }
        let mut parts = Parts::new();
        for (at, scope) in request.scopes.iter().enumerate() {
            let part = self.locate(scope, hashes(at, scope), request.now, &parts);
            parts.push(part);
        }
        let amount = self.check(request, &parts)?;
        let (money, change) = budget::Hold::reserve(amount, request.expires);
        for (part, scope) in parts.iter().zip(request.scopes) {
            if let Some(purse) = self.purses.get_mut(part.purse) {
                (purse.limit, purse.ends) = (scope.limit, scope.window.end);
                if !part.shares_purse {
                    purse.apply(change);
                    purse.holds += 1;
                }
            }
            if let Some(gauge) = self.gauges.get_mut(part.gauge)
                && !part.shares_gauge
            {
                gauge.take(request.tokens);
            }
        }
        scopes.extend(
            parts
                .iter()
                .zip(request.scopes)
                .map(|(part, scope)| self.seen(part, scope)),
        );
        let call = Call {
            money,
            running: true,
            tokens: request.tokens,
            event: None,
            parts,
        };
        self.calls.insert(request.hold, call);
        self.stats.open += 1;
        self.quiet_until = self.quiet_until.min(request.expires);
        Ok(Granted { amount, scopes })
    }

    pub(super) fn raise(&mut self, request: &Reserve<'_>) -> Result<NanoUsd, Refusal> {
        let call = self.calls.get(&request.hold);
        let Some(call) = call.filter(|call| call.running && call.money.phase() == Phase::Open)
        else {
            return Err(Refusal::Unavailable {
                reason: "the call's hold is gone",
            });
        };
        // The request is counted already.
        let unlimited = |scope: &Scope| Scope {
            rpm: None,
            tpm: None,
            parallel: None,
            ..scope.clone()
        };
        let scopes: Vec<Scope> = request.scopes.iter().map(unlimited).collect();
        let money = Reserve {
            scopes: &scopes,
            ..*request
        };
        let amount = self.check(&money, &call.parts)?;
        if let Some(call) = self.calls.get_mut(&request.hold) {
            let change = call.money.raise(amount);
            for slot in call.parts.purses() {
                if let Some(purse) = self.purses.get_mut(slot) {
                    purse.apply(change);
                }
            }
        }
        Ok(amount)
    }

    /// The counters of a scope, made when there are none.
    fn locate(&mut self, scope: &Scope, hashes: Hashes, now: Micros, before: &Parts) -> Part {
        let window = scope.window;
        let new = || Purse::new(window.end);
        let purse = self
            .purses
            .find_or_insert(hashes.purse, &scope.budget, window.start, new);
        let mut minute = 0;
        let mut slot = Slot::NONE;
        if is_metered(scope) {
            slot =
                self.gauges
                    .find_or_insert(hashes.gauge, &scope.budget, Micros(0), Gauge::default);
            if let Some(gauge) = self.gauges.get_mut(slot) {
                gauge.roll(now);
                minute = gauge.minute();
            }
        }
        Part {
            purse,
            gauge: slot,
            minute,
            shares_purse: before.iter().any(|part| part.purse == purse),
            shares_gauge: before.iter().any(|part| part.gauge == slot),
        }
    }

    /// How much all scopes grant, or the refusal that lasts longest: spend, a rate, open holds.
    fn check(&self, request: &Reserve<'_>, parts: &Parts) -> Result<NanoUsd, Refusal> {
        let purses = || {
            parts
                .iter()
                .map(|part| self.purses.get(part.purse))
                .zip(request.scopes)
        };
        if purses().any(|(purse, _)| purse.is_some_and(|purse| !purse.has_room(request.amount))) {
            return Err(Refusal::Unavailable {
                reason: "a spend counter is at the end of its range",
            });
        }
        let rooms = purses().map(|(purse, scope)| purse?.account.room(scope.limit));
        let grant = budget::grant(request.amount, request.least, rooms);
        let least = request
            .least
            .clamp(NanoUsd::ZERO, request.amount.max(NanoUsd::ZERO));
        let short = || purses().filter_map(|(purse, scope)| refusal_of(purse?, scope, least));
        let by_holds =
            |refusal: &Refusal| matches!(refusal, Refusal::Budget { by_holds: true, .. });
        if grant.is_err()
            && let Some(refusal) = short().find(|refusal| !by_holds(refusal))
        {
            return Err(refusal);
        }
        for (part, scope) in parts.iter().zip(request.scopes) {
            if let Some(gauge) = self.gauges.get(part.gauge)
                && let Err(reached) = gauge.check(scope, request.tokens, request.now)
            {
                let Reached {
                    limit_type,
                    limit,
                    remaining,
                    resets_at,
                } = reached;
                let (kind, id) = (scope.kind, scope.id.clone());
                return Err(Refusal::Rate {
                    kind,
                    id,
                    limit_type,
                    limit,
                    remaining,
                    resets_at,
                });
            }
        }
        match (grant, short().next()) {
            (Ok(amount), _) => Ok(amount),
            (Err(_), Some(refusal)) => Err(refusal),
            // `grant` and `refusal_of` ask the same question of the same numbers.
            (Err(_), None) => Err(Refusal::Unavailable {
                reason: "budgets changed during the check",
            }),
        }
    }

    fn seen(&self, part: &Part, scope: &Scope) -> ScopeState {
        let purse = self.purses.get(part.purse);
        let gauge = self.gauges.get(part.gauge);
        ScopeState {
            spend: purse.map_or(NanoUsd::ZERO, |purse| purse.account.spend()),
            left: purse.and_then(|purse| purse.account.room(scope.limit)),
            rpm_left: gauge.and_then(|gauge| gauge.rpm_left(scope.rpm)),
            tpm_left: gauge.and_then(|gauge| gauge.tpm_left(scope.tpm)),
            rate_resets_at: gauge.map_or(Micros(i64::MAX), Gauge::resets_at),
        }
    }

    pub(super) fn finish(
        &mut self,
        id: RequestId,
        actual: NanoUsd,
        tokens: u64,
        event: Option<Identity>,
    ) -> Vec<NanoUsd> {
        // Restored sums have it already; what the hold still shows would count it twice.
        let settled =
            event.is_some_and(|event| self.mark(event.source_id, event.partition) >= event.pseq);
        let Some(call) = self.calls.get_mut(&id) else {
            return Vec::new();
        };
        if std::mem::take(&mut call.running) {
            for (slot, minute) in call.parts.gauges() {
                if let Some(gauge) = self.gauges.get_mut(slot) {
                    gauge.finish(minute, call.tokens, tokens);
                }
            }
        }
        if call.money.phase() == Phase::Open {
            let (before, held) = (call.money.amount(), call.money.granted());
            call.event = event;
            // Nothing held and nothing spent: no settlement is waited for.
            let settled =
                settled || (call.money.granted(), actual) == (NanoUsd::ZERO, NanoUsd::ZERO);
            let change = if settled {
                call.money.settle(NanoUsd::ZERO, true)
            } else {
                call.money.finish(actual)
            };
            // Where nothing was held no limit was checked.
            let over = held > NanoUsd::ZERO && call.money.amount() > before;
            self.stats.cost_over_hold += u64::from(over);
            self.stats.open -= 1;
            self.stats.finished += u64::from(!settled);
            for slot in call.parts.purses() {
                if let Some(purse) = self.purses.get_mut(slot) {
                    purse.apply(change);
                }
            }
        }
        let spend = |part: &Part| {
            self.purses
                .get(part.purse)
                .map_or(NanoUsd::ZERO, |purse| purse.account.spend())
        };
        let spend = call.parts.iter().map(spend).collect();
        self.forget_if_over(id);
        spend
    }

    pub(super) fn release(&mut self, id: RequestId) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.running) else {
            return;
        };
        for (slot, minute) in call.parts.gauges() {
            if let Some(gauge) = self.gauges.get_mut(slot) {
                gauge.undo(minute, call.tokens);
            }
        }
        self.drop_call(id);
    }

    /// Gives back what a call holds, and forgets it. Its gauges are the caller's.
    fn drop_call(&mut self, id: RequestId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.running = false;
        match call.money.phase() {
            Phase::Open => self.stats.open -= 1,
            Phase::Finished => self.stats.finished -= 1,
            Phase::Gone => {}
        }
        // Settling nothing as the last record takes what is left, of a finished call too.
        let change = call.money.settle(NanoUsd::ZERO, true);
        for slot in call.parts.purses() {
            if let Some(purse) = self.purses.get_mut(slot) {
                purse.apply(change);
            }
        }
        self.forget_if_over(id);
    }

    fn forget_if_over(&mut self, id: RequestId) {
        if !self.calls.get(&id).is_some_and(Call::is_over) {
            return;
        }
        if let Some(call) = self.calls.remove(&id) {
            for slot in call.parts.purses() {
                if let Some(purse) = self.purses.get_mut(slot) {
                    purse.holds -= 1;
                }
            }
        }
    }

    pub(super) fn settle(&mut self, batch: &Settlement) -> Result<Settled, Error> {
        if batch.marks.is_empty() {
            return Err(Error::Unfenced);
        }
        let stands = |mark: &Advance| self.mark(mark.source, mark.partition);
        if batch.marks.iter().all(|mark| stands(mark) >= mark.to) {
            return Ok(Settled::Repeated);
        }
        let elsewhere = |onward: &Onward| self.next.get(&onward.partition).copied() != onward.from;
        if batch.marks.iter().any(|mark| stands(mark) != mark.from)
            || batch.next.iter().any(elsewhere)
        {
            return Err(Error::Fence {
                standing: self.standing(),
            });
        }
        for Delta { budget, amount } in &batch.deltas {
            let purse = self.purses.get_by_key(&budget.budget, budget.window_start);
            let used = purse.map_or(0, |purse| purse.account.used.0);
            if used.checked_add(amount.0).is_none() {
                return Err(Error::Overflow {
                    budget: budget.budget.clone(),
                });
            }
        }
        for settled in &batch.holds {
            self.settle_hold(settled);
        }
        for Delta { budget, amount } in &batch.deltas {
            let slot = self.window(budget);
            if let Some(purse) = self.purses.get_mut(slot) {
                // In range, as checked above.
                purse.account.used = purse.account.used.saturating_add(*amount);
                let room = purse.account.room(purse.limit);
                self.stats.over_limit += u64::from(room.is_some_and(|room| room < NanoUsd::ZERO));
            }
        }
        for mark in &batch.marks {
            self.marks.insert((mark.source, mark.partition), mark.to);
        }
        let onward = batch.next.iter();
        self.next
            .extend(onward.map(|onward| (onward.partition, onward.to)));
        Ok(Settled::Applied)
    }

    fn settle_hold(&mut self, settled: &HoldSettled) {
        let Some(call) = self.calls.get_mut(&settled.hold) else {
            self.stats.settled_without_hold += u64::from(settled.amount != NanoUsd::ZERO);
            return;
        };
        let before = call.money.phase();
        let change = call.money.settle(settled.amount, settled.last);
        match (before, call.money.phase()) {
            (Phase::Open, Phase::Gone) => self.stats.open -= 1,
            (Phase::Finished, Phase::Gone) => self.stats.finished -= 1,
            _ => {}
        }
        for slot in call.parts.purses() {
            if let Some(purse) = self.purses.get_mut(slot) {
                purse.apply(change);
            }
        }
        self.forget_if_over(settled.hold);
    }

    /// The counter of a window that the log names, made when there is none.
    fn window(&mut self, window: &BudgetRef) -> Slot {
        let hash = hash_of(&window.budget, window.window_start);
        let new = || Purse::new(window.window_end);
        self.purses
            .find_or_insert(hash, &window.budget, window.window_start, new)
    }

    pub(super) fn spend(&self, name: &str, start: Micros) -> Spend {
        self.purses
            .get_by_key(name, start)
            .map_or_else(Spend::default, spend_of)
    }

    fn mark(&self, source: SourceId, partition: Partition) -> Pseq {
        let mark = self.marks.get(&(source, partition));
        mark.copied().unwrap_or(Pseq(0))
    }

    pub(super) fn caught_up(&mut self, at: &CaughtUp) -> Result<(), Error> {
        let behind = |mark: &Identity| self.mark(mark.source_id, mark.partition) < mark.pseq;
        if at.marks.iter().any(behind) {
            return Err(Error::Fence {
                standing: self.standing(),
            });
        }
        self.ready = true;
        Ok(())
    }

    pub(super) fn standing(&self) -> Standing {
        let mark = |(&(source_id, partition), &pseq)| Identity {
            source_id,
            partition,
            pseq,
        };
        Standing {
            marks: self.marks.iter().map(mark).collect(),
            next: self.next.iter().map(|(&p, &o)| (p, o)).collect(),
        }
    }

    pub(super) fn snapshot(&self, now: Micros) -> Snapshot {
        let seen = |(budget, start, purse): (&Text, Micros, &Purse)| SeenWindow {
            budget: budget.clone(),
            start,
            spend: spend_of(purse),
        };
        let late = now.plus_secs(-OVERDUE_S);
        Snapshot {
            standing: self.standing(),
            windows: self.purses.iter().map(seen).collect(),
            holds: self.calls.len() as u64,
            overdue: self
                .calls
                .values()
                .filter(|call| ends(call) <= late)
                .count() as u64,
            astray: None,
        }
    }

    pub(super) fn restore(&mut self, state: &Restored) {
        self.ready = false;
        for purse in self.purses.values_mut() {
            purse.account.used = NanoUsd::ZERO;
        }
        for RestoredWindow { budget, used } in &state.windows {
            let slot = self.window(budget);
            if let Some(purse) = self.purses.get_mut(slot) {
                purse.account.used = *used;
            }
        }
        self.next = state.standing.next.iter().copied().collect();
        let marks = state.standing.marks.iter();
        self.marks = marks
            .map(|mark| ((mark.source_id, mark.partition), mark.pseq))
            .collect();
    }

    pub(super) fn sweep(&mut self, now: Micros) -> u64 {
        let expired = if now < self.quiet_until {
            0
        } else {
            self.expire(now)
        };
        if now >= self.forget_at {
            self.forget_at = now.plus_secs(FORGET_EVERY_S);
            self.purses
                .retain(|purse| purse.holds > 0 || now < purse.ends.plus_secs(WINDOW_KEPT_S));
            self.gauges.retain(|gauge| !gauge.is_idle(now));
        }
        expired
    }

    fn expire(&mut self, now: Micros) -> u64 {
        let late = self.calls.iter().filter(|(_, call)| ends(call) <= now);
        let late: Vec<RequestId> = late.map(|(&id, _)| id).collect();
        for &id in &late {
            if let Some(call) = self.calls.get(&id).filter(|call| call.running) {
                for (slot, _) in call.parts.gauges() {
                    if let Some(gauge) = self.gauges.get_mut(slot) {
                        gauge.expire();
                    }
                }
            }
            self.drop_call(id);
        }
        self.quiet_until = self
            .calls
            .values()
            .map(ends)
            .min()
            .unwrap_or(Micros(i64::MAX));
        self.stats.expired += late.len() as u64;
        late.len() as u64
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            windows: self.purses.len() as u64,
            ..self.stats
        }
    }
}

fn spend_of(purse: &Purse) -> Spend {
    Spend {
        used: purse.account.used,
        held: purse.open(),
        finished: purse.account.finished,
    }
}

/// When a call's hold is swept.
fn ends(call: &Call) -> Micros {
    match call.money.phase() {
        Phase::Finished if call.event.is_some() => Micros(i64::MAX),
        Phase::Finished => call.money.expires().plus_secs(FINISHED_KEPT_S),
        Phase::Open | Phase::Gone => call.money.expires(),
    }
}

/// `None` when the scope lets `least` pass.
fn refusal_of(purse: &Purse, scope: &Scope, least: NanoUsd) -> Option<Refusal> {
    let limit = scope.limit?;
    (purse.account.room(scope.limit)? < least).then(|| Refusal::Budget {
        kind: scope.kind,
        id: scope.id.clone(),
        used: purse.account.spend(),
        held: purse.open(),
        limit,
        needed: least,
        resets_at: scope.window.end,
        by_holds: purse.account.blocked_by_holds(limit, least),
    })
}

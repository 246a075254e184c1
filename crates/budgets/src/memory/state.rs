//! The counters and every move on them. Each move checks first and writes last, so that a refusal or an
//! error leaves nothing half done; the caller holds the lock around one move.

use schemas::{Identity, Micros, NanoUsd, Partition, Pseq, RequestId, SourceId};

use super::hold::{Hold, Part, Parts, Purse, Stage};
use super::keyed::{Keyed, ReadyMap, Slot, hash_of};
use crate::limits::{Gauge, Reached};
use crate::{
    Error, Granted, HoldSettled, Refusal, Reserve, Restored, RestoredWindow, Scope, ScopeState,
    Settled, Settlement, Spend, Stats,
};

/// A finished hold is money that is certainly spent, so it outlives its call's expiry by this: long enough
/// for any lane that still works; an event that was never logged does not hold money for ever.
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
    holds: ReadyMap<RequestId, Hold>,
    marks: ReadyMap<(SourceId, Partition), Pseq>,
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
        if let Some(hold) = self.holds.get(&request.hold) {
            let amount = NanoUsd(hold.amount);
            let parts = hold.parts.iter().zip(request.scopes);
            scopes.extend(parts.map(|(part, scope)| self.seen(part, scope)));
            return Ok(Granted { amount, scopes });
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
        for (part, scope) in parts.iter().zip(request.scopes) {
            if let Some(purse) = self.purses.get_mut(part.purse) {
                purse.limit = scope.limit.map(|limit| limit.0);
                if !part.shares_purse {
                    purse.open += amount;
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
        let hold = Hold {
            stage: Stage::Open,
            amount,
            settled: 0,
            tokens: request.tokens,
            expires: request.expires,
            parts,
        };
        self.holds.insert(request.hold, hold);
        self.stats.open += 1;
        self.quiet_until = self.quiet_until.min(request.expires);
        Ok(Granted {
            amount: NanoUsd(amount),
            scopes,
        })
    }

    /// The counters of a scope, made when there are none.
    fn locate(&mut self, scope: &Scope, hashes: Hashes, now: Micros, before: &Parts) -> Part {
        let window = scope.window;
        let purse = self
            .purses
            .find_or_insert(hashes.purse, &scope.budget, window.start, || {
                Purse::new(window.end)
            });
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

    /// How much all scopes grant, or the refusal that lasts longest.
    fn check(&self, request: &Reserve<'_>, parts: &Parts) -> Result<i64, Refusal> {
        let wanted = request.amount.0.max(0);
        let least = request.least.0.clamp(0, wanted);
        let mut grant = i128::from(wanted);
        let (mut rate, mut by_holds) = (None, None);
        for (part, scope) in parts.iter().zip(request.scopes) {
            if let Some(purse) = self.purses.get(part.purse) {
                if !purse.has_room(wanted) {
                    return Err(Refusal::Unavailable {
                        reason: "a spend counter is at the end of its range",
                    });
                }
                if let Some(limit) = scope.limit {
                    let left = purse.left(limit.0);
                    if left < i128::from(least) {
                        let refusal = refusal_of(purse, scope, limit, least);
                        if !matches!(refusal, Refusal::Budget { by_holds: true, .. }) {
                            return Err(refusal);
                        }
                        by_holds = by_holds.or(Some(refusal));
                    }
                    grant = grant.min(left);
                }
            }
            if rate.is_none()
                && let Some(gauge) = self.gauges.get(part.gauge)
                && let Err(reached) = gauge.check(scope, request.tokens, request.now)
            {
                let Reached {
                    limit_type,
                    limit,
                    remaining,
                    resets_at,
                } = reached;
                let (kind, id) = (scope.kind, scope.id.clone());
                rate = Some(Refusal::Rate {
                    kind,
                    id,
                    limit_type,
                    limit,
                    remaining,
                    resets_at,
                });
            }
        }
        match rate.or(by_holds) {
            Some(refusal) => Err(refusal),
            // Between `least` and `wanted`, both i64.
            None => Ok(grant as i64),
        }
    }

    fn seen(&self, part: &Part, scope: &Scope) -> ScopeState {
        let purse = self.purses.get(part.purse);
        let gauge = self.gauges.get(part.gauge);
        let left = |purse: &Purse| {
            let clamp = |left: i128| left.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
            scope.limit.map(|limit| NanoUsd(clamp(purse.left(limit.0))))
        };
        ScopeState {
            spend: NanoUsd(purse.map_or(0, Purse::spend)),
            left: purse.and_then(left),
            rpm_left: gauge.and_then(|gauge| gauge.rpm_left(scope.rpm)),
            tpm_left: gauge.and_then(|gauge| gauge.tpm_left(scope.tpm)),
            rate_resets_at: gauge.map_or(Micros(i64::MAX), Gauge::resets_at),
        }
    }

    pub(super) fn finish(&mut self, id: RequestId, actual: NanoUsd, tokens: u64) -> Vec<NanoUsd> {
        let Some(hold) = self.holds.get_mut(&id) else {
            return Vec::new();
        };
        if hold.stage != Stage::Finished {
            for (slot, minute) in hold.parts.gauges() {
                if let Some(gauge) = self.gauges.get_mut(slot) {
                    gauge.finish(minute, hold.tokens, tokens);
                }
            }
        }
        if hold.stage == Stage::Open {
            let still_due = actual.0.saturating_sub(hold.settled).max(0);
            if still_due > hold.amount {
                self.stats.cost_over_hold += 1;
            }
            for slot in hold.parts.purses() {
                if let Some(purse) = self.purses.get_mut(slot) {
                    purse.open -= hold.amount;
                    // Saturates only past 9.2 billion USD.
                    purse.finished = purse.finished.saturating_add(still_due);
                }
            }
            hold.amount = still_due;
            hold.stage = Stage::Finished;
            self.stats.open -= 1;
            self.stats.finished += 1;
        }
        let parts = hold.parts.iter();
        let spend = parts
            .map(|part| NanoUsd(self.purses.get(part.purse).map_or(0, Purse::spend)))
            .collect();
        if hold.stage == Stage::Settled {
            self.remove(id);
        }
        spend
    }

    pub(super) fn release(&mut self, id: RequestId) {
        let Some(hold) = self
            .holds
            .get(&id)
            .filter(|hold| hold.stage != Stage::Finished)
        else {
            return;
        };
        for (slot, minute) in hold.parts.gauges() {
            if let Some(gauge) = self.gauges.get_mut(slot) {
                gauge.undo(minute, hold.tokens);
            }
        }
        self.remove(id);
    }

    /// Takes a hold off its windows. Its gauges are the caller's.
    fn remove(&mut self, id: RequestId) {
        let Some(hold) = self.holds.remove(&id) else {
            return;
        };
        for slot in hold.parts.purses() {
            if let Some(purse) = self.purses.get_mut(slot) {
                purse.holds -= 1;
                match hold.stage {
                    Stage::Open => purse.open -= hold.amount,
                    Stage::Finished => purse.finished -= hold.amount,
                    Stage::Settled => {}
                }
            }
        }
        match hold.stage {
            Stage::Open => self.stats.open -= 1,
            Stage::Finished => self.stats.finished -= 1,
            Stage::Settled => {}
        }
    }

    pub(super) fn settle(&mut self, batch: &Settlement) -> Result<Settled, Error> {
        if batch.marks.is_empty() {
            return Err(Error::Unfenced);
        }
        let stands = |state: &Self, mark: &crate::Advance| {
            state
                .marks
                .get(&(mark.source, mark.partition))
                .copied()
                .unwrap_or(Pseq(0))
        };
        if batch.marks.iter().all(|mark| stands(self, mark) >= mark.to) {
            return Ok(Settled::Repeated);
        }
        if batch
            .marks
            .iter()
            .any(|mark| stands(self, mark) != mark.from)
        {
            return Err(Error::Fence {
                marks: self.marks(),
            });
        }
        for delta in &batch.deltas {
            let used = self
                .purses
                .get_by_key(&delta.budget.budget, delta.budget.window_start);
            if used
                .map_or(0, |purse| purse.used)
                .checked_add(delta.amount.0)
                .is_none()
            {
                return Err(Error::Overflow {
                    budget: delta.budget.budget.clone(),
                });
            }
        }
        for settled in &batch.holds {
            self.settle_hold(settled);
        }
        for delta in &batch.deltas {
            let window = &delta.budget;
            let hash = hash_of(&window.budget, window.window_start);
            let new = || Purse::new(window.window_end);
            let slot = self
                .purses
                .find_or_insert(hash, &window.budget, window.window_start, new);
            if let Some(purse) = self.purses.get_mut(slot) {
                // In range, as checked above.
                purse.used = purse.used.saturating_add(delta.amount.0);
                if purse.limit.is_some_and(|limit| purse.left(limit) < 0) {
                    self.stats.over_limit += 1;
                }
            }
        }
        for mark in &batch.marks {
            self.marks.insert((mark.source, mark.partition), mark.to);
        }
        Ok(Settled::Applied)
    }

    fn settle_hold(&mut self, settled: &HoldSettled) {
        let Some(hold) = self.holds.get_mut(&settled.hold) else {
            self.stats.settled_without_hold += 1;
            return;
        };
        hold.settled = hold.settled.saturating_add(settled.amount.0);
        let taken = if settled.last {
            hold.amount
        } else {
            settled.amount.0.clamp(0, hold.amount)
        };
        hold.amount -= taken;
        for slot in hold.parts.purses() {
            if let Some(purse) = self.purses.get_mut(slot) {
                match hold.stage {
                    Stage::Open => purse.open -= taken,
                    Stage::Finished => purse.finished -= taken,
                    Stage::Settled => {}
                }
            }
        }
        match (settled.last, hold.stage) {
            (true, Stage::Finished) => self.remove(settled.hold),
            (true, Stage::Open) => {
                hold.stage = Stage::Settled;
                self.stats.open -= 1;
            }
            _ => {}
        }
    }

    pub(super) fn spend(&self, name: &str, start: Micros) -> Spend {
        self.purses
            .get_by_key(name, start)
            .map_or_else(Spend::default, |purse| Spend {
                used: NanoUsd(purse.used),
                held: NanoUsd(purse.open),
                finished: NanoUsd(purse.finished),
            })
    }

    pub(super) fn marks(&self) -> Vec<Identity> {
        let marks = self.marks.iter();
        marks
            .map(|(&(source_id, partition), &pseq)| Identity {
                source_id,
                partition,
                pseq,
            })
            .collect()
    }

    pub(super) fn restore(&mut self, state: &Restored) {
        self.ready = false;
        for purse in self.purses.values_mut() {
            purse.used = 0;
        }
        for RestoredWindow { budget, used } in &state.windows {
            let hash = hash_of(&budget.budget, budget.window_start);
            let new = || Purse::new(budget.window_end);
            let slot = self
                .purses
                .find_or_insert(hash, &budget.budget, budget.window_start, new);
            if let Some(purse) = self.purses.get_mut(slot) {
                purse.used = used.0;
            }
        }
        self.marks = state
            .marks
            .iter()
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
            let used_by_holds = |gauge: &Gauge| !gauge.is_idle(now);
            self.gauges.retain(used_by_holds);
        }
        expired
    }

    fn expire(&mut self, now: Micros) -> u64 {
        let ends = |hold: &Hold| match hold.stage {
            Stage::Finished => hold.expires.plus_secs(FINISHED_KEPT_S),
            Stage::Open | Stage::Settled => hold.expires,
        };
        let gone: Vec<RequestId> = self
            .holds
            .iter()
            .filter(|(_, hold)| ends(hold) <= now)
            .map(|(&id, _)| id)
            .collect();
        for &id in &gone {
            if let Some(hold) = self.holds.get(&id)
                && hold.stage != Stage::Finished
            {
                for (slot, _) in hold.parts.gauges() {
                    if let Some(gauge) = self.gauges.get_mut(slot) {
                        gauge.expire();
                    }
                }
            }
            self.remove(id);
        }
        self.quiet_until = self
            .holds
            .values()
            .map(ends)
            .min()
            .unwrap_or(Micros(i64::MAX));
        self.stats.expired += gone.len() as u64;
        gone.len() as u64
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            windows: self.purses.len() as u64,
            ..self.stats
        }
    }
}

fn refusal_of(purse: &Purse, scope: &Scope, limit: NanoUsd, least: i64) -> Refusal {
    Refusal::Budget {
        kind: scope.kind,
        id: scope.id.clone(),
        used: NanoUsd(purse.spend()),
        held: NanoUsd(purse.open),
        limit,
        needed: NanoUsd(least),
        resets_at: scope.window.end,
        by_holds: i128::from(purse.spend()) + i128::from(least) <= i128::from(limit.0),
    }
}

//! Steps on the state as a whole, those of a budget lane: settle, begin, restore, catch up.

use std::sync::atomic::{AtomicU64, Ordering};

use ::redis::Cmd;
use schemas::Standing;

use super::wire::{Answer, Arguments as _, field, window, write_delta};
use super::{
    ADMITS, APPLIED, BULK, FENCED, LOST, OVERFLOWS, REPEATED, RESTORE_AT_ONCE, RESTORE_LASTS,
    SETTLE_MOST, Shared, WAITING, micros,
};
use crate::{CaughtUp, Error, Portion, Restored, Settled, Settlement};

impl Shared {
    pub(super) async fn standing(&self) -> Result<Standing, Error> {
        let answer = self.ask(&self.function("standing"), BULK).await?;
        Ok(answer.standing()?)
    }

    pub(super) async fn settle(&self, batch: &Settlement) -> Result<Settled, Error> {
        if batch.marks.is_empty() {
            return Err(Error::Unfenced);
        }
        let entries = batch.deltas.len() + batch.holds.len();
        if entries > SETTLE_MOST {
            return Err(Error::TooLarge {
                entries,
                most: SETTLE_MOST,
            });
        }
        let mut command = self.function("settle");
        for count in [
            batch.marks.len(),
            batch.next.len(),
            batch.deltas.len(),
            batch.holds.len(),
        ] {
            command.arg(count);
        }
        for mark in &batch.marks {
            command.text(&field(mark.source, mark.partition));
            command.count(mark.from.0).count(mark.to.0);
        }
        for onward in &batch.next {
            command.count(u64::from(onward.partition.0));
            match onward.from {
                Some(from) => command.count(from.0),
                None => command.nothing(),
            };
            command.count(onward.to.0);
        }
        for delta in &batch.deltas {
            write_delta(&mut command, delta);
        }
        for hold in &batch.holds {
            command.hold(hold.hold).number(hold.amount.0);
            command.count(u64::from(hold.last));
        }
        let answer = self.ask(&command, BULK).await?;
        match answer.kind() {
            APPLIED => {
                let add = |counter: &AtomicU64, at| {
                    counter.fetch_add(answer.count(at).unwrap_or(0), Ordering::Relaxed);
                };
                add(&self.counters.settled_without_hold, 1);
                add(&self.counters.over_limit, 2);
                self.book.lock().settled(&batch.holds);
                Ok(Settled::Applied)
            }
            REPEATED => {
                self.book.lock().settled(&batch.holds);
                Ok(Settled::Repeated)
            }
            OVERFLOWS => {
                let place = answer.count(1).and_then(|at| usize::try_from(at).ok());
                let delta = place.and_then(|at| batch.deltas.get(at));
                let budget = delta.map_or_else(|| "?".into(), |delta| delta.budget.budget.clone());
                Err(Error::Overflow { budget })
            }
            _ => Err(self.refused(&answer)),
        }
    }

    /// What a step on the state answered instead of doing it.
    fn refused(&self, answer: &Answer) -> Error {
        match answer.kind() {
            FENCED => answer
                .standing()
                .map_or_else(Error::from, |standing| Error::Fence { standing }),
            LOST => {
                self.close();
                Error::Lost
            }
            _ => Answer::odd().into(),
        }
    }

    /// The state is not what it was: the keeper looks at once.
    pub(super) fn close(&self) {
        let mut view = self.view.lock();
        view.phase = 0;
        view.told = false;
        drop(view);
        self.wake.notify_one();
    }

    /// Lease and names of the processes that were seen alive.
    fn write_members(&self, command: &mut Cmd) {
        command.number(self.lease());
        for member in self.view.lock().members.keys() {
            command.text(member);
        }
    }

    /// What was answered. With an epoch, the state was done by halves: what is older has to go.
    pub(super) async fn begin(&self, force: bool) -> Result<(i64, Option<u64>), Error> {
        let mut command = self.function("begin");
        command.text(&self.member);
        command
            .number(micros(RESTORE_LASTS))
            .count(u64::from(force));
        self.write_members(&mut command);
        let answer = self.ask(&command, BULK).await?;
        Ok((answer.kind(), answer.count(1)))
    }

    /// Throws away what is of no epoch or an earlier one, but who lives and who restores. Whoever takes over
    /// has a later one.
    async fn wipe(&self, epoch: u64) -> Result<(), Error> {
        let base = self.state.trim_end_matches("state");
        let is_old = |key: &[u8]| {
            let name = key.strip_prefix(base.as_bytes()).unwrap_or_default();
            let word = name.split(|&byte| byte == b':').next().unwrap_or_default();
            match std::str::from_utf8(word)
                .ok()
                .and_then(|word| word.parse::<u64>().ok())
            {
                Some(of) => of < epoch,
                None => !matches!(name, b"state" | b"members" | b"steps"),
            }
        };
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = ::redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(format!("{base}*"));
            scan.arg("COUNT").arg(1_000);
            let answer = self.ask(&scan, BULK).await?;
            cursor = answer.text(0).ok_or_else(Answer::odd)?.to_owned();
            let found = Answer(answer.list(1).unwrap_or_default().to_vec());
            let mut unlink = ::redis::cmd("UNLINK");
            let mut any = false;
            for key in (0..found.0.len()).filter_map(|at| found.bytes(at)) {
                if is_old(key) {
                    unlink.arg(key);
                    any = true;
                }
            }
            if any {
                self.link.call(&unlink, BULK).await?;
            }
            if cursor == "0" {
                break;
            }
        }
        Ok(())
    }

    pub(super) async fn restore(&self, state: &Restored) -> Result<(), Error> {
        let (_, epoch) = self.begin(true).await?;
        self.close();
        if let Some(epoch) = epoch {
            tracing::warn!("budget state was cut within a step by a crash: it is made anew");
            self.wipe(epoch).await?;
        }
        let step = |name: &str| {
            let mut command = self.function(name);
            command.text(&self.member).number(micros(RESTORE_LASTS));
            command
        };
        let mut cursor = "0".to_owned();
        loop {
            let mut command = step("restore_nothing");
            command.text(&cursor);
            let answer = self.ask(&command, BULK).await?;
            if answer.kind() != APPLIED {
                return Err(self.refused(&answer));
            }
            cursor = answer.text(1).ok_or_else(Answer::odd)?.to_owned();
            if cursor == "0" {
                break;
            }
        }
        for windows in state.windows.chunks(RESTORE_AT_ONCE) {
            let mut command = step("restore_windows");
            for restored in windows {
                let budget = &restored.budget;
                command.text(&window(&budget.budget, budget.window_start));
                command.number(budget.window_end.0).number(restored.used.0);
            }
            let answer = self.ask(&command, BULK).await?;
            if answer.kind() != APPLIED {
                return Err(self.refused(&answer));
            }
        }
        let mut command = self.function("restore_end");
        command.text(&self.member).text(&fresh_generation());
        command.arg(state.standing.marks.len());
        for mark in &state.standing.marks {
            command.text(&field(mark.source_id, mark.partition));
            command.count(mark.pseq.0);
        }
        for (partition, offset) in &state.standing.next {
            command.count(u64::from(partition.0)).count(offset.0);
        }
        let answer = self.ask(&command, BULK).await?;
        self.wake.notify_one();
        match answer.kind() {
            APPLIED => Ok(()),
            _ => Err(self.refused(&answer)),
        }
    }

    pub(super) async fn caught_up(&self, at: &CaughtUp) -> Result<bool, Error> {
        let mut command = self.function("caught_up");
        command
            .text(&fresh_generation())
            .number(micros(self.settings.pause));
        match &at.portion {
            Portion::All => {
                command.count(0).count(0);
            }
            Portion::Some { partitions, of } => {
                command.count(u64::from(*of)).arg(partitions.len());
                for partition in partitions {
                    command.count(u64::from(partition.0));
                }
            }
        }
        command.arg(at.marks.len());
        for mark in &at.marks {
            command.text(&field(mark.source_id, mark.partition));
            command.count(mark.pseq.0);
        }
        self.write_members(&mut command);
        // Once more after this process has told of its own calls.
        for round in 0..2 {
            let answer = self.ask(&command, BULK).await?;
            match answer.kind() {
                ADMITS if self.ready() => return Ok(true),
                ADMITS => self.keep_now().await?,
                WAITING if round == 0 => self.keep_now().await?,
                WAITING => return Ok(false),
                _ => return Err(self.refused(&answer)),
            }
        }
        self.keep_now().await?;
        Ok(self.ready())
    }
}

fn fresh_generation() -> String {
    format!("{:016x}", rand::random::<u64>())
}

//! What a process does beside its calls: it keeps the connection, says that it lives, tells state that
//! was lost of its calls, and says again what was not heard. Every quarter of a second, and at once when
//! something breaks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::Cmd;
use schemas::{Identity, Micros, Pseq, RequestId, Text};

use super::book::{Known, Over};
use super::link::Trouble;
use super::wire::{Answer, Arguments, field, write_call, write_end};
use super::{APPLIED, BULK, LATE_US, OPEN, RESTORING, Shared};
use crate::Error;

const EVERY: Duration = Duration::from_millis(250);
/// Pause between attempts to connect.
const RETRY: Duration = Duration::from_millis(100);
/// Calls in one step, so that nobody waits long for it.
const AT_ONCE: usize = 200;

/// The state as it was seen last.
#[derive(Debug, Default)]
pub(super) struct View {
    pub phase: i64,
    /// Empty where there is none.
    pub generation: String,
    /// The state knows the calls of this process.
    pub told: bool,
    pub windows: u64,
    /// The server's clock, and when it was read.
    pub clock: Option<(Micros, Instant)>,
    /// Processes, and when each was seen last.
    pub members: HashMap<String, Instant>,
}

/// What one tick told.
struct Seen {
    phase: i64,
    generation: Text,
    told: bool,
    /// It is time to clear up after former lives: every event of theirs is settled.
    former_settled: bool,
}

/// Runs until it is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut trouble = None;
    loop {
        if !shared.link.is_open() {
            match shared.link.connect().await {
                Ok(()) => {
                    tracing::info!("budget state: connected to {}", shared.link.address());
                    trouble = None;
                }
                Err(error) => {
                    let why = error.to_string();
                    if trouble.as_ref() != Some(&why) {
                        tracing::error!("budget state is out of reach: {why}");
                        trouble = Some(why);
                    }
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
        }
        if let Err(Trouble::Refused(why)) = shared.keep().await {
            tracing::error!("budget state: {why}");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shared.link.broken.notified() => {}
            () = shared.wake.notified() => {}
        }
    }
}

impl Shared {
    /// One round.
    pub(super) async fn keep(&self) -> Result<(), Trouble> {
        let _one_at_a_time = self.keeping.lock().await;
        self.say_again().await?;
        let seen = self.tick().await?;
        if (seen.phase == RESTORING || seen.phase == OPEN) && !seen.told {
            self.tell(&seen.generation).await?;
        } else if seen.phase == OPEN && seen.former_settled {
            self.clear_former(seen.generation).await?;
        }
        Ok(())
    }

    /// Some of this process' holds, from a cursor that is moved on; "0" begins, and is there again after the last.
    async fn holds_from(&self, cursor: &mut String) -> Result<Answer, Trouble> {
        let mut command = self.function("holds_of");
        command.text(&self.member).text(cursor);
        let answer = Answer::of(self.link.call(&command, BULK).await?)?;
        answer.text(0).ok_or_else(Answer::odd)?.clone_into(cursor);
        Ok(answer)
    }

    /// Gives back what former lives of this process had reserved and never admitted: what they still hold once
    /// the last event of theirs is settled.
    async fn clear_former(&self, generation: Text) -> Result<(), Trouble> {
        let mut cursor = "0".to_owned();
        loop {
            let answer = self.holds_from(&mut cursor).await?;
            let waiting = Answer(answer.list(3).unwrap_or_default().to_vec());
            let mut gone = self.function("forget");
            for hold in (0..waiting.0.len()).filter_map(|at| waiting.bytes(at)) {
                gone.arg(hold);
            }
            if !waiting.0.is_empty() {
                self.link.call(&gone, BULK).await?;
                let count = waiting.0.len();
                tracing::info!("{count} calls that a former life never admitted are given back");
            }
            if cursor == "0" {
                *self.cleared.lock() = Some(generation);
                return Ok(());
            }
        }
    }

    /// The last events of former lives, as long as they are of interest: not before everything that such a life
    /// has sent to the server is done or too late, and once in a generation.
    fn former(&self) -> Option<&[Identity]> {
        let former = self.settings.former.as_deref()?;
        let lasts = self.settings.wait + Duration::from_micros(LATE_US.unsigned_abs());
        let generation = self.book.lock().told();
        let is_time = self.began.elapsed() > lasts
            && generation.is_some()
            && *self.cleared.lock() != generation;
        is_time.then_some(former)
    }

    async fn tick(&self) -> Result<Seen, Trouble> {
        let mut command = self.function("tick");
        command.text(&self.member).number(self.lease());
        let former = self.former();
        let mut sources = self.book.lock().sources();
        let wrote = former.unwrap_or_default().iter();
        sources.extend(wrote.map(|event| (event.source_id, event.partition)));
        for (source, partition) in &sources {
            command.text(&field(*source, *partition));
        }
        let began = Instant::now();
        let value = self.link.call(&command, self.settings.wait).await?;
        let answer = Answer::of(value)?;
        let now = answer.instant(0)?;
        let phase = answer.number(1).ok_or_else(Answer::odd)?;
        let generation: Text = answer.text(2).ok_or_else(Answer::odd)?.into();
        let heard = answer.number(3) == Some(1);
        let marks: Vec<_> = sources
            .iter()
            .enumerate()
            .filter_map(|(at, source)| Some((*source, Pseq(answer.count(5 + at)?))))
            .collect();
        let told = {
            let mut book = self.book.lock();
            book.forget(&marks, now);
            heard && book.told().as_ref() == Some(&generation)
        };
        let is_settled = |event: &Identity| {
            let source = (event.source_id, event.partition);
            let mut marks = marks.iter().filter(|(known, _)| *known == source);
            marks.any(|(_, pseq)| *pseq >= event.pseq)
        };
        let former_settled = former.is_some_and(|former| former.iter().all(is_settled));
        let mut view = self.view.lock();
        // The answer was on its way for half of the time that it took.
        view.clock = Some((now, began + began.elapsed() / 2));
        view.phase = phase;
        view.generation = generation.to_string();
        view.told = told;
        view.windows = answer.count(4).unwrap_or(0);
        let seen = Instant::now();
        for at in 5 + sources.len()..answer.0.len() {
            if let Some(member) = answer.text(at) {
                view.members.insert(member.to_owned(), seen);
            }
        }
        let lease = self.settings.lease;
        view.members.retain(|_, last| last.elapsed() < lease);
        Ok(Seen {
            phase,
            generation,
            told,
            former_settled,
        })
    }

    /// Tells the state of every call that stands, and takes back what it has of calls that do not.
    async fn tell(&self, generation: &Text) -> Result<(), Trouble> {
        let calls = self.book.lock().begin(generation);
        for calls in calls.chunks(AT_ONCE) {
            if !self.tell_calls(calls).await? {
                return Ok(());
            }
        }
        // Their ends may have come to the server before they did.
        let ended = self.book.lock().ended(&calls);
        for (hold, over) in ended {
            self.tell_end(hold, &over).await?;
        }
        self.take_back().await?;
        let mut command = self.function("told");
        command
            .text(&self.member)
            .text(generation)
            .number(self.lease());
        let answer = Answer::of(self.link.call(&command, BULK).await?)?;
        if answer.kind() == APPLIED {
            self.book.lock().complete(generation);
        }
        let mut view = self.view.lock();
        view.told = answer.kind() == APPLIED && *view.generation == **generation;
        drop(view);
        if !calls.is_empty() {
            tracing::info!("budget state was told of {} calls", calls.len());
        }
        Ok(())
    }

    /// `false` when the state was lost again.
    async fn tell_calls(&self, calls: &[(RequestId, Known)]) -> Result<bool, Trouble> {
        let mut command = self.function("tell");
        command.text(&self.member);
        match self.caller_time() {
            Some(now) => command.number(now.0),
            None => command.nothing(),
        };
        for (hold, known) in calls {
            write_call(&mut command, *hold, known);
        }
        let answer = Answer::of(self.link.call(&command, BULK).await?)?;
        Ok(answer.kind() == APPLIED)
    }

    /// State that was rolled back may have calls that are over, and any state has those that were open when
    /// an earlier life of this process ended.
    async fn take_back(&self) -> Result<(), Trouble> {
        let mut cursor = "0".to_owned();
        loop {
            let answer = self.holds_from(&mut cursor).await?;
            let holds = Answer(answer.list(1).unwrap_or_default().to_vec());
            let mut gone = self.function("forget");
            let mut any = false;
            for at in 0..holds.0.len() {
                let id = holds.bytes(at).and_then(|bytes| bytes.try_into().ok());
                let Some(hold) = id.map(RequestId) else {
                    continue;
                };
                if !self.book.lock().knows(hold) {
                    gone.hold(hold);
                    any = true;
                }
            }
            if any {
                self.link.call(&gone, BULK).await?;
            }
            let former = Answer(answer.list(2).unwrap_or_default().to_vec());
            if !former.0.is_empty() {
                let mut abandoned = self.function("abandon");
                for hold in (0..former.0.len()).filter_map(|at| former.bytes(at)) {
                    abandoned.arg(hold);
                }
                self.link.call(&abandoned, BULK).await?;
            }
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    /// Ends and releases that no answer came to.
    async fn say_again(&self) -> Result<(), Trouble> {
        let (over, unwanted) = self.book.lock().unheard();
        for (hold, over) in over {
            self.tell_end(hold, &over).await?;
        }
        for holds in unwanted.chunks(AT_ONCE) {
            let mut command: Cmd = self.function("release");
            for hold in holds {
                command.hold(*hold);
            }
            self.link.call(&command, self.settings.wait).await?;
            self.book.lock().released(holds);
        }
        Ok(())
    }

    /// Answers what `finish` answered.
    pub(super) async fn tell_end(&self, hold: RequestId, over: &Over) -> Result<Answer, Trouble> {
        let told = self.book.lock().told();
        let mut command = self.function("finish");
        write_end(&mut command, hold, over);
        let answer = Answer::of(self.link.call(&command, self.settings.wait).await?)?;
        let mut book = self.book.lock();
        book.heard(hold);
        // State that knew all calls has forgotten it: it expired, or it is settled.
        if answer.kind() == 0 && answer.number(1) == Some(OPEN) && told.as_deref() == answer.text(2)
        {
            book.remove(hold);
        }
        Ok(answer)
    }

    /// One round, for those who cannot wait for the next.
    pub(super) async fn keep_now(&self) -> Result<(), Error> {
        self.keep().await.map_err(Error::from)
    }
}

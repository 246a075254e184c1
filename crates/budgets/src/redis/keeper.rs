//! What a process does beside its calls: it keeps the connection, says that it lives, tells state that
//! was lost of its calls, and says again what was not heard. Every quarter of a second, and at once when
//! something breaks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::Cmd;
use schemas::{Micros, Pseq, RequestId, Text};

use super::book::{Known, Over};
use super::link::Trouble;
use super::wire::{Answer, Arguments, field, write_call, write_end};
use super::{APPLIED, BULK, OPEN, RESTORING, Shared};
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
        let (phase, generation, told) = self.tick().await?;
        if (phase == RESTORING || phase == OPEN) && !told {
            self.tell(&generation).await?;
        }
        Ok(())
    }

    async fn tick(&self) -> Result<(i64, Text, bool), Trouble> {
        let mut command = self.function("tick");
        command.text(&self.member).number(self.lease());
        let sources = self.book.lock().sources();
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
        Ok((phase, generation, told))
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
            let mut command = self.function("holds_of");
            command.text(&self.member).text(&cursor);
            let answer = Answer::of(self.link.call(&command, BULK).await?)?;
            cursor = answer.text(0).ok_or_else(Answer::odd)?.to_owned();
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

//! Group commit: one thread syncs, everybody waits for it. A waiter costs one entry in a list; while a
//! sync runs, those who come gather for the next one.
//!
//! To wake the thread costs a system call and two switches, so nobody does who can wait until it wakes by
//! itself: after a sync it naps for about as long as the next group may gather, and only where it naps
//! longer than a waiter may wait, or sleeps for good, is it roused.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::options::{Options, Sync};
use super::place::Place;
use super::shared::Shared;
use crate::Error;

/// What the sync thread is asked to do.
#[derive(Default)]
pub struct SyncQueue {
    asked: Mutex<Asked>,
    wake: Condvar,
}

#[derive(Default)]
struct Asked {
    waiting: Vec<Waiting>,
    next_id: u64,
    /// Sync at this instant at the latest.
    soon: Option<Instant>,
    /// Pages to give back, a segment to prepare.
    tidy: bool,
    stop: bool,
    stopped: bool,
    asleep: bool,
    /// When it wakes by itself, if it does.
    nap: Option<Instant>,
    /// How many came together last time.
    group: usize,
    /// Since when the first of those who wait does.
    since: Option<Instant>,
    /// Nobody else is expected.
    hurry: bool,
}

struct Waiting {
    id: u64,
    place: Place,
    waker: Waker,
}

impl SyncQueue {
    pub fn tidy(&self) {
        let mut asked = self.asked.lock();
        asked.tidy = true;
        self.rouse(&asked);
    }

    pub fn soon(&self, delay: Duration) {
        let mut asked = self.asked.lock();
        if asked.soon.is_none() {
            let due = Instant::now() + delay;
            asked.soon = Some(due);
            self.rouse_by(&asked, due);
        }
    }

    /// Whoever waits now is all there is: they need not wait for others.
    pub fn hurry(&self) {
        let mut asked = self.asked.lock();
        if !asked.waiting.is_empty() {
            asked.hurry = true;
            self.rouse(&asked);
        }
    }

    pub fn stop(&self) {
        let mut asked = self.asked.lock();
        asked.stop = true;
        self.wake.notify_one();
    }

    fn is_stopped(&self) -> bool {
        self.asked.lock().stop
    }

    fn rouse(&self, asked: &Asked) {
        if asked.asleep {
            self.wake.notify_one();
        }
    }

    /// Rouses the thread unless it wakes by itself before that.
    fn rouse_by(&self, asked: &Asked, due: Instant) {
        if asked.nap.is_none_or(|nap| nap > due) {
            self.rouse(asked);
        }
    }

    /// Blocks until there is something to do; a group has gathered then.
    fn wait(&self, options: &Options) -> Todo {
        let mut asked = self.asked.lock();
        let gather = gather(asked.group, options.group_wait);
        let awake = Instant::now();
        // The first nap is for the group that is expected, the second for hints of ADMITs.
        let mut naps = [awake + gather, awake + options.soon].into_iter();
        loop {
            let now = Instant::now();
            let due = asked.soon.is_some_and(|at| at <= now);
            let gathered = asked.since.map(|since| since + gather);
            let ready = gathered.is_some_and(|at| at <= now || asked.hurry);
            if asked.stop || asked.tidy || due || ready {
                let todo = Todo {
                    sync: due || ready,
                    stop: asked.stop,
                };
                asked.tidy = false;
                return todo;
            }
            asked.nap = gathered
                .or_else(|| naps.find(|nap| *nap > now))
                .into_iter()
                .chain(asked.soon)
                .min();
            asked.asleep = true;
            match asked.nap {
                Some(at) => {
                    self.wake.wait_until(&mut asked, at);
                }
                None => self.wake.wait(&mut asked),
            }
            (asked.asleep, asked.nap) = (false, None);
        }
    }

    /// A sync begins: what was hinted at so far is covered by it.
    fn begin(&self) {
        let mut asked = self.asked.lock();
        asked.soon = None;
        asked.hurry = false;
    }

    /// Moves out who waited for less than `synced`; everybody if the journal failed.
    fn release(&self, synced: Place, failed: bool, out: &mut Vec<Waker>) {
        let mut asked = self.asked.lock();
        let done = asked
            .waiting
            .extract_if(.., |waiting| failed || waiting.place < synced);
        out.extend(done.map(|waiting| waiting.waker));
        // They may come again, and then in one group with those who came meanwhile.
        asked.hurry &= out.is_empty();
        asked.group = out.len().max(asked.waiting.len());
        asked.since = (!asked.waiting.is_empty()).then(Instant::now);
    }

    fn end(&self, out: &mut Vec<Waker>) {
        let mut asked = self.asked.lock();
        asked.stopped = true;
        out.extend(asked.waiting.drain(..).map(|waiting| waiting.waker));
    }
}

struct Todo {
    sync: bool,
    stop: bool,
}

/// The sync thread. Ends when asked to, after a last sync.
pub fn run(shared: &Shared) {
    let mut wakers = Vec::new();
    loop {
        let todo = shared.queue.wait(&shared.options);
        if todo.stop {
            shared.close();
            shared.queue.end(&mut wakers);
            wakers.drain(..).for_each(Waker::wake);
            shared.durable_readers.notify_waiters();
            shared.early_readers.notify_waiters();
            return;
        }
        if todo.sync && shared.options.sync != Sync::Os {
            shared.queue.begin();
            let failed = shared.sync_to_tail().is_err();
            shared.queue.release(shared.synced(), failed, &mut wakers);
            wakers.drain(..).for_each(Waker::wake);
            shared.durable_readers.notify_waiters();
        } else {
            shared.queue.begin();
            // A failure has poisoned the journal; whoever appends next is told.
            let _ = shared.tidy_without_sync();
        }
        // Who was woken may have let go of the journal, and its directory is another's then.
        if !shared.queue.is_stopped() {
            shared.prepare();
        }
    }
}

/// How long a group may gather at most, given how many came together last time: those on their way come
/// along, and [`SyncQueue::hurry`] ends it when none are.
///
/// A sync costs about 60 µs of CPU, whatever it covers, so the more calls there are, the more a wait saves;
/// one that is alone gains nothing by waiting.
fn gather(group: usize, most: Duration) -> Duration {
    const PER_CALL: Duration = Duration::from_micros(40);
    match u32::try_from(group) {
        Ok(0 | 1) => Duration::ZERO,
        Ok(calls) => PER_CALL.saturating_mul(calls).min(most),
        Err(_) => most,
    }
}

/// Resolves when a record is durable. Does nothing until it is polled; dropping it is free.
#[must_use = "futures do nothing unless awaited"]
pub struct Durable {
    shared: Arc<Shared>,
    place: Place,
    id: Option<u64>,
}

impl Durable {
    pub fn new(shared: &Arc<Shared>, place: Place) -> Self {
        Self {
            shared: Arc::clone(shared),
            place,
            id: None,
        }
    }

    fn ready(&self) -> Option<Result<(), Error>> {
        if self.shared.synced() > self.place {
            return Some(Ok(()));
        }
        if let Err(error) = self.shared.check() {
            return Some(Err(error));
        }
        (self.shared.options.sync == Sync::Os).then_some(Ok(()))
    }
}

impl Future for Durable {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(done) = self.ready() {
            return Poll::Ready(done);
        }
        let shared = Arc::clone(&self.shared);
        let mut asked = shared.queue.asked.lock();
        // The thread stores how far it came before it takes this lock: no wake-up falls between.
        if let Some(done) = self.ready() {
            return Poll::Ready(done);
        }
        if asked.stopped {
            return Poll::Ready(Err(Error::Closed));
        }
        let known = self
            .id
            .and_then(|id| asked.waiting.iter_mut().rfind(|w| w.id == id));
        if let Some(waiting) = known {
            waiting.waker.clone_from(cx.waker());
        } else {
            asked.next_id += 1;
            let id = asked.next_id;
            asked.waiting.push(Waiting {
                id,
                place: self.place,
                waker: cx.waker().clone(),
            });
            self.id = Some(id);
            // Somebody was on the way after all.
            asked.hurry = false;
            if asked.since.is_none() {
                let now = Instant::now();
                asked.since = Some(now);
                let gather = gather(asked.group, shared.options.group_wait);
                shared.queue.rouse_by(&asked, now + gather);
            }
        }
        Poll::Pending
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(id) = self.id
            && self.shared.synced() <= self.place
        {
            self.shared
                .queue
                .asked
                .lock()
                .waiting
                .retain(|waiting| waiting.id != id);
        }
    }
}

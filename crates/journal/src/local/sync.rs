//! Group commit: one thread syncs, everybody waits for it. A waiter costs one entry in a list and,
//! when the thread sleeps, one wake-up; while a sync runs, those who come gather for the next one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::options::Sync;
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
    /// A group gathers: it can be hurried.
    gathering: bool,
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
            asked.soon = Some(Instant::now() + delay);
            self.rouse(&asked);
        }
    }

    /// Whoever waits now is all there is: they need not wait for others.
    pub fn hurry(&self) {
        let mut asked = self.asked.lock();
        if !asked.waiting.is_empty() {
            asked.hurry = true;
            if asked.gathering {
                self.wake.notify_one();
            }
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

    /// Blocks until there is something to do.
    fn wait(&self) -> Todo {
        let mut asked = self.asked.lock();
        loop {
            let due = asked.soon.is_some_and(|at| at <= Instant::now());
            if asked.stop || asked.tidy || due || !asked.waiting.is_empty() {
                let todo = Todo {
                    waiters: asked.waiting.len(),
                    sync: due || !asked.waiting.is_empty(),
                    stop: asked.stop,
                };
                asked.tidy = false;
                return todo;
            }
            asked.asleep = true;
            match asked.soon {
                Some(at) => {
                    self.wake.wait_until(&mut asked, at);
                }
                None => self.wake.wait(&mut asked),
            }
            asked.asleep = false;
        }
    }

    /// Lets others come along for so long, or until nobody else is expected.
    fn gather(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut asked = self.asked.lock();
        asked.gathering = true;
        while !asked.hurry && !asked.stop {
            if self.wake.wait_until(&mut asked, until).timed_out() {
                break;
            }
        }
        asked.gathering = false;
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
    }

    fn end(&self, out: &mut Vec<Waker>) {
        let mut asked = self.asked.lock();
        asked.stopped = true;
        out.extend(asked.waiting.drain(..).map(|waiting| waiting.waker));
    }
}

struct Todo {
    waiters: usize,
    sync: bool,
    stop: bool,
}

/// The sync thread. Ends when asked to, after a last sync.
pub fn run(shared: &Shared) {
    let mut wakers = Vec::new();
    let mut group = 0;
    loop {
        let todo = shared.queue.wait();
        if todo.stop {
            shared.close();
            shared.queue.end(&mut wakers);
            wakers.drain(..).for_each(Waker::wake);
            shared.durable_readers.notify_waiters();
            shared.early_readers.notify_waiters();
            return;
        }
        if todo.sync && shared.options.sync != Sync::Os {
            let wait = gather(group.max(todo.waiters), shared.options.group_wait);
            if !wait.is_zero() {
                shared.queue.gather(wait);
            }
            shared.queue.begin();
            let failed = shared.sync_to_tail().is_err();
            shared.queue.release(shared.synced(), failed, &mut wakers);
            group = wakers.len();
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
            shared.queue.rouse(&asked);
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

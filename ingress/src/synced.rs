//! Waiting for the disk, many calls at a time.
//!
//! The journal's sync thread wakes everybody whose record has become durable. To wake a task of another
//! thread costs a system call; so the calls of a serving thread all wait behind one task of that thread,
//! which is woken once a sync, and wakes them in turn without any.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use journal::local::Durable;
use parking_lot::Mutex;

/// Those of one serving thread who wait.
#[derive(Default)]
pub struct Syncs {
    // Never contended: one thread uses it. A lock, since the futures of handlers must be `Send`.
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Of the task that all wait behind.
    task: Option<Waker>,
    slots: Vec<Slot>,
    free: Vec<usize>,
}

enum Slot {
    Free,
    Waits { durable: Durable, waker: Waker },
    Done(Result<(), journal::Error>),
}

impl Syncs {
    /// The task that all wait behind: to be run on their thread. Never ends.
    pub async fn dispatch(&self) {
        poll_fn(|cx| {
            let mut waiting = self.waiting.lock();
            match &mut waiting.task {
                Some(task) => task.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            for slot in &mut waiting.slots {
                let Slot::Waits { durable, .. } = slot else {
                    continue;
                };
                if let Poll::Ready(done) = Pin::new(durable).poll(cx)
                    && let Slot::Waits { waker, .. } = std::mem::replace(slot, Slot::Done(done))
                {
                    waker.wake();
                }
            }
            Poll::<()>::Pending
        })
        .await;
    }
}

/// Resolves when a record is durable.
#[must_use = "futures do nothing unless awaited"]
pub struct Synced {
    syncs: Arc<Syncs>,
    state: State,
}

enum State {
    New(Durable),
    Slot(usize),
    Over,
}

impl Synced {
    pub fn new(syncs: &Arc<Syncs>, durable: Durable) -> Self {
        Self {
            syncs: syncs.clone(),
            state: State::New(durable),
        }
    }
}

impl Future for Synced {
    type Output = Result<(), journal::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut waiting = this.syncs.waiting.lock();
        match std::mem::replace(&mut this.state, State::Over) {
            State::New(mut durable) => {
                let task = waiting.task.clone();
                let behind = task.as_ref().unwrap_or(cx.waker());
                if let Poll::Ready(done) =
                    Pin::new(&mut durable).poll(&mut Context::from_waker(behind))
                {
                    return Poll::Ready(done);
                }
                if task.is_none() {
                    // Nobody dispatches here: wait alone.
                    this.state = State::New(durable);
                    return Poll::Pending;
                }
                let slot = Slot::Waits {
                    durable,
                    waker: cx.waker().clone(),
                };
                let at = match waiting.free.pop() {
                    Some(at) => {
                        waiting.slots[at] = slot;
                        at
                    }
                    None => {
                        waiting.slots.push(slot);
                        waiting.slots.len() - 1
                    }
                };
                this.state = State::Slot(at);
                Poll::Pending
            }
            State::Slot(at) => match &mut waiting.slots[at] {
                Slot::Waits { waker, .. } => {
                    waker.clone_from(cx.waker());
                    this.state = State::Slot(at);
                    Poll::Pending
                }
                slot => {
                    let done = std::mem::replace(slot, Slot::Free);
                    waiting.free.push(at);
                    match done {
                        Slot::Done(done) => Poll::Ready(done),
                        // A slot is freed only here and on drop, each of which ends this future.
                        Slot::Free | Slot::Waits { .. } => Poll::Ready(Err(journal::Error::Closed)),
                    }
                }
            },
            State::Over => Poll::Ready(Err(journal::Error::Closed)),
        }
    }
}

impl Drop for Synced {
    fn drop(&mut self) {
        if let State::Slot(at) = self.state {
            let mut waiting = self.syncs.waiting.lock();
            waiting.slots[at] = Slot::Free;
            waiting.free.push(at);
        }
    }
}

//! Timers of one serving thread, kept between calls.
//!
//! To arm a timer and to disarm it costs as much as parsing the request, and nearly no call runs into its
//! deadline. So a timer stays armed when its call is over and goes to the next one, whose deadline is
//! later: it fires early, once in the length of a deadline, and is put off then.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

/// Timers kept.
const KEPT: usize = 256;

/// A deadline has passed.
#[derive(Debug)]
pub struct Elapsed;

type Timer = Pin<Box<Sleep>>;

/// Those that are lent to nobody.
#[derive(Debug, Default)]
pub struct Timers {
    // Never contended: one thread uses it. A lock, since the futures of handlers must be `Send`.
    free: Mutex<Vec<Timer>>,
}

impl Timers {
    /// What `work` comes to, if it does before the deadline.
    pub async fn within<F: Future>(
        &self,
        until: Instant,
        mut work: Pin<&mut F>,
    ) -> Result<F::Output, Elapsed> {
        let mut lent = Lent {
            timers: self,
            timer: None,
        };
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            let timer = lent.timer.get_or_insert_with(|| self.lend(until));
            while timer.as_mut().poll(cx).is_ready() {
                if timer.deadline() >= until {
                    return Poll::Ready(Err(Elapsed));
                }
                timer.as_mut().reset(until);
            }
            Poll::Pending
        })
        .await
    }

    /// One that fires at `until`, or before.
    fn lend(&self, until: Instant) -> Timer {
        match self.free.lock().pop() {
            Some(mut timer) => {
                if timer.deadline() > until {
                    timer.as_mut().reset(until);
                }
                timer
            }
            None => Box::pin(tokio::time::sleep_until(until)),
        }
    }
}

/// Goes back when it is dropped.
struct Lent<'a> {
    timers: &'a Timers,
    timer: Option<Timer>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut free = self.timers.free.lock();
        if free.len() < KEPT {
            free.extend(self.timer.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_timer_of_an_earlier_call_ends_a_later_one_neither_early_nor_never() {
        let timers = Timers::default();
        let after = |millis| Instant::now() + Duration::from_millis(millis);
        let one = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(timers.within(after(5), pin!(one)).await.ok(), Some(7));
        assert_eq!(timers.free.lock().len(), 1);

        let until = after(20);
        timers
            .within(until, pin!(pending::<()>()))
            .await
            .unwrap_err();
        assert!(Instant::now() >= until);

        let two = tokio::time::sleep(Duration::from_millis(1));
        timers.within(after(3_600_000), pin!(two)).await.unwrap();
        let until = after(5);
        timers
            .within(until, pin!(pending::<()>()))
            .await
            .unwrap_err();
        assert!(Instant::now() >= until);

        assert_eq!(timers.free.lock().len(), 1);
        timers.within(until, pin!(ready(()))).await.unwrap();
    }
}

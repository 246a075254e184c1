//! Stops asking a service that does not answer, and asks it again now and then.
//!
//! Closed: everything passes. After a few failures in a row it opens: nothing passes for a while.
//! Then one caller at a time tries; if it succeeds the breaker closes, else the wait doubles. A caller
//! that goes away before it knows counts as neither. Reads no clock.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
/// First wait once open.
const WAIT_MIN: Duration = Duration::from_millis(250);
/// Longest wait: so long does a service that is well again go unused.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The breaker before one service.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    failures: u32,
    /// While open: when the next one may try, and how long the wait was.
    open: Option<(Instant, Duration)>,
    trying: bool,
    opened: u64,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything passes.
    Closed,
    /// One caller is trying.
    HalfOpen,
    /// Nothing passes.
    Open,
}

impl State {
    /// The word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// The right to ask once.
#[derive(Debug)]
pub struct Pass<'a> {
    breaker: &'a Breaker,
    is_try: bool,
}

impl Breaker {
    /// Asks to be let through; `None` while it is open.
    pub fn pass(&self, now: Instant) -> Option<Pass<'_>> {
        let mut inner = self.0.lock();
        let is_try = match inner.open {
            None => false,
            Some((until, _)) if inner.trying || now < until => return None,
            Some(_) => true,
        };
        inner.trying |= is_try;
        Some(Pass {
            breaker: self,
            is_try,
        })
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        let inner = self.0.lock();
        match inner.open {
            None => State::Closed,
            Some(_) if inner.trying => State::HalfOpen,
            Some(_) => State::Open,
        }
    }

    /// How often it opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.0.lock().opened
    }
}

impl Pass<'_> {
    /// The service answered.
    pub fn succeeded(self) {
        let mut inner = self.breaker.0.lock();
        // One that was sent before it opened, and is answered late, says little about now.
        if self.is_try || inner.open.is_none() {
            inner.failures = 0;
            inner.open = None;
        }
    }

    /// It did not, or not in time. Returns whether that opened the breaker.
    pub fn failed(self, now: Instant) -> bool {
        let mut inner = self.breaker.0.lock();
        if let Some((_, waited)) = inner.open {
            if self.is_try {
                let wait = (waited * 2).min(WAIT_MAX);
                inner.open = Some((now + wait, wait));
            }
            return false;
        }
        inner.failures += 1;
        if inner.failures < FAILURES_MAX {
            return false;
        }
        inner.open = Some((now + WAIT_MIN, WAIT_MIN));
        inner.opened += 1;
        true
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_try {
            self.breaker.0.lock().trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, now: Instant) -> bool {
        breaker.pass(now).unwrap().failed(now)
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_success_closes_it() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES_MAX {
            assert!(!fail(&breaker, start));
        }
        breaker.pass(start).unwrap().succeeded();
        for _ in 1..FAILURES_MAX {
            assert!(!fail(&breaker, start), "only failures in a row count");
        }
        assert!(fail(&breaker, start));
        assert!(breaker.pass(start).is_none());
        assert_eq!((breaker.state(), breaker.opened()), (State::Open, 1));

        let later = start + WAIT_MIN;
        let one = breaker.pass(later).unwrap();
        assert!(breaker.pass(later).is_none(), "one tries at a time");
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(!one.failed(later));
        assert!(breaker.pass(later + WAIT_MIN).is_none(), "the wait doubles");
        let later = later + 2 * WAIT_MIN;
        drop(breaker.pass(later).unwrap());
        breaker
            .pass(later)
            .expect("one that went away leaves its place to the next")
            .succeeded();
        assert_eq!((breaker.state(), breaker.opened()), (State::Closed, 1));
    }

    #[test]
    fn late_answers_change_nothing_and_the_wait_is_bounded() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        let early: Vec<_> = (0..3).map(|_| breaker.pass(now).unwrap()).collect();
        while !fail(&breaker, now) {}
        for (at, pass) in early.into_iter().enumerate() {
            if at == 0 {
                pass.succeeded();
            } else {
                assert!(!pass.failed(now));
            }
        }
        assert_eq!(breaker.state(), State::Open);
        for _ in 0..20 {
            now += WAIT_MAX;
            assert!(!fail(&breaker, now));
        }
        assert!(breaker.pass(now + WAIT_MAX).is_some());
    }
}

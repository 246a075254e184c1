//! A client that takes nothing of its answer, and stays: its connection is given up, or a call, its hold and a
//! connection to a provider would be kept for as long as it likes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// As nginx has it for `send_timeout`. What was sent before fills the buffers of both machines, so a client that
/// is merely slow is never waited for this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a write has waited. No timer is made where none waits.
#[derive(Debug)]
pub struct Stall {
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    #[must_use]
    pub const fn new(patience: Duration) -> Self {
        Self {
            patience,
            timer: None,
        }
    }

    /// A write waits. Ready once nothing was taken for too long.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = || Box::pin(tokio::time::sleep(self.patience));
        self.timer.get_or_insert_with(timer).as_mut().poll(cx)
    }

    /// Something was taken.
    pub fn over(&mut self) {
        self.timer = None;
    }
}

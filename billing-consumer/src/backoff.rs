//! Trying again, for ever: pauses grow, and who is waited for is shown and, after a while, alarmed.

use std::time::Duration;

use crate::Settings;
use crate::status::{Board, Name};

const FIRST: Duration = Duration::from_millis(20);

/// One thing's tries.
pub(crate) struct Patience<'a> {
    lane: Name,
    board: &'a Board,
    settings: &'a Settings,
    next: Duration,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(lane: Name, board: &'a Board, settings: &'a Settings) -> Self {
        Self {
            lane,
            board,
            settings,
            next: FIRST.min(settings.retry_max),
        }
    }

    /// A try failed: tells why, and pauses.
    pub(crate) async fn failed(&mut self, why: String) {
        self.board.waits(self.lane, &why, self.settings.alarm_after);
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(self.settings.retry_max);
    }
}

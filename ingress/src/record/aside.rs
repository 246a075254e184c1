//! A second attempt of a call, on its way while the first one is: each is a record of its own, under one hold.
//!
//! The one that ends first is recorded as the earlier attempt, whichever was sent first: so the last record of
//! a call has its highest number, and a start after a crash knows which attempt was still open.

use std::mem::swap;
use std::time::{Duration, Instant};

use config::FailureKind;
use schemas::{Outcome, StreamMark, Text};

use super::{Call, End, Onward, State};
use crate::Error;
use crate::usage::Reading;

/// `error_code` of a record that says what is held for a second attempt, and of no end.
pub const HEDGED: &str = "hedged";

/// What the record of a call says of the attempt that is not the present one.
pub(super) struct Aside {
    attempt_no: u32,
    provider: Text,
    model: Text,
    deployment: Text,
    input_bound: u64,
    output_bound: Option<u64>,
    connect_us: Option<u64>,
    sent_at: Instant,
    failed: Option<(FailureKind, u16)>,
    why: &'static str,
    waited: Duration,
    state: State,
}

impl Call {
    /// More is held than the log knows, for an attempt beside the present one: a record that uses nothing tells
    /// the next start.
    ///
    /// # Errors
    /// The journal failed: nothing more may be sent.
    pub fn held_more(&mut self) -> Result<(), Error> {
        let end = End {
            outcome: Outcome::Error,
            status: 0,
            error_code: Some(HEDGED.into()),
            ..End::ok(Reading::default(), None, None)
        };
        self.attempt_over(end)
    }

    /// Another attempt beside the present one: it is the present one from now on, and has not been sent yet.
    pub fn beside(&mut self, to: &Onward<'_>) {
        self.aside = Some(Box::new(Aside {
            attempt_no: to.attempt_no,
            provider: to.provider.clone(),
            model: to.model.clone(),
            deployment: to.deployment.clone(),
            input_bound: to.input_bound,
            output_bound: to
                .output_cap
                .map(|cap| cap.saturating_mul(u64::from(self.choices))),
            connect_us: None,
            sent_at: Instant::now(),
            failed: None,
            why: to.why,
            waited: to.after,
            state: State::Admitted,
        }));
        self.usage.hold = self.room();
        self.swap();
    }

    /// Attempts that are on their way beside the present one, for its mark.
    pub(super) fn on_the_way(&self) -> Vec<StreamMark> {
        let sent = self
            .aside
            .iter()
            .filter(|aside| aside.state == State::Dispatched);
        sent.map(|aside| StreamMark {
            provider: aside.provider.clone(),
            model: aside.model.clone(),
            deployment: aside.deployment.clone(),
            attempt_no: aside.attempt_no,
            input_tokens: self.input_estimate.min(aside.input_bound),
            output_tokens: 0,
        })
        .collect()
    }

    /// The attempt aside is the present one, and the other way round.
    pub fn swap(&mut self) {
        let Some(aside) = &mut self.aside else { return };
        let usage = &mut self.usage;
        swap(&mut aside.attempt_no, &mut usage.attempt_no);
        swap(&mut aside.provider, &mut usage.provider);
        swap(&mut aside.model, &mut usage.model);
        swap(&mut aside.deployment, &mut usage.deployment);
        swap(&mut aside.connect_us, &mut usage.stages.connect_us);
        swap(&mut aside.input_bound, &mut self.input_bound);
        swap(&mut aside.output_bound, &mut self.output_bound);
        swap(&mut aside.sent_at, &mut self.sent_at);
        swap(&mut aside.failed, &mut self.failed);
        swap(&mut aside.why, &mut self.why);
        swap(&mut aside.waited, &mut self.waited);
        swap(&mut aside.state, &mut self.state);
    }

    /// The attempt aside is over. `end` is what is recorded of it; none where it cannot have cost.
    ///
    /// # Errors
    /// The journal failed: nobody could bill what it has used.
    pub fn aside_over(&mut self, end: Option<End>) -> Result<(), Error> {
        let Some(aside) = &mut self.aside else {
            return Ok(());
        };
        let present = self.usage.attempt_no;
        if aside.attempt_no > present {
            self.usage.attempt_no = aside.attempt_no;
            aside.attempt_no = present;
        }
        self.swap();
        let status = self.failed.map(|(_, status)| status);
        let status = status.or(end.as_ref().map(|end| end.status));
        let ended = self.attempt(u32::from(status.unwrap_or(0)));
        let recorded = end.map_or(Ok(()), |end| self.attempt_over(end));
        self.usage.attempts.push(ended);
        self.swap();
        self.aside = None;
        self.usage.hold = self.room();
        // A crash from here on bills the one that is left.
        self.mark();
        recorded
    }

    /// The call ends while two attempts are on their way.
    pub(super) fn drop_aside(&mut self) {
        if self.aside.is_none() || self.state == State::Closed {
            return;
        }
        self.swap();
        let sent = self.state == State::Dispatched;
        let reading = self.estimate(0);
        self.swap();
        let end = sent.then(|| End::cancelled(reading));
        if let Err(error) = self.aside_over(end) {
            tracing::error!(request.id = %self.usage.request_id, "a cancelled attempt could not be recorded: {error}");
        }
    }
}

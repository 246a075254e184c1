//! How far an answer has come: what a hang-up, or a kill, bills.

use std::time::Instant;

use schemas::{Event, Progress, StreamMark, Topic};

use super::{Call, whole_micros};
use crate::clock;
use crate::usage::Reading;

impl Call {
    /// The answer has begun, at `at`.
    pub fn first_byte(&mut self, at: Instant) {
        if self.usage.first_byte_us.is_none() {
            let after = at.saturating_duration_since(self.started);
            self.usage.first_byte_us = Some(whole_micros(after));
        }
    }

    /// How far a stream has come.
    pub fn produced(&mut self, output_estimate: u64, told: Option<Reading>) {
        self.output_estimate = output_estimate;
        if told.is_some() {
            self.told = told;
        }
    }

    /// Marks a stream's progress, for the case that we are killed. Not waited for, and a failure is none
    /// of the call's: its end will say so.
    pub fn mark(&self) {
        let progress = Progress {
            event_time: clock::now(),
            request_id: self.usage.request_id,
            mark: StreamMark {
                provider: self.usage.provider.clone(),
                model: self.usage.model.clone(),
                deployment: self.usage.deployment.clone(),
                attempt_no: self.usage.attempt_no,
                input_tokens: self.input_estimate.min(self.input_bound),
                output_tokens: self.bounded(self.output_estimate),
            },
            beside: self.on_the_way(),
        };
        if let Err(error) =
            self.gateway
                .journal
                .append(Topic::Progress, self.partition, &progress.body())
        {
            tracing::warn!(request.id = %self.usage.request_id, "cannot mark a stream's progress: {error}");
        }
    }

    /// What is billed where the provider did not say: never more than is held.
    #[must_use]
    pub fn estimate(&self, output_tokens: u64) -> Reading {
        Reading::estimate(
            self.input_estimate.min(self.input_bound),
            self.bounded(output_tokens),
        )
    }

    fn bounded(&self, output: u64) -> u64 {
        self.output_bound.map_or(output, |bound| output.min(bound))
    }
}

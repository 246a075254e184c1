//! A streamed answer: frames go on as they arrive, several that have arrived in one write, none ever
//! held back; the last one, `[DONE]`, only when the usage record is durable.
//!
//! Dropped before its end (the client hung up), the relay closes the provider's connection and bills
//! what was produced.

mod assemble;
mod name;
mod out;
mod priced;
mod scan;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use config::FailureKind;

use crate::exchange::Exchange;
use crate::headers::{self, Timing};
use crate::record::End;
use crate::reply::{Content, Reply};
use crate::semantic_cache::Complete;
use crate::synced::Synced;
use crate::upstream::{Answer, UpstreamError};
use crate::{Error, alerts, providers::openai};
use out::Out;
use scan::Scanner;

pub use assemble::assemble;
pub use priced::priced;

/// Enough for one write: a faster provider is read again after it.
const WRITE_MAX: usize = 64 * 1024;
/// A stream that is to be kept is kept up to this size.
const KEPT_MAX: usize = 4 << 20;
/// Marks of a stream in progress: what a crash can lose of its bill.
const MARK_EVERY: Duration = Duration::from_secs(2);
const MARK_TOKENS: u64 = 1_000;
/// How long the rest of an answer is waited for, so that its connection can be used again.
const DRAIN: Duration = Duration::from_secs(1);
const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// Begins to relay.
pub fn relay(mut exchange: Exchange, answer: Answer, show_usage: bool) -> Reply {
    let answered = Instant::now();
    exchange.call.first_byte(answered);
    let scanner = Scanner::new(
        exchange.endpoint,
        &exchange.call.usage().model_requested,
        show_usage,
    )
    .holding_usage(exchange.plan.config().server.cost_in_stream_usage);
    let timing = Timing {
        started: exchange.call.started(),
        dispatched: exchange.dispatched,
        answered,
    };
    let head = exchange.head(&answer.fields, timing, |into| {
        headers::content_type(into, "text/event-stream; charset=utf-8");
        headers::no_cache(into);
        headers::spend_before(into, &exchange.call);
    });
    let relay = Relay {
        kept: exchange.ticket.is_some().then(BytesMut::new),
        exchange,
        answer,
        scanner,
        stage: Stage::Relaying,
        answered,
        marked: answered,
        marked_tokens: 0,
    };
    Reply::ok(head, Content::Stream(Box::new(relay)))
}

/// A stream on its way to a client.
pub struct Relay {
    exchange: Exchange,
    answer: Answer,
    scanner: Scanner,
    stage: Stage,
    /// When its first bytes came.
    answered: Instant,
    /// Everything sent so far, for the cache.
    kept: Option<BytesMut>,
    /// When, and at how many tokens, progress was last marked.
    marked: Instant,
    marked_tokens: u64,
}

enum Stage {
    Relaying,
    /// USAGE is written; `last` goes out when it is durable.
    Closing {
        recorded: Synced,
        last: Bytes,
    },
    /// One more frame, then the end.
    Last(Bytes),
    Ended,
}

impl Relay {
    /// The next bytes to send; `None` at the end.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.stage {
                Stage::Relaying => {
                    let out = ready!(self.poll_relay(cx));
                    if !out.is_empty() {
                        return Poll::Ready(Some(out));
                    }
                }
                Stage::Closing { recorded, last } => {
                    // What follows the end is read meanwhile, so that the connection can be used again.
                    let _ = self.answer.poll_drain(cx);
                    let last = match ready!(Pin::new(recorded).poll(cx)) {
                        Ok(()) => std::mem::take(last),
                        // The client must not take an unbilled answer for a complete one.
                        Err(error) => Error::from(error).frame_for(self.exchange.endpoint),
                    };
                    self.let_go();
                    self.stage = Stage::Last(last);
                }
                Stage::Last(last) => {
                    let last = std::mem::take(last);
                    self.stage = Stage::Ended;
                    if !last.is_empty() {
                        return Poll::Ready(Some(last));
                    }
                }
                Stage::Ended => return Poll::Ready(None),
            }
        }
    }

    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// Whatever has arrived. Empty when the stage has changed.
    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let mut out = Out::default();
        let end = loop {
            match self.answer.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    if let Err(limit) = self.scanner.feed(chunk, &mut out) {
                        break Some(Err(UpstreamError::TooLarge(limit)));
                    }
                    if self.scanner.seen.done {
                        break Some(Ok(()));
                    }
                    if out.len() >= WRITE_MAX {
                        break None;
                    }
                }
                Poll::Ready(None) => {
                    self.scanner.end(&mut out);
                    let seen = &self.scanner.seen;
                    // Some providers end without `[DONE]`; one that gave no reason was cut off.
                    let complete = seen.done || (seen.finish.is_some() && !seen.failed);
                    break Some(if complete {
                        Ok(())
                    } else {
                        Err(UpstreamError::Closed)
                    });
                }
                Poll::Ready(Some(Err(error))) => break Some(Err(error)),
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    self.mark();
                    break None;
                }
            }
        };
        let out = out.take();
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&out);
            if kept.len() > KEPT_MAX {
                self.kept = None;
            }
        }
        // Only now: what the cache keeps is the answer to its last frame.
        match end {
            None => {}
            Some(Ok(())) => self.complete(),
            Some(Err(error)) => self.fail(error),
        }
        Poll::Ready(out)
    }

    /// The record was durable before the provider's connection had come to its end: it gets a moment more.
    fn let_go(&mut self) {
        if let Some(mut rest) = self.answer.take_rest() {
            self.exchange.call.gateway().detach(async move {
                // Too slow for its own last bytes: the connection is dropped.
                let _ = tokio::time::timeout(DRAIN, poll_fn(|cx| rest.poll_drain(cx))).await;
            });
        }
    }

    fn mark(&mut self) {
        let tokens = self.scanner.seen.output_estimate();
        if tokens < self.marked_tokens + MARK_TOKENS && self.marked.elapsed() < MARK_EVERY {
            return;
        }
        (self.marked, self.marked_tokens) = (Instant::now(), tokens);
        self.exchange.call.produced(tokens, None);
        self.exchange.call.mark();
    }

    /// The answer is complete, or the provider says that it failed.
    fn complete(&mut self) {
        let seen = &mut self.scanner.seen;
        let output = seen.output_estimate();
        let reading = seen
            .usage
            .take()
            .unwrap_or_else(|| self.exchange.call.estimate(output));
        if seen.failed {
            // Its error frame has gone out; what it produced before is billed.
            let error = openai::error(http::StatusCode::BAD_GATEWAY, None, b"{}");
            let end = End::failed(&Error::Provider(Box::new(error)), reading);
            self.exchange.broke(FailureKind::Server);
            let last = self.last();
            self.close(end, last, None);
            return;
        }
        let (finish, tier) = (seen.finish.take(), seen.service_tier.take());
        let keep = finish.as_deref() == Some("stop");
        let tokens = (
            reading.meters.input_tokens(),
            reading.meters.output_tokens(),
        );
        let raw = reading.raw.clone();
        if let (Some(kept), Some(held)) = (&mut self.kept, &seen.held) {
            kept.extend_from_slice(held);
        }
        self.exchange
            .succeeded(Some(self.answered), Instant::now(), tokens);
        let complete = self.kept.take().filter(|_| keep).and_then(|kept| {
            Some(Complete {
                answer: assemble(&kept, &raw)?,
                input_tokens: u64::try_from(tokens.0).unwrap_or(0),
                output_tokens: u64::try_from(tokens.1).unwrap_or(0),
                cost: schemas::NanoUsd::ZERO,
                model: self.exchange.call.usage().model.clone(),
                provider: self.exchange.call.usage().provider.clone(),
                at: self.exchange.call.usage().admitted_at,
            })
        });
        let last = self.last();
        self.close(End::ok(reading, finish, tier), last, complete);
    }

    /// The frame that says that the answer is complete.
    fn last(&mut self) -> Bytes {
        if self.exchange.endpoint.ends_with_done() {
            DONE
        } else {
            self.scanner.seen.last.take().unwrap_or_default()
        }
    }

    /// The answer broke off: one error frame, and a bill for what had come.
    fn fail(&mut self, error: UpstreamError) {
        let seen = &mut self.scanner.seen;
        let output = seen.output_estimate();
        let reading = seen
            .usage
            .take()
            .unwrap_or_else(|| self.exchange.call.estimate(output));
        self.exchange.broke(error.failure());
        let error = error.into_error(&self.exchange);
        let last = if self.scanner.seen.failed {
            Bytes::new()
        } else {
            error.frame_for(self.exchange.endpoint)
        };
        self.close(End::failed(&error, reading), last, None);
    }

    fn close(&mut self, end: End, last: Bytes, complete: Option<Complete>) {
        let closed = match self.exchange.call.close(end) {
            Ok(closed) => closed,
            Err(error) => {
                tracing::error!("a stream could not be recorded: {error}");
                self.stage = Stage::Last(error.frame_for(self.exchange.endpoint));
                return;
            }
        };
        if let Some(complete) = complete {
            self.exchange.remember(Complete {
                cost: closed.own,
                ..complete
            });
        }
        // The frame with the usage waited for this.
        let last = match self.scanner.seen.held.take() {
            Some(held) => [priced(&held, closed.amount), last].concat().into(),
            None => last,
        };
        let gateway = self.exchange.call.gateway().clone();
        let request = self.exchange.call.usage().request_id;
        let (keeper, scopes) = (gateway.clone(), self.exchange.call.watched_scopes());
        gateway.detach(async move {
            let now = crate::clock::now();
            alerts::finish(&keeper, request, closed, now, &scopes).await;
        });
        let recorded = self.exchange.synced(closed);
        self.stage = Stage::Closing { recorded, last };
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Relaying) {
            // The client hung up: the call bills this when it is dropped.
            let seen = &mut self.scanner.seen;
            let output = seen.output_estimate();
            self.exchange.call.produced(output, seen.usage.take());
        }
    }
}

//! A plain answer: read whole, its usage recorded and durable, then passed on with its cost.

use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderValue;
use schemas::Text;

use crate::Error;
use crate::error::ProviderError;
use crate::exchange::Exchange;
use crate::failover::Failed;
use crate::headers::{self, Timing};
use crate::json::{self, KEYS};
use crate::providers::openai;
use crate::record::End;
use crate::reply::{Content, Reply};
use crate::semantic_cache::Complete;
use crate::upstream::{Answer, UpstreamError};
use crate::usage::{Reading, by_units, tokens_of_bytes};

/// The largest plain answer that is read. Images in an answer are megabytes; nothing is this large.
const ANSWER_MAX: usize = 64 << 20;
/// The largest error that is read.
const ERROR_MAX: usize = 1 << 20;

/// What an answer says of itself.
#[derive(Default)]
struct Told {
    /// Where the value of `model` lies.
    model: Option<Range<usize>>,
    usage: Option<Reading>,
    service_tier: Option<Text>,
    finish: Option<Text>,
}

impl Told {
    /// `None` for what cannot be an answer. What is wrong inside one is passed on: clients parse it all,
    /// and a gateway that did would double what large answers cost.
    fn read(body: &[u8]) -> Option<Self> {
        let object = body.trim_ascii();
        if !object.starts_with(b"{") || !object.ends_with(b"}") {
            return None;
        }
        let text = |at: usize| json::text_at(body, at);
        let finish = KEYS.finish_reason.first(body);
        // Behind the choices with most providers, before them with some.
        let usage = KEYS
            .usage
            .after(body, finish.unwrap_or(0))
            .or_else(|| KEYS.usage.first(body));
        Some(Self {
            model: KEYS
                .model
                .first(body)
                .and_then(|at| Some(at..at + text(at)?.len() + 2)),
            usage: usage.and_then(|at| Reading::openai(&body[at..])),
            service_tier: KEYS.service_tier.first(body).and_then(text).map(Text::from),
            finish: finish.and_then(text).map(Text::from),
        })
    }
}

/// Reads an answer and ends the call.
///
/// # Errors
/// The provider's error, a failure on the way, or a journal that did not take the record.
pub async fn plain(exchange: &mut Exchange, answer: &mut Answer) -> Result<Reply, Box<Failed>> {
    let body = match answer.collect(ANSWER_MAX).await {
        Ok(body) => body,
        Err(source) => {
            // It had begun to answer, so it charges.
            let reading = exchange.call.estimate(0);
            return Err(Failed::upstream(exchange, source, reading));
        }
    };
    let answered = Instant::now();
    exchange.call.first_byte(answered);
    if let Some(error) = openai::error_as_answer(&body) {
        return Err(refused(exchange, error, answer));
    }
    let kind = answer.fields.get("content-type").cloned();
    let json = kind.as_ref().is_some_and(is_json);
    let told = match Told::read(&body) {
        Some(told) => told,
        // Sound, and transcriptions as plain text or subtitles.
        None if exchange.endpoint.may_answer_text() && !json => Told::default(),
        None => {
            // Broken JSON was an answer once; anything else never came from a model.
            let reading = if json {
                exchange.call.estimate(tokens_of_bytes(body.len() as u64))
            } else {
                Reading::default()
            };
            let source = UpstreamError::Malformed("no JSON object".to_owned());
            return Err(Failed::upstream(exchange, source, reading));
        }
    };
    let Told {
        model,
        usage,
        service_tier,
        finish,
    } = told;
    let by_units = || {
        by_units(
            exchange.endpoint,
            exchange.units,
            exchange.speech_estimate,
            &body,
        )
    };
    let reading = usage.or_else(by_units);
    let reading =
        reading.unwrap_or_else(|| exchange.call.estimate(tokens_of_bytes(body.len() as u64)));
    let complete = exchange.ticket.is_some() && finish.as_deref() == Some("stop");
    let tokens = (
        reading.meters.input_tokens(),
        reading.meters.output_tokens(),
    );
    let sent = as_asked(&body, model, &exchange.call.usage().model_requested);

    let end = End {
        at: Some(answered),
        ..End::ok(reading, finish, service_tier)
    };
    let settled = exchange.settle(end).await.map_err(Failed::over)?;
    exchange.succeeded(None, answered, tokens);
    if complete {
        exchange.remember(Complete {
            answer: body.clone(),
            input_tokens: u64::try_from(tokens.0).unwrap_or(0),
            output_tokens: u64::try_from(tokens.1).unwrap_or(0),
            cost: settled.own,
            model: exchange.call.usage().model.clone(),
            provider: exchange.call.usage().provider.clone(),
            at: exchange.call.usage().admitted_at,
        });
    }
    let timing = Timing {
        started: exchange.call.started(),
        dispatched: exchange.dispatched,
        answered,
    };
    let head = exchange.head(&answer.fields, timing, |into| {
        headers::cost(into, &exchange.call, &settled);
        match kind {
            Some(kind) if exchange.endpoint.may_answer_text() => {
                headers::content_type_of(into, &kind);
            }
            _ => headers::content_type(into, "application/json"),
        }
    });
    Ok(Reply::ok(head, Content::Whole(sent)))
}

/// Reads a provider's refusal: nothing was produced, so nothing is billed.
pub async fn refusal(exchange: &mut Exchange, answer: &mut Answer) -> Box<Failed> {
    let body = answer.collect(ERROR_MAX).await.unwrap_or_default();
    let error = openai::error(answer.status, answer.fields.get("retry-after"), &body);
    refused(exchange, error, answer)
}

fn refused(exchange: &mut Exchange, mut error: ProviderError, answer: &mut Answer) -> Box<Failed> {
    exchange.heard(std::mem::take(&mut answer.fields));
    if error.status.is_server_error() {
        error.message = format!("{}Exception - {}", exchange.exception(), error.message);
    }
    Failed::provider(exchange, error)
}

/// What came where a stream was asked for. A whole answer was made, so it is billed, though nobody can use it.
pub async fn no_stream(exchange: &mut Exchange, answer: &mut Answer) -> Box<Failed> {
    let mut reading = Reading::default();
    if answer.fields.get("content-type").is_some_and(is_json) {
        let body = answer.collect(ANSWER_MAX).await;
        let read = body.as_ref().ok().map(|body| &body[..]);
        if let Some(error) = read.and_then(openai::error_as_answer) {
            return refused(exchange, error, answer);
        }
        let length = read.map_or(0, <[u8]>::len) as u64;
        let told = read.and_then(Told::read).and_then(|told| told.usage);
        reading = told.unwrap_or_else(|| exchange.call.estimate(tokens_of_bytes(length)));
    }
    let what = "a stream was asked for, and something else came".to_owned();
    Failed::upstream(exchange, UpstreamError::Malformed(what), reading)
}

fn is_json(kind: &HeaderValue) -> bool {
    let wanted = b"application/json";
    let kind = kind.as_bytes().get(..wanted.len());
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(wanted))
}

/// The answer with the name that the client asked for in the place of the provider's.
fn as_asked(body: &Bytes, model: Option<Range<usize>>, requested: &str) -> Bytes {
    let Some(at) = model else {
        return body.clone();
    };
    if json::text_at(body, at.start) == Some(requested) {
        return body.clone();
    }
    let room = body.len() - at.len() + requested.len() + 2;
    let mut sent = Vec::with_capacity(room);
    sent.extend_from_slice(&body[..at.start]);
    // A vector takes whatever is written, and a string always serialises.
    let _ = serde_json::to_writer(&mut sent, requested);
    sent.extend_from_slice(&body[at.end..]);
    sent.into()
}

impl UpstreamError {
    /// With the name that LiteLLM's users know such errors by.
    pub fn into_error(self, exchange: &Exchange) -> Error {
        Error::Upstream {
            exception: exchange.exception(),
            source: self,
        }
    }
}

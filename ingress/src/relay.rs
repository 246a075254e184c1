//! A plain answer: read whole, its usage recorded and durable, then passed on with its cost.

use std::borrow::Cow;
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use schemas::Text;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Error;
use crate::chat::Exchange;
use crate::edit::Edits;
use crate::headers::{self, Timing};
use crate::providers::openai;
use crate::record::End;
use crate::semantic_cache::Complete;
use crate::upstream::{Answer, UpstreamError};
use crate::usage::{Reading, tokens_of_bytes};

/// The largest plain answer that is read. Images in an answer are megabytes; nothing is this large.
const ANSWER_MAX: usize = 64 << 20;
/// The largest error that is read.
const ERROR_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    service_tier: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

/// Reads an answer and ends the call.
///
/// # Errors
/// The provider's error, a failure on the way, or a journal that did not take the record.
pub async fn plain(mut exchange: Exchange, mut answer: Answer) -> Result<Response<Body>, Error> {
    let body = match answer.collect(ANSWER_MAX).await {
        Ok(body) => body,
        Err(source) => {
            // It had begun to answer, so it charges.
            let reading = exchange.call.estimate(0);
            return Err(exchange.fail(source.into_error(&exchange), reading).await);
        }
    };
    let answered = Instant::now();
    exchange.call.first_byte();
    let parsed = serde_json::from_slice::<Fields<'_>>(&body).map_err(|error| error.to_string());
    // A list would be read as the fields in their order.
    let object = body.trim_ascii_start().starts_with(b"{");
    let fields = match parsed.and_then(|fields| if object { Ok(fields) } else { Err("no object".to_owned()) }) {
        Ok(fields) => fields,
        Err(error) => {
            let json = answer
                .headers
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
            // Broken JSON was an answer once; anything else never came from a model.
            let reading = if json {
                exchange.call.estimate(tokens_of_bytes(body.len() as u64))
            } else {
                Reading::default()
            };
            let source = UpstreamError::Malformed(format!("no JSON: {error}"));
            return Err(exchange.fail(source.into_error(&exchange), reading).await);
        }
    };
    let reading = fields
        .usage
        .and_then(|raw| Reading::openai(raw.get().as_bytes()))
        .unwrap_or_else(|| exchange.call.estimate(tokens_of_bytes(body.len() as u64)));
    let finish = fields
        .choices
        .first()
        .and_then(|choice| choice.finish_reason.as_deref())
        .map(Text::from);
    let tier = fields.service_tier.as_deref().map(Text::from);
    let complete = exchange.ticket.is_some() && finish.as_deref() == Some("stop");
    let tokens = (
        reading.meters.input_tokens(),
        reading.meters.output_tokens(),
    );
    let sent = as_asked(&body, fields.model, &exchange.call.usage().model_requested);

    let settled = exchange.call.settle(End::ok(reading, finish, tier)).await?;
    exchange.succeeded(answered);
    if complete {
        exchange.remember(Complete {
            answer: body.clone(),
            input_tokens: u64::try_from(tokens.0).unwrap_or(0),
            output_tokens: u64::try_from(tokens.1).unwrap_or(0),
            cost: settled.amount,
            model: exchange.call.usage().model.clone(),
            provider: exchange.call.usage().provider.clone(),
            at: exchange.call.usage().admitted_at,
        });
    }
    let mut response = Response::new(Body::from(sent));
    let into = response.headers_mut();
    let timing = Timing {
        started: exchange.call.started(),
        dispatched: exchange.dispatched,
        answered,
    };
    exchange.tell(into, &answer.headers, timing);
    headers::cost(into, &exchange.call, &settled);
    into.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

/// Reads a provider's refusal and ends the call: nothing was produced, so nothing is billed.
pub async fn refusal(mut exchange: Exchange, mut answer: Answer) -> Error {
    let body = answer.collect(ERROR_MAX).await.unwrap_or_default();
    let mut error = openai::error(answer.status, &answer.headers, &body);
    if error.status.is_server_error() {
        error.message = format!("{}Exception - {}", exchange.exception(), error.message);
    }
    exchange
        .fail(Error::Provider(Box::new(error)), Reading::default())
        .await
}

/// The answer with the name that the client asked for in the place of the provider's.
fn as_asked(body: &Bytes, model: Option<&RawValue>, requested: &str) -> Bytes {
    let Some(raw) = model.map(RawValue::get) else {
        return body.clone();
    };
    if raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        == Some(requested)
    {
        return body.clone();
    }
    let start = raw.as_ptr() as usize - body.as_ptr() as usize;
    let mut edits = Edits::default();
    edits.replace(
        start..start + raw.len(),
        serde_json::to_string(requested).unwrap_or_default(),
    );
    edits.apply(body)
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

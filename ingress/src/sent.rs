//! What the headers of a call say, read before its body is.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::HeaderValue;
use schemas::{Micros, RequestId, Text};

use crate::auth::{Sought, authenticate_from};
use crate::directory::Principal;
use crate::endpoint::Endpoint;
use crate::models::{Group, Models};
use crate::plan::Wishes;
use crate::request::ModelRequest;
use crate::{Error, Gateway, Worker};

/// What a client may wait at most, plain and streamed.
const TIMEOUTS: [&str; 2] = ["x-litellm-timeout", "x-litellm-stream-timeout"];

/// What the caller wants to find again with its call in the logs: a JSON object.
const METADATA: &str = "x-litellm-spend-logs-metadata";

/// A row of the logs holds so much of it.
const METADATA_MAX: usize = 16 << 10;

/// What the headers of a call say, read before its body is.
pub struct Sent {
    pub caller: Result<Principal, Error>,
    pub now: Micros,
    pub started: Instant,
    /// Finding the caller took so long.
    pub auth: Duration,
    pub call_id: Option<Text>,
    pub end_user: Option<Text>,
    pub tags: Vec<Text>,
    /// `x-litellm-spend-logs-metadata`, as it stands.
    pub metadata: Option<Text>,
    /// `x-litellm-timeout` and `x-litellm-stream-timeout`, as they stand.
    pub timeouts: [Option<Text>; 2],
    pub wishes: Result<Wishes, Error>,
    pub endpoint: Endpoint,
    /// The model that the path names.
    pub named: Option<Text>,
    /// What a form says of itself.
    pub form: Option<HeaderValue>,
    /// The call that this one is made for, in this process.
    pub parent: Option<RequestId>,
}

impl Sent {
    /// Reads the headers of a chat call that came over a connection of `peer`, and finds its caller.
    pub fn read<H: Sought + ?Sized>(gateway: &Gateway, headers: &H, peer: IpAddr) -> Self {
        let (now, started) = (gateway.now(), Instant::now());
        let text = |name| headers.first(name).map(Text::from);
        Self {
            caller: authenticate_from(gateway, headers, now, Some(peer)),
            now,
            started,
            auth: started.elapsed(),
            call_id: sent_id(headers),
            end_user: end_user(gateway, headers),
            tags: tags(headers),
            metadata: text(METADATA),
            timeouts: TIMEOUTS.map(text),
            wishes: wishes(headers),
            endpoint: Endpoint::Chat,
            named: None,
            form: None,
            parent: None,
        }
    }

    /// Since it came.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A call that this one needs, of the same caller, within `left`.
    pub fn within(
        &self,
        worker: &Worker,
        caller: &Principal,
        parent: RequestId,
        left: Duration,
    ) -> Self {
        Self {
            caller: Ok(caller.clone()),
            now: worker.gateway.now(),
            started: Instant::now(),
            auth: Duration::ZERO,
            call_id: None,
            end_user: self.end_user.clone(),
            tags: self.tags.clone(),
            metadata: None,
            timeouts: [Some(left.as_secs_f64().to_string().into()), None],
            wishes: Ok(Wishes::default()),
            endpoint: Endpoint::Chat,
            named: None,
            form: None,
            parent: Some(parent),
        }
    }
}

/// The client's own id of the call.
fn sent_id<H: Sought + ?Sized>(headers: &H) -> Option<Text> {
    let id = headers.first("x-litellm-call-id")?;
    (!id.is_empty() && id.len() <= 256).then(|| id.into())
}

fn end_user<H: Sought + ?Sized>(gateway: &Gateway, headers: &H) -> Option<Text> {
    let models = gateway.models.load();
    let own = models.config.server.user_header.as_deref();
    let text = own
        .and_then(|name| headers.first(name))
        .or_else(|| headers.first("x-litellm-end-user-id"))
        .or_else(|| headers.first("x-litellm-customer-id"))?
        .trim();
    (!text.is_empty()).then(|| text.into())
}

fn tags<H: Sought + ?Sized>(headers: &H) -> Vec<Text> {
    let Some(list) = headers.first("x-litellm-tags") else {
        return Vec::new();
    };
    list.split(',')
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .map(Text::from)
        .collect()
}

/// JSON for the logs.
pub fn metadata(sent: Option<Text>) -> Result<Option<Text>, Error> {
    let Some(text) = sent else {
        return Ok(None);
    };
    let wrong = |what: &str| Err(Error::bad_request(format!("{METADATA} {what}"), METADATA));
    if text.len() > METADATA_MAX {
        return wrong(&format!("is longer than {METADATA_MAX} bytes"));
    }
    let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
    match object {
        Ok(_) => Ok(Some(text)),
        Err(_) => wrong("must be a JSON object"),
    }
}

/// The limit of the whole call, or less where the client says so.
pub fn timeout(
    asked: &[Option<Text>; 2],
    request: &ModelRequest,
    models: &Models,
    group: &Group,
) -> Result<Duration, Error> {
    let rules = &models.rules.0;
    let own = group.members().first();
    let own = own.map(|member| &member.served.deployment.entry.timeouts);
    let [plain, streamed] = asked;
    let (limit, own, name, text) = match (request.stream, streamed) {
        (true, streamed) => (
            rules.deadline_stream,
            own.map(|own| own.total_stream),
            TIMEOUTS[usize::from(streamed.is_some())],
            streamed.as_ref().or(plain.as_ref()),
        ),
        (false, _) => (
            rules.deadline,
            own.map(|own| own.total),
            TIMEOUTS[0],
            plain.as_ref(),
        ),
    };
    let limit = limit.max(own.unwrap_or_default());
    let seconds: Option<f64> = match (text, request.timeout) {
        (Some(text), _) => text.trim().parse().ok(),
        (None, Some(seconds)) => Some(seconds),
        (None, None) => return Ok(limit),
    };
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(asked) if !asked.is_zero() => Ok(asked.min(limit)),
        _ => Err(Error::bad_request(
            format!("{name} must be a number of seconds above 0"),
            name,
        )),
    }
}

/// What the headers say for routing.
fn wishes<H: Sought + ?Sized>(headers: &H) -> Result<Wishes, Error> {
    let name = "x-litellm-num-retries";
    let retries = match headers.first(name) {
        None => None,
        Some(text) => Some(text.trim().parse().map_err(|_| {
            Error::bad_request(format!("{name} must be a number of retries"), name)
        })?),
    };
    Ok(Wishes {
        retries,
        session: headers.first("x-litellm-session-id").map(Text::from),
        region: headers.first("x-tollgate-region").map(Text::from),
    })
}

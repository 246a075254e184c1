//! What gateways and the cache say to each other over HTTP, as JSON.
//!
//! A gateway with a budget of time sends it along. It is then never kept waiting: a request that
//! would wait for an identical one is told so, and asks again on `/v1/wait`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::{Controls, Policy};
use crate::entries::Tokens;

/// What a gateway sends to `POST /v1/lookup`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LookupRequest {
    /// The tenant, from the authenticated key only.
    pub scope: String,
    /// The model that the request was resolved to.
    pub model: String,
    /// The client's chat request as it came.
    pub request: Box<RawValue>,
    /// What the client asks of the cache.
    #[serde(default)]
    pub controls: Controls,
    /// What the operator allows.
    #[serde(default)]
    pub policy: Policy,
    /// Milliseconds that the gateway waits for the reply. None: as long as it takes, which includes
    /// waiting for an identical request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_ms: Option<u64>,
    /// The name that the ticket of a miss is to have, so that the gateway can give it back even where
    /// the reply comes too late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

/// What it gets back, from `/v1/lookup` and `/v1/wait`.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum LookupReply {
    /// Here is the answer.
    Hit {
        /// `exact` or `semantic`.
        kind: String,
        /// Cosine of the two questions.
        similarity: f32,
        /// The entry's id.
        entry: String,
        /// Seconds since it was stored.
        age_s: u64,
        /// The answer.
        answer: WireAnswer,
    },
    /// Ask the provider, then `POST /v1/store` with the ticket, if there is one.
    Miss {
        /// Why.
        reason: String,
        /// Names what the cache remembers of the request.
        ticket: Option<String>,
    },
    /// Ask the provider; nothing will be stored.
    Bypass {
        /// Why.
        reason: String,
    },
    /// The same request is under way: `POST /v1/wait` with the ticket.
    Wait {
        /// Names the place in the queue.
        ticket: String,
    },
}

/// The same as a gateway reads it: one object, since a tagged choice cannot hold raw JSON.
#[derive(Debug, Deserialize)]
pub struct AnyReply {
    /// `hit`, `miss`, `bypass` or `wait`.
    pub outcome: String,
    /// Of a hit.
    #[serde(default)]
    pub kind: String,
    /// Of a hit.
    #[serde(default)]
    pub similarity: f32,
    /// Of a hit.
    #[serde(default)]
    pub entry: String,
    /// Of a hit.
    #[serde(default)]
    pub answer: Option<WireAnswer>,
    /// Of a miss or bypass.
    #[serde(default)]
    pub reason: String,
    /// Of a miss or wait.
    #[serde(default)]
    pub ticket: Option<String>,
}

/// An [`Answer`](crate::Answer) as JSON.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WireAnswer {
    /// The provider's `chat.completion` object.
    pub body: Box<RawValue>,
    /// What the provider counted.
    #[serde(default)]
    pub usage: Tokens,
    /// What the call cost, in nano-dollars.
    #[serde(default)]
    pub cost_nano: i64,
    /// The model that answered.
    #[serde(default)]
    pub model: String,
    /// When, in seconds since the Unix epoch.
    #[serde(default)]
    pub created: i64,
    /// Who answered.
    #[serde(default)]
    pub provider: String,
}

/// What a gateway sends to `POST /v1/store`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StoreRequest {
    /// From the miss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The look-up again, for a cache that does not know the ticket: another one behind the same
    /// address, or one that has started anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<LookupRequest>,
    /// The complete answer.
    pub answer: WireAnswer,
}

/// Names one ticket: `POST /v1/wait` and `/v1/release`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    /// From the reply.
    pub ticket: String,
}

//! The seam to the answer cache: in this process (`app` joins it to `cache-service`) or another one.
//!
//! A call is never the worse for it: whatever goes wrong over there is a miss.

use std::any::Any;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::{Attribution, CacheKind, Micros, NanoUsd, Text};

/// What is looked up.
pub struct Lookup<'a> {
    /// Whose call it is: answers never pass from one tenant to another.
    pub attribution: &'a Attribution,
    /// The model as the client asked for it.
    pub model: &'a str,
    /// The request as it came.
    pub body: &'a Bytes,
    /// The value of the body's `cache` field, as JSON.
    pub controls: Option<&'a str>,
    /// The client wants a stream, and usage on it.
    pub stream: bool,
    pub include_usage: bool,
}

/// An answer that was given before, ready to be sent.
#[derive(Debug, Clone)]
pub struct Hit {
    pub kind: CacheKind,
    /// 1 for an exact one.
    pub similarity: f32,
    /// The JSON of a plain answer, or the frames of a stream with its `[DONE]`.
    pub chunks: Vec<Bytes>,
    /// What the stored call used and cost: what the hit saves.
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost: NanoUsd,
    /// `x-litellm-cache-key`.
    pub key: String,
}

/// Permission to store the answer of a call that was looked up. Dropping it frees whoever waits for it.
pub struct Ticket(pub Box<dyn Any + Send + Sync>);

/// What a lookup found.
pub enum Found {
    Hit(Hit),
    Miss(Ticket),
    /// Neither looked up nor to be stored, and why.
    Bypass(&'static str),
}

/// A complete answer to be stored.
#[derive(Debug, Clone)]
pub struct Complete {
    /// A complete chat completion, as JSON.
    pub answer: Bytes,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost: NanoUsd,
    /// What the provider calls the model, and who it is.
    pub model: Text,
    pub provider: Text,
    /// When the call was admitted.
    pub at: Micros,
}

/// The cache, or where it keeps its answers, does not answer.
#[derive(Debug, Clone, Copy)]
pub struct Unavailable;

/// The answer cache.
#[async_trait]
pub trait SemanticCache: Send + Sync {
    /// Never waits longer than a fraction of a provider's answer.
    async fn lookup(&self, lookup: Lookup<'_>) -> Found;

    /// Keeps an answer that ended in `stop`.
    async fn store(&self, ticket: Ticket, complete: Complete);

    /// Takes an answer out, for every gateway: the one under this key, of this caller's where one is
    /// given. Returns whether there was one.
    async fn forget(&self, who: Option<&Attribution>, key: &str) -> Result<bool, Unavailable>;

    /// What the file says of it now: in force for the look-ups that come.
    fn settings(&self, settings: &config::Cache);

    /// What can be had of it now, in a word: `semantic`, `exact` or `unavailable`.
    fn state(&self) -> &'static str;

    /// Adds its own families, in Prometheus' text format.
    fn metrics(&self, out: &mut String);
}

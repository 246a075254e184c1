//! The answer cache in this process: joins the ingress' seam to `cache-service`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use cache_service::{
    Answer, CacheConfig, CacheService, Controls, HitKind, Lookup, Mode, Outcome, Policy, Tokens,
};
use ingress::{Complete, Found, Hit, SemanticCache, Ticket, clock};
use schemas::{Attribution, CacheKind, NanoUsd, RequestId};
use serde::Deserialize;

/// The cache that a configuration asks for, if it asks for one.
pub async fn open(cache: &config::Cache, data_dir: &Path) -> Result<Option<Arc<InProcess>>> {
    if !cache.enabled {
        return Ok(None);
    }
    let service = service(cache, data_dir).await?;
    let policy = Policy {
        mode: if cache.semantic {
            Mode::Semantic
        } else {
            Mode::Exact
        },
        ..Policy::default()
    };
    Ok(Some(Arc::new(InProcess {
        service,
        policy,
        on_request_only: cache.on_request_only,
    })))
}

/// The cache itself, over the entries that the data directory holds.
pub async fn service(cache: &config::Cache, data_dir: &Path) -> Result<CacheService> {
    let config = CacheConfig {
        threshold: cache
            .threshold
            .as_str()
            .parse()
            .context("cache threshold")?,
        ttl_s: cache.ttl.as_secs().max(1),
        ttl_max_s: cache.ttl.as_secs().max(86_400),
        bytes_max: cache.max_bytes,
        semantic: cache.semantic,
        ..CacheConfig::at(data_dir.join("cache"))
    };
    let service = CacheService::open(config).await?;
    for warning in service.readiness().warnings {
        tracing::warn!("answer cache: {warning}");
    }
    Ok(service)
}

/// The cache-service without a wire.
pub struct InProcess {
    service: CacheService,
    policy: Policy,
    /// `mode: default_off`: only calls that say `use-cache`.
    on_request_only: bool,
}

impl InProcess {
    /// Waits until what was stored is on disk.
    pub async fn drain(&self) {
        self.service.drain().await;
    }
}

#[async_trait]
impl SemanticCache for InProcess {
    async fn lookup(&self, lookup: ingress::Lookup<'_>) -> Found {
        let asked = Asked::read(lookup.controls);
        if self.on_request_only && !asked.use_cache {
            return Found::Bypass("not asked for");
        }
        let scope = scope(lookup.attribution);
        let outcome = self
            .service
            .lookup(Lookup {
                scope: &scope,
                model: lookup.model,
                body: lookup.body,
                controls: asked.controls(),
                policy: &self.policy,
            })
            .await;
        self.found(outcome, lookup.stream, lookup.include_usage)
            .await
    }

    async fn store(&self, ticket: Ticket, complete: Complete) {
        let Ok(ticket) = ticket.0.downcast::<cache_service::Ticket>() else {
            return;
        };
        let answer = Answer {
            usage: Tokens {
                prompt: complete.input_tokens,
                completion: complete.output_tokens,
            },
            cost_nano: complete.cost.0,
            model: complete.model.to_string(),
            created: complete.at.as_secs(),
            provider: complete.provider.to_string(),
            body: complete.answer,
        };
        self.service.store(*ticket, answer).await;
    }
}

impl InProcess {
    /// What a lookup came to; one that follows another waits for it, once.
    async fn found(&self, outcome: Outcome, stream: bool, include_usage: bool) -> Found {
        let outcome = match outcome {
            Outcome::Wait(follower) => self.service.wait(follower).await,
            other => other,
        };
        match outcome {
            Outcome::Hit(hit) => match replay(&hit.answer.body, stream, include_usage) {
                Ok(chunks) => Found::Hit(Hit {
                    kind: match hit.kind {
                        HitKind::Exact => CacheKind::Exact,
                        HitKind::Semantic => CacheKind::Semantic,
                    },
                    similarity: hit.similarity,
                    chunks,
                    input_tokens: hit.answer.usage.prompt,
                    output_tokens: hit.answer.usage.completion,
                    cost: NanoUsd(hit.answer.cost_nano),
                    key: hit.entry.to_string(),
                }),
                Err(error) => {
                    tracing::warn!("a cached answer cannot be replayed: {error}");
                    Found::Bypass("not replayable")
                }
            },
            Outcome::Miss(ticket, _) => Found::Miss(Ticket(Box::new(ticket))),
            Outcome::Bypass(reason) => Found::Bypass(reason.as_str()),
            Outcome::Wait(_) => Found::Bypass("the same request is under way"),
        }
    }
}

/// The answer as the client wants it, under a new id.
fn replay(
    body: &Bytes,
    stream: bool,
    include_usage: bool,
) -> Result<Vec<Bytes>, cache_service::Error> {
    let id = format!("chatcmpl-{}", RequestId::fresh());
    if stream {
        cache_service::replay::sse(body, &id, clock::now().as_secs(), include_usage)
    } else {
        Ok(vec![cache_service::replay::json(body, &id)?])
    }
}

/// Whose answers a caller may see: its team's, else its own. Quoted, so that no id can pass for another.
fn scope(who: &Attribution) -> String {
    let org = &who.org.0;
    match (&who.team, &who.key) {
        (Some(team), _) => format!("org {org:?} team {team:?}"),
        (None, Some(key)) => format!("org {org:?} key {key}"),
        (None, None) => format!("org {org:?} master"),
    }
}

/// The body's `cache` object, with LiteLLM's names.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    ttl: Option<u64>,
    #[serde(rename = "s-maxage", alias = "s-max-age")]
    max_age: Option<u64>,
    #[serde(rename = "no-cache")]
    no_cache: bool,
    #[serde(rename = "no-store")]
    no_store: bool,
    #[serde(rename = "use-cache")]
    use_cache: bool,
    namespace: Option<String>,
}

impl Asked {
    /// What cannot be read asks for the careful thing: a fresh answer that is not kept.
    fn read(controls: Option<&str>) -> Self {
        match controls {
            None => Self::default(),
            Some(text) => serde_json::from_str(text).unwrap_or(Self {
                no_cache: true,
                no_store: true,
                ..Self::default()
            }),
        }
    }

    fn controls(self) -> Controls {
        Controls {
            no_cache: self.no_cache,
            no_store: self.no_store,
            ttl_s: self.ttl,
            max_age_s: self.max_age,
            threshold: None,
            namespace: self.namespace,
        }
    }
}

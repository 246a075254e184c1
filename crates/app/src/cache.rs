//! The answer cache as the ingress sees it: in this process, or in another one over HTTP. Joins the
//! ingress' seam to `cache-service`; decides nothing about hits.

mod asked;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use cache_service::client::{RemoteTicket, Reply};
use cache_service::{
    Answer, CacheConfig, CacheService, Client, ClientConfig, EntryId, HitKind, Lookup, Mode,
    Outcome, Policy, SharedConfig, Tokens,
};
use config::Config;
use ingress::{Complete, Found, Hit, SemanticCache, Ticket, Unavailable, clock};
use schemas::{Attribution, CacheKind, NanoUsd, RequestId};

use asked::{Asked, scope};

/// The cache that a configuration asks for, if it asks for one.
pub async fn open(config: &Config, data_dir: &Path) -> Result<Option<Arc<Answers>>> {
    let cache = &config.cache;
    if !cache.enabled {
        return Ok(None);
    }
    let side = match &cache.service_url {
        Some(url) => Side::There(client(cache, url)?),
        None => Side::Here(Box::new(service(config, data_dir).await?)),
    };
    let rules = ArcSwap::from_pointee(Rules::of(cache));
    Ok(Some(Arc::new(Answers { side, rules })))
}

/// The cache itself, over the entries that the data directory holds.
pub async fn service(config: &Config, data_dir: &Path) -> Result<CacheService> {
    let cache = &config.cache;
    // One word for everything of a gateway in any Redis; the number is that of the layout.
    let prefix = config
        .redis
        .as_ref()
        .map_or("tollgate", |redis| &redis.prefix);
    let shared = |url: &config::Secret| SharedConfig {
        prefix: format!("{prefix}:answers:1"),
        ..SharedConfig::at(url.expose())
    };
    let settings = CacheConfig {
        threshold: cache
            .threshold
            .as_str()
            .parse()
            .context("cache threshold")?,
        ttl_s: cache.ttl.as_secs().max(1),
        ttl_max_s: cache.ttl.as_secs().max(86_400),
        bytes_max: cache.max_bytes,
        semantic: cache.semantic,
        shared: cache.redis_url.as_ref().map(shared),
        ..CacheConfig::at(data_dir.join("cache"))
    };
    let service = CacheService::open(settings).await?;
    for warning in service.readiness().warnings {
        tracing::warn!("answer cache: {warning}");
    }
    Ok(service)
}

fn client(cache: &config::Cache, url: &str) -> Result<Client> {
    let config = ClientConfig {
        token: cache.token.as_ref().map(|token| token.expose().to_owned()),
        timeout: cache.timeout,
        ..ClientConfig::at(url)
    };
    Client::new(config).context("tollgate.cache")
}

/// The answer cache of this gateway.
pub struct Answers {
    side: Side,
    rules: ArcSwap<Rules>,
}

/// What may change while it runs.
struct Rules {
    enabled: bool,
    policy: Policy,
    /// `mode: default_off`: only calls that say `use-cache`.
    on_request_only: bool,
    /// Nobody gets an answer that another one asked for.
    per_user: bool,
    /// Life of an answer whose call asks for none of its own.
    ttl_s: u64,
}

impl Rules {
    fn of(cache: &config::Cache) -> Self {
        let mode = if cache.semantic {
            Mode::Semantic
        } else {
            Mode::Exact
        };
        Self {
            enabled: cache.enabled,
            policy: Policy {
                mode,
                // A decimal number, by its type.
                threshold: cache.threshold.as_str().parse().ok(),
                ..Policy::default()
            },
            on_request_only: cache.on_request_only,
            per_user: cache.per_user,
            ttl_s: cache.ttl.as_secs().max(1),
        }
    }
}

enum Side {
    Here(Box<CacheService>),
    There(Client),
}

impl Answers {
    /// Waits until what was stored is on disk, and what was held elsewhere is given back.
    pub async fn drain(&self) {
        match &self.side {
            Side::Here(service) => service.drain().await,
            Side::There(client) => client.drain().await,
        }
    }
}

#[async_trait]
impl SemanticCache for Answers {
    async fn lookup(&self, lookup: ingress::Lookup<'_>) -> Found {
        let asked = Asked::read(lookup.controls);
        let rules = self.rules.load_full();
        if !rules.enabled {
            return Found::Bypass("switched off");
        }
        if rules.on_request_only && !asked.use_cache {
            return Found::Bypass("not asked for");
        }
        let scope = scope(lookup.attribution, rules.per_user);
        let wanted = Lookup {
            scope: &scope,
            model: lookup.model,
            body: lookup.body,
            controls: asked.controls(rules.ttl_s),
            policy: &rules.policy,
        };
        match &self.side {
            Side::Here(service) => here(service, wanted, lookup).await,
            Side::There(client) => there(client, wanted, lookup).await,
        }
    }

    async fn store(&self, ticket: Ticket, complete: Complete) {
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
        match &self.side {
            Side::Here(service) => {
                if let Ok(ticket) = ticket.0.downcast::<cache_service::Ticket>() {
                    service.store(*ticket, answer).await;
                }
            }
            Side::There(client) => {
                if let Ok(ticket) = ticket.0.downcast::<RemoteTicket>() {
                    client.store(*ticket, answer).await;
                }
            }
        }
    }

    async fn forget(&self, who: Option<&Attribution>, key: &str) -> Result<bool, Unavailable> {
        let Some(id) = EntryId::parse(key) else {
            return Ok(false);
        };
        let scope = who.map(|who| scope(who, self.rules.load().per_user));
        let gone = match &self.side {
            Side::Here(service) => service.delete(id, scope.as_deref()).await,
            Side::There(client) => client.delete(id, scope.as_deref()).await,
        };
        gone.map_err(|_| Unavailable)
    }

    fn settings(&self, settings: &config::Cache) {
        self.rules.store(Arc::new(Rules::of(settings)));
    }

    fn state(&self) -> &'static str {
        match &self.side {
            Side::There(client) if client.state() != cache_service::breaker::State::Closed => {
                "unavailable"
            }
            Side::Here(service) if !service.readiness().semantic => "exact",
            _ if self.rules.load().policy.mode == Mode::Exact => "exact",
            _ => "semantic",
        }
    }

    fn metrics(&self, out: &mut String) {
        match &self.side {
            Side::Here(service) => out.push_str(&service.prometheus()),
            Side::There(client) => client.prometheus(out),
        }
    }
}

/// A look-up in this process; one that follows another waits for it, once.
async fn here(service: &CacheService, wanted: Lookup<'_>, lookup: ingress::Lookup<'_>) -> Found {
    let outcome = match service.lookup(wanted).await {
        Outcome::Wait(follower) => service.wait(follower).await,
        other => other,
    };
    match outcome {
        Outcome::Hit(hit) => {
            let found = (hit.kind, hit.similarity, hit.entry.to_string());
            serve(found, &hit.answer, &lookup)
        }
        Outcome::Miss(ticket, _) => Found::Miss(Ticket(Box::new(ticket))),
        Outcome::Bypass(reason) => Found::Bypass(reason.as_str()),
        Outcome::Wait(_) => Found::Bypass("the same request is under way"),
    }
}

async fn there(client: &Client, wanted: Lookup<'_>, lookup: ingress::Lookup<'_>) -> Found {
    match client.lookup(&wanted).await {
        Reply::Hit {
            kind,
            similarity,
            entry,
            answer,
        } => serve((kind, similarity, entry), &answer, &lookup),
        Reply::Miss(ticket, _) => Found::Miss(Ticket(Box::new(ticket))),
        Reply::Bypass(reason) => Found::Bypass(reason),
    }
}

fn serve(
    (kind, similarity, key): (HitKind, f32, String),
    answer: &Answer,
    lookup: &ingress::Lookup<'_>,
) -> Found {
    match replay(&answer.body, lookup.stream, lookup.include_usage) {
        Ok(chunks) => Found::Hit(Hit {
            kind: match kind {
                HitKind::Exact => CacheKind::Exact,
                HitKind::Semantic => CacheKind::Semantic,
            },
            similarity,
            chunks,
            input_tokens: answer.usage.prompt,
            output_tokens: answer.usage.completion,
            cost: NanoUsd(answer.cost_nano),
            key,
        }),
        Err(error) => {
            tracing::warn!("a cached answer cannot be replayed: {error}");
            Found::Bypass("not replayable")
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

//! One deployment: an entry of the file with everything that does not change from call to call made ready.

use std::sync::Arc;

use budgets::{Scope, ScopeKind};
use config::{AuthScheme, Dialect, ModelEntry};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use metering::Window;
use routing::Spec;
use schemas::Text;

use super::served::no_url;
use crate::Error;
use crate::metrics::DeploymentMetrics;
use crate::upstream::Peer;
use crate::upstream::trust::{Authorities, authorities};

/// One deployment, with everything that does not change from call to call made ready.
#[derive(Debug)]
pub struct Deployment {
    pub entry: ModelEntry,
    pub id: Text,
    pub provider: Text,
    /// Sent on every call: authentication, content type, host, the provider's own.
    pub headers: HeaderMap,
    /// None for a model that answers in this process.
    pub peer: Option<Arc<Peer>>,
    /// Whose certificates are believed, where a file says so.
    pub authorities: Option<Authorities>,
    /// `x-litellm-model-id` and `x-litellm-model-api-base`.
    pub shown_id: HeaderValue,
    pub shown_base: Option<HeaderValue>,
    /// `x-litellm-model-region`.
    pub shown_region: Option<HeaderValue>,
    /// Goes on counting when the deployment is changed.
    pub metrics: Arc<DeploymentMetrics>,
    /// Its health, for routing.
    pub state: Arc<routing::Deployment>,
    /// Its own limits, counted beside those of callers and exact over all ingresses.
    pub limits: Option<Scope>,
}

impl Deployment {
    /// The deployment of an entry, with what of the one that had its id still holds.
    pub(super) fn after(
        entry: &ModelEntry,
        known: Option<&Arc<Self>>,
        peers: &mut Vec<Arc<Peer>>,
    ) -> Result<Arc<Self>, Error> {
        let Some(known) = known else {
            return Self::new(entry, peers).map(Arc::new);
        };
        if same(&known.entry, entry) {
            return Ok(known.clone());
        }
        let mut deployment = Self::new(entry, peers)?;
        deployment.metrics = known.metrics.clone();
        if same_place(&known.entry, entry) && deployment.state.spec == known.state.spec {
            deployment.state = known.state.clone();
        }
        Ok(Arc::new(deployment))
    }

    pub(super) fn new(entry: &ModelEntry, peers: &mut Vec<Arc<Peer>>) -> Result<Self, Error> {
        let broken = |what: &str| {
            // Never the value: it may be a key.
            Error::Internal(format!(
                "model {}: {what} cannot be sent in a header",
                entry.model_name
            ))
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        // Who says nothing takes any encoding, and answers are read here as they come.
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        // Some turn away who does not say who they are.
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION"))),
        );
        let key = entry.api_key.as_ref().map(config::Secret::expose);
        let auth = match (entry.auth, key) {
            (AuthScheme::Bearer, Some(key)) => {
                Some((header::AUTHORIZATION, format!("Bearer {key}")))
            }
            (AuthScheme::Header(name), Some(key)) => {
                let name =
                    HeaderName::try_from(name).map_err(|_| broken("the key's header name"))?;
                Some((name, key.to_owned()))
            }
            _ => None,
        };
        if let Some((name, text)) = auth {
            let mut value = HeaderValue::try_from(text).map_err(|_| broken("its api_key"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        if let Some(organization) = &entry.organization {
            let value =
                HeaderValue::try_from(organization).map_err(|_| broken("its organization"))?;
            headers.insert(HeaderName::from_static("openai-organization"), value);
        }
        let peer = match entry.dialect {
            Dialect::Demo | Dialect::Unsupported(_) => None,
            Dialect::OpenAi | Dialect::Azure => {
                let url = reqwest::Url::parse(&entry.api_base).ok();
                let peer = url
                    .as_ref()
                    .and_then(Peer::of)
                    .ok_or_else(|| no_url(entry))?;
                let known = peers.iter().find(|known| known.is_same(&peer)).cloned();
                Some(known.unwrap_or_else(|| {
                    let peer = Arc::new(peer);
                    peers.push(peer.clone());
                    peer
                }))
            }
        };
        if let Some(peer) = peer.as_ref().filter(|peer| !peer.indirect) {
            headers.insert(header::HOST, peer.shown.clone());
        }
        for (name, value) in &entry.headers {
            let name =
                HeaderName::try_from(name).map_err(|_| broken("the name of an extra header"))?;
            let value =
                HeaderValue::try_from(value.expose()).map_err(|_| broken("an extra header"))?;
            // They say where a request ends: ours to say.
            if [
                header::CONTENT_LENGTH,
                header::TRANSFER_ENCODING,
                header::CONNECTION,
            ]
            .contains(&name)
            {
                return Err(broken("the extra header that frames a request"));
            }
            headers.insert(name, value);
        }
        Ok(Self {
            id: entry.deployment_id.as_str().into(),
            provider: entry.provider.as_str().into(),
            shown_id: HeaderValue::try_from(&entry.deployment_id).map_err(|_| broken("its id"))?,
            shown_base: without_userinfo(&entry.api_base)
                .and_then(|base| HeaderValue::try_from(base).ok()),
            authorities: authorities(&entry.shape.trust)
                .map_err(|why| Error::Internal(format!("model {}: {why}", entry.model_name)))?,
            shown_region: entry
                .hints
                .region
                .as_ref()
                .and_then(|region| HeaderValue::try_from(region).ok()),
            metrics: Arc::default(),
            state: Arc::new(routing::Deployment::new(Spec::of(entry))),
            limits: limits(entry),
            entry: entry.clone(),
            headers,
            peer,
        })
    }
}

/// Whether two entries mean the same, wherever they stand.
fn same(a: &ModelEntry, b: &ModelEntry) -> bool {
    let line = a.line;
    *a == ModelEntry { line, ..b.clone() }
}

/// Whether what was learnt of one deployment holds for the other: the same model at the same place, called
/// with the same key.
fn same_place(a: &ModelEntry, b: &ModelEntry) -> bool {
    let place = |entry: &ModelEntry| {
        let ModelEntry {
            provider,
            upstream_model,
            api_base,
            api_version,
            ..
        } = entry.clone();
        (provider, upstream_model, api_base, api_version)
    };
    place(a) == place(b)
        && (&a.api_key, &a.organization, &a.headers) == (&b.api_key, &b.organization, &b.headers)
}

/// A deployment's own limits as a scope that no money is counted on.
fn limits(entry: &ModelEntry) -> Option<Scope> {
    let limits = &entry.limits;
    let parallel = limits.max_parallel_requests.map(u64::from);
    (limits.rpm.is_some() || limits.tpm.is_some() || parallel.is_some()).then(|| Scope {
        kind: ScopeKind::Model,
        id: format!("{} (deployment {})", entry.model_name, entry.deployment_id)
            .as_str()
            .into(),
        budget: format!("deployment:{}", entry.deployment_id)
            .as_str()
            .into(),
        limit: None,
        window: Window::LIFETIME,
        rpm: limits.rpm,
        tpm: limits.tpm,
        parallel,
    })
}

/// A base URL may hold a password: that never goes out.
pub(crate) fn without_userinfo(base: &str) -> Option<String> {
    let mut url = reqwest::Url::parse(base).ok()?;
    if url.username().is_empty() && url.password().is_none() {
        return Some(base.to_owned());
    }
    url.set_username("")
        .and_then(|()| url.set_password(None))
        .ok()?;
    Some(url.to_string())
}

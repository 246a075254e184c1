//! Which deployments stand behind a name, and `GET /v1/models`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Json;
use axum::extract::State;
use bytes::{Bytes, BytesMut};
use config::{AuthScheme, Config, Dialect, ModelEntry};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use schemas::Text;
use serde_json::{Value, json};

use crate::auth::authenticate;
use crate::endpoint::Endpoint;
use crate::metrics::DeploymentMetrics;
use crate::upstream::Peer;
use crate::{Error, Gateway};

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
    /// `x-litellm-model-id` and `x-litellm-model-api-base`.
    pub shown_id: HeaderValue,
    pub shown_base: Option<HeaderValue>,
    pub metrics: DeploymentMetrics,
}

/// A deployment with the model's name at the provider: what one call goes to.
#[derive(Debug)]
pub struct Served {
    pub deployment: Arc<Deployment>,
    /// Sent to the provider.
    pub upstream_model: Text,
    /// The name that the price catalog knows.
    pub priced_as: Text,
    /// Of chat, made ready; none for a model that answers in this process.
    pub target: Option<Target>,
}

/// Where a call is sent, at the deployment's peer.
#[derive(Debug, Clone)]
pub struct Target {
    /// Everything before the body of a request, up to the value of `content-length`.
    pub head: Bytes,
    /// The whole URL.
    pub url: reqwest::Url,
    /// Content type of a body that is not JSON.
    pub form: Option<HeaderValue>,
}

/// Deployments that share a name.
#[derive(Debug)]
pub struct Group {
    pub name: Text,
    /// `x-litellm-model-group`.
    pub shown_name: Option<HeaderValue>,
    /// `x-litellm-key-remaining-{requests,tokens}-{model}`, where the name can stand in a header's name.
    pub remaining: Option<[HeaderName; 2]>,
    members: Vec<Arc<Served>>,
    next: AtomicUsize,
}

impl Group {
    fn new(name: &str) -> Self {
        let remaining = |what: &str| {
            HeaderName::try_from(format!("x-litellm-key-remaining-{what}-{name}")).ok()
        };
        Self {
            name: name.into(),
            shown_name: HeaderValue::try_from(name).ok(),
            remaining: remaining("requests")
                .zip(remaining("tokens"))
                .map(|(r, t)| [r, t]),
            members: Vec::new(),
            next: AtomicUsize::new(0),
        }
    }

    /// Each in turn.
    fn choose(&self) -> Option<&Arc<Served>> {
        if let [only] = self.members.as_slice() {
            return Some(only);
        }
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        self.members.get(at.checked_rem(self.members.len())?)
    }
}

/// A name with a `*`.
#[derive(Debug)]
struct Pattern {
    name: String,
    deployments: Vec<Arc<Deployment>>,
    next: AtomicUsize,
}

/// All deployments by the name that clients ask for.
#[derive(Debug, Default)]
pub struct Models {
    /// By name, sorted: found by comparing, which for names is cheaper than hashing.
    groups: Vec<(Text, Arc<Group>)>,
    /// The most specific first.
    patterns: Vec<Pattern>,
    /// In the order of the file.
    names: Vec<(Text, Text)>,
}

impl Models {
    /// # Errors
    /// An entry whose URL or header values cannot be sent; the message names the entry.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let mut models = Self::default();
        let mut groups: HashMap<Text, Group> = HashMap::new();
        // Deployments at one host share its connections.
        let mut peers: Vec<Arc<Peer>> = Vec::new();
        for entry in &config.models {
            let deployment = Arc::new(Deployment::new(entry, &mut peers)?);
            if !models
                .names
                .iter()
                .any(|(name, _)| **name == *entry.model_name)
            {
                models.names.push((
                    entry.model_name.as_str().into(),
                    deployment.provider.clone(),
                ));
            }
            if entry.is_wildcard() {
                match models
                    .patterns
                    .iter_mut()
                    .find(|known| known.name == entry.model_name)
                {
                    Some(known) => known.deployments.push(deployment),
                    None => models.patterns.push(Pattern {
                        name: entry.model_name.clone(),
                        deployments: vec![deployment],
                        next: AtomicUsize::new(0),
                    }),
                }
                continue;
            }
            let served = Served::new(deployment, &entry.upstream_model)?;
            groups
                .entry(entry.model_name.as_str().into())
                .or_insert_with(|| Group::new(&entry.model_name))
                .members
                .push(Arc::new(served));
        }
        models.groups = groups
            .into_iter()
            .map(|(name, group)| (name, Arc::new(group)))
            .collect();
        models.groups.sort_by(|(a, _), (b, _)| a.cmp(b));
        models
            .patterns
            .sort_by_key(|pattern| std::cmp::Reverse(pattern.name.len()));
        Ok(models)
    }

    /// What answers for a name.
    ///
    /// # Errors
    /// [`Error::UnknownModel`].
    pub fn choose(&self, requested: &str) -> Result<(Arc<Group>, Arc<Served>), Error> {
        let found = self
            .groups
            .binary_search_by(|(name, _)| (**name).cmp(requested));
        if let Some((_, group)) = found.ok().and_then(|at| self.groups.get(at))
            && let Some(served) = group.choose()
        {
            return Ok((group.clone(), served.clone()));
        }
        for pattern in &self.patterns {
            let at = pattern.next.fetch_add(1, Ordering::Relaxed);
            let Some(deployment) = pattern.deployments.get(at % pattern.deployments.len()) else {
                continue;
            };
            if let Some(model) = deployment.entry.serves(requested) {
                let served = Served::new(deployment.clone(), &model)?;
                return Ok((Arc::new(Group::new(requested)), Arc::new(served)));
            }
        }
        Err(Error::UnknownModel {
            model: requested.to_owned(),
        })
    }

    /// Every deployment, for metrics.
    pub fn deployments(&self) -> impl Iterator<Item = (&Text, &Arc<Deployment>)> {
        let grouped = self.groups.iter().flat_map(|(_, group)| {
            group
                .members
                .iter()
                .map(move |served| (&group.name, &served.deployment))
        });
        let patterns = self
            .patterns
            .iter()
            .flat_map(|pattern| &pattern.deployments);
        grouped.chain(patterns.map(|deployment| (&deployment.id, deployment)))
    }
}

impl Deployment {
    fn new(entry: &ModelEntry, peers: &mut Vec<Arc<Peer>>) -> Result<Self, Error> {
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
            metrics: DeploymentMetrics::default(),
            entry: entry.clone(),
            headers,
            peer,
        })
    }
}

/// A base URL may hold a password: that never goes out.
fn without_userinfo(base: &str) -> Option<String> {
    let mut url = reqwest::Url::parse(base).ok()?;
    if url.username().is_empty() && url.password().is_none() {
        return Some(base.to_owned());
    }
    url.set_username("")
        .and_then(|()| url.set_password(None))
        .ok()?;
    Some(url.to_string())
}

impl Served {
    fn new(deployment: Arc<Deployment>, upstream_model: &str) -> Result<Self, Error> {
        let entry = &deployment.entry;
        let target = match entry.dialect {
            Dialect::Demo | Dialect::Unsupported(_) => None,
            Dialect::OpenAi | Dialect::Azure => Some(Target::new(
                &deployment,
                upstream_model,
                Endpoint::Chat,
                None,
            )?),
        };
        let priced_as = entry.base_model.as_deref().unwrap_or(upstream_model).into();
        Ok(Self {
            upstream_model: upstream_model.into(),
            priced_as,
            target,
            deployment,
        })
    }
}

impl Served {
    /// Where a call of an endpoint is sent; none for a model that answers in this process.
    ///
    /// # Errors
    /// An address that cannot be made of the model's name.
    pub fn target(
        &self,
        endpoint: Endpoint,
        form: Option<&HeaderValue>,
    ) -> Result<Option<Cow<'_, Target>>, Error> {
        match &self.target {
            None => Ok(None),
            Some(target) if endpoint == Endpoint::Chat => Ok(Some(Cow::Borrowed(target))),
            Some(_) => Target::new(&self.deployment, &self.upstream_model, endpoint, form)
                .map(|target| Some(Cow::Owned(target))),
        }
    }
}

fn no_url(entry: &ModelEntry) -> Error {
    Error::Internal(format!(
        "model {}: its api_base is not an HTTP URL",
        entry.model_name
    ))
}

impl Target {
    /// `form` is the content type of a body that is not JSON.
    fn new(
        deployment: &Deployment,
        upstream_model: &str,
        endpoint: Endpoint,
        form: Option<&HeaderValue>,
    ) -> Result<Self, Error> {
        let entry = &deployment.entry;
        let url = reqwest::Url::parse(&entry.url(endpoint.path(), upstream_model))
            .map_err(|_| no_url(entry))?;
        let mut head = BytesMut::new();
        head.extend_from_slice(b"POST ");
        // As the URL standard writes them: no white space, no line ends.
        head.extend_from_slice(url.path().as_bytes());
        if let Some(query) = url.query() {
            head.extend_from_slice(b"?");
            head.extend_from_slice(query.as_bytes());
        }
        head.extend_from_slice(b" HTTP/1.1\r\n");
        for (name, value) in &deployment.headers {
            let value = match form {
                Some(form) if name == header::CONTENT_TYPE => form,
                _ => value,
            };
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"content-length: ");
        Ok(Self {
            head: head.freeze(),
            url,
            form: form.cloned(),
        })
    }
}

/// `GET /v1/models`: what the caller's key may ask for.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Error> {
    let caller = authenticate(&gateway, &headers, gateway.now())?;
    let models = gateway.models.load();
    let data: Vec<Value> = models
        .names
        .iter()
        .filter(|(name, _)| caller.may_use(name).is_ok())
        .map(|(name, provider)| {
            json!({ "id": name, "object": "model", "created": gateway.started.as_secs(), "owned_by": provider })
        })
        .collect();
    Ok(Json(json!({ "object": "list", "data": data })))
}

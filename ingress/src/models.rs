//! Which deployments stand behind a name, and `GET /v1/models`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use budgets::{Scope, ScopeKind};
use bytes::{Bytes, BytesMut};
use config::{AuthScheme, Config, Dialect, ModelEntry, Strategy};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use metering::Window;
use parking_lot::RwLock;
use routing::{Member, Rules, Spec};
use schemas::Text;
use serde_json::{Value, json};

use crate::auth::authenticate;
use crate::endpoint::Endpoint;
use crate::metrics::DeploymentMetrics;
use crate::upstream::Peer;
use crate::upstream::trust::{Authorities, authorities};
use crate::{Error, Gateway, params};

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
    /// The name that it serves under.
    pub shown: Arc<Shown>,
    /// What happens to the members of requests; none where all go out as they came.
    pub params: Option<Box<params::Rules>>,
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

/// How a name is shown in headers.
#[derive(Debug)]
pub struct Shown {
    pub name: Text,
    /// `x-litellm-model-group`.
    pub group: Option<HeaderValue>,
    /// `x-litellm-key-remaining-{requests,tokens}-{model}`, where the name can stand in a header's name.
    pub remaining: Option<[HeaderName; 2]>,
}

impl Shown {
    fn new(name: &str) -> Self {
        let remaining = |what: &str| {
            HeaderName::try_from(format!("x-litellm-key-remaining-{what}-{name}")).ok()
        };
        Self {
            name: name.into(),
            group: HeaderValue::try_from(name).ok(),
            remaining: remaining("requests")
                .zip(remaining("tokens"))
                .map(|(r, t)| [r, t]),
        }
    }
}

/// Deployments that share a name.
pub type Group = routing::Group<Arc<Served>>;

/// Names that clients make up for a pattern are kept up to this many.
const MADE_MAX: usize = 1_024;

/// A name with a `*`.
#[derive(Debug)]
struct Pattern {
    name: String,
    deployments: Vec<Arc<Deployment>>,
}

/// All deployments by the name that clients ask for, with the settings that they were made under: what a
/// call takes when it begins, and goes by to its end.
#[derive(Debug, Default)]
pub struct Models {
    pub config: Arc<Config>,
    pub rules: Arc<Rules>,
    /// By name, sorted: found by comparing, which for names is cheaper than hashing.
    groups: Vec<(Text, Arc<Group>)>,
    /// The most specific first.
    patterns: Vec<Pattern>,
    /// Groups that were made for names of a pattern.
    made: RwLock<HashMap<Text, Arc<Group>>>,
    /// In the order of the file.
    names: Vec<(Text, Text)>,
    /// Every deployment with a name of its own, where a threshold may send a call to any.
    everything: Option<Arc<Group>>,
    /// No rule looks at requests.
    plain: bool,
    by_capability: bool,
    deployments: Vec<(Text, Arc<Deployment>)>,
}

impl Models {
    /// # Errors
    /// An entry whose URL or header values cannot be sent; the message names the entry.
    pub fn new(config: &Arc<Config>) -> Result<Self, Error> {
        Self::after(config, None)
    }

    /// Those of another configuration. Deployments that it does not change keep their state, their counters
    /// and their connections.
    ///
    /// # Errors
    /// As [`Models::new`].
    pub fn after(config: &Arc<Config>, before: Option<&Self>) -> Result<Self, Error> {
        let rules = Arc::new(Rules(config.routing.clone()));
        let mut models = Self {
            config: config.clone(),
            rules: rules.clone(),
            ..Self::default()
        };
        let mut served: Vec<(Text, Vec<Arc<Served>>)> = Vec::new();
        let known: HashMap<&str, &Arc<Deployment>> = before
            .into_iter()
            .flat_map(Self::deployments)
            .map(|(_, deployment)| (&*deployment.id, deployment))
            .collect();
        // Deployments at one host share its connections.
        let mut peers: Vec<Arc<Peer>> = Vec::new();
        for peer in known.values().filter_map(|known| known.peer.clone()) {
            if !peers.iter().any(|other| Arc::ptr_eq(other, &peer)) {
                peers.push(peer);
            }
        }
        for entry in &config.models {
            let known = known.get(entry.deployment_id.as_str());
            let deployment = Deployment::after(entry, known.copied(), &mut peers)?;
            let name: Text = entry.model_name.as_str().into();
            if !models.names.iter().any(|(known, _)| *known == name) {
                models
                    .names
                    .push((name.clone(), deployment.provider.clone()));
            }
            models.deployments.push((name.clone(), deployment.clone()));
            if entry.is_wildcard() {
                let known = models.patterns.iter_mut();
                match known
                    .into_iter()
                    .find(|known| known.name == entry.model_name)
                {
                    Some(known) => known.deployments.push(deployment),
                    None => models.patterns.push(Pattern {
                        name: entry.model_name.clone(),
                        deployments: vec![deployment],
                    }),
                }
                continue;
            }
            let shown = match served.iter().find(|(known, _)| *known == name) {
                Some((_, same)) => same.first().map(|one| one.shown.clone()),
                None => None,
            };
            let shown = shown.unwrap_or_else(|| Arc::new(Shown::new(&name)));
            let one = Arc::new(Served::new(deployment, &entry.upstream_model, shown)?);
            match served.iter_mut().find(|(known, _)| *known == name) {
                Some((_, same)) => same.push(one),
                None => served.push((name, vec![one])),
            }
        }
        models.group(config, &rules, &served);
        let routing = &config.routing;
        let strategies = [Some(routing.strategy), routing.then];
        models.by_capability = strategies.contains(&Some(Strategy::Capability))
            || config.models.iter().any(|m| !m.hints.lacks.is_empty());
        models.plain = !models.by_capability
            && !strategies.contains(&Some(Strategy::Cost))
            && !routing.tag_filtering
            && !routing.pre_call_checks
            && !routing.sticky_sessions
            && models.everything.is_none();
        models
            .patterns
            .sort_by_key(|pattern| std::cmp::Reverse(pattern.name.len()));
        Ok(models)
    }

    fn group(&mut self, config: &Config, rules: &Rules, served: &[(Text, Vec<Arc<Served>>)]) {
        let routing = &config.routing;
        let in_pool = |name: &str| routing.weights.contains_key(name);
        for (name, same) in served.iter().filter(|(name, _)| !in_pool(name)) {
            let group = Group::new(name.clone(), members(same), rules, None);
            self.groups.push((name.clone(), Arc::new(group)));
        }
        self.pool(config, rules, served);
        let targets: Vec<(Text, Arc<Group>)> = routing
            .aliases
            .iter()
            .filter_map(|(alias, target)| {
                let known = self.groups.iter().find(|(name, _)| **name == **target);
                Some((alias.as_str().into(), known?.1.clone()))
            })
            .filter(|(alias, _)| !self.groups.iter().any(|(name, _)| name == alias))
            .collect();
        self.groups.extend(targets);
        self.groups.sort_by(|(a, _), (b, _)| a.cmp(b));
        if routing.cost_threshold.is_some() || routing.context_threshold.is_some() {
            let all: Vec<Arc<Served>> = served.iter().flat_map(|(_, same)| same.clone()).collect();
            let group = Group::new("*".into(), members(&all), rules, None);
            self.everything = Some(Arc::new(group));
        }
    }

    /// The names with weights: each of them is answered by all, in these shares. So is the model that they
    /// all stand for, where no entry has its name.
    fn pool(&mut self, config: &Config, rules: &Rules, served: &[(Text, Vec<Arc<Served>>)]) {
        let weights = &config.routing.weights;
        let pooled: Vec<_> = served
            .iter()
            .filter_map(|(name, same)| Some((name, same, *weights.get(&**name)?)))
            .collect();
        let shares: Vec<f64> = pooled
            .iter()
            .flat_map(|(_, same, share)| same.iter().map(move |_| share / same.len() as f64))
            .collect();
        let all: Vec<Arc<Served>> = pooled
            .iter()
            .flat_map(|(_, same, _)| same.iter().cloned())
            .collect();
        let Some(first) = all.first() else {
            return;
        };
        let group = Arc::new(Group::new(
            first.shown.name.clone(),
            members(&all),
            rules,
            Some(&shares),
        ));
        let one_model = all
            .iter()
            .all(|one| one.upstream_model == first.upstream_model);
        for (name, _, _) in &pooled {
            self.groups.push(((*name).clone(), group.clone()));
        }
        let model = first.upstream_model.clone();
        if one_model && !self.groups.iter().any(|(name, _)| *name == model) {
            self.groups.push((model, group));
        }
    }

    /// What stands behind a name.
    ///
    /// # Errors
    /// [`Error::UnknownModel`].
    pub fn find(&self, requested: &str) -> Result<Arc<Group>, Error> {
        let found = self
            .groups
            .binary_search_by(|(name, _)| (**name).cmp(requested));
        if let Some((_, group)) = found.ok().and_then(|at| self.groups.get(at)) {
            return Ok(group.clone());
        }
        if !self.patterns.is_empty() {
            if let Some(group) = self.made.read().get(requested) {
                return Ok(group.clone());
            }
            if let Some(group) = self.make(requested)? {
                return Ok(group);
            }
        }
        Err(Error::UnknownModel {
            model: requested.to_owned(),
        })
    }

    /// A group for a name that a pattern answers for.
    fn make(&self, requested: &str) -> Result<Option<Arc<Group>>, Error> {
        for pattern in &self.patterns {
            let shown = Arc::new(Shown::new(requested));
            let served: Vec<Arc<Served>> = pattern
                .deployments
                .iter()
                .filter_map(|deployment| {
                    let model = deployment.entry.serves(requested)?;
                    Some(Served::new(deployment.clone(), &model, shown.clone()).map(Arc::new))
                })
                .collect::<Result<_, _>>()?;
            if served.is_empty() {
                continue;
            }
            let group = Group::new(requested.into(), members(&served), &self.rules, None);
            let group = Arc::new(group);
            let mut made = self.made.write();
            if made.len() >= MADE_MAX {
                made.clear();
            }
            made.insert(requested.into(), group.clone());
            return Ok(Some(group));
        }
        Ok(None)
    }

    /// Where thresholds send calls; none without thresholds.
    #[must_use]
    pub const fn everything(&self) -> Option<&Arc<Group>> {
        self.everything.as_ref()
    }

    /// Whether no rule looks at requests.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether what a request needs decides who may serve it.
    #[must_use]
    pub const fn steers_by_capability(&self) -> bool {
        self.by_capability
    }

    /// Every deployment with the name that clients call it by, in the order of the file.
    pub fn deployments(&self) -> impl Iterator<Item = (&Text, &Arc<Deployment>)> {
        self.deployments
            .iter()
            .map(|(name, deployment)| (name, deployment))
    }
}

/// What can be called; all of it where nothing can, so that the refusal has a reason.
fn members(served: &[Arc<Served>]) -> Vec<Member<Arc<Served>>> {
    let callable =
        |one: &&Arc<Served>| !matches!(one.deployment.entry.dialect, Dialect::Unsupported(_));
    let any = served.iter().any(|one| callable(&one));
    served
        .iter()
        .filter(|one| !any || callable(one))
        .map(|one| Member {
            deployment: one.deployment.state.clone(),
            served: one.clone(),
        })
        .collect()
}

/// Whether an entry of this kind can be called as it stands.
///
/// # Errors
/// As [`Models::new`].
pub fn check(entry: &ModelEntry) -> Result<(), Error> {
    let deployment = Arc::new(Deployment::new(entry, &mut Vec::new())?);
    let shown = Arc::new(Shown::new(&entry.model_name));
    Served::new(deployment, &entry.upstream_model, shown).map(drop)
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

impl Deployment {
    /// The deployment of an entry, with what of the one that had its id still holds.
    fn after(
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

impl Served {
    /// A deployment under a name, for a call that is made for it alone.
    ///
    /// # Errors
    /// An address that cannot be made of the model's name.
    pub fn of(
        deployment: Arc<Deployment>,
        upstream_model: &str,
        name: &str,
    ) -> Result<Self, Error> {
        Self::new(deployment, upstream_model, Arc::new(Shown::new(name)))
    }

    fn new(
        deployment: Arc<Deployment>,
        upstream_model: &str,
        shown: Arc<Shown>,
    ) -> Result<Self, Error> {
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
            params: params::Rules::of(entry, upstream_model),
            upstream_model: upstream_model.into(),
            priced_as,
            target,
            deployment,
            shown,
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

//! A deployment under a name, with the model's name at the provider: what one call goes to, and where its
//! request is sent.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use config::{Dialect, ModelEntry};
use http::{HeaderName, HeaderValue, header};
use schemas::Text;

use super::Deployment;
use crate::endpoint::Endpoint;
use crate::{Error, params};

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
    pub(super) fn new(name: &str) -> Self {
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

    pub(super) fn new(
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

impl Target {
    /// `form` is the content type of a body that is not JSON.
    pub(super) fn new(
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

pub(super) fn no_url(entry: &ModelEntry) -> Error {
    Error::Internal(format!(
        "model {}: its api_base is not an HTTP URL",
        entry.model_name
    ))
}

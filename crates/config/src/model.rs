//! What a model entry of the file means once everything a user would want resolved is resolved.

use std::time::Duration;

use crate::providers::Quirk;
use crate::{DecimalText, Hints, Params, Secret, Timeouts};

/// One deployment: one entry of `model_list`, or one provider found in the environment.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelEntry {
    /// The name clients ask for. May hold one `*`: `openai/*`, `*`. See [`ModelEntry::serves`].
    pub model_name: String,
    /// `model_info.id`, else a hash of what identifies the deployment (name, provider, model, base):
    /// the same in every run and on every machine, and not changed by a new key or price.
    pub deployment_id: String,
    /// Prefix of the provider table, e.g. `openai`; `custom_openai` for an endpoint of one's own.
    pub provider: String,
    /// The model's name at the provider, e.g. `gpt-4o`. May hold `*` where `model_name` does.
    pub upstream_model: String,
    /// `model_info.base_model`: the catalog name that prices and limits follow, where the
    /// deployment's own name says nothing (Azure).
    pub base_model: Option<String>,
    pub dialect: Dialect,
    /// Base URL without a trailing slash, to which `/chat/completions` is appended. Empty for
    /// [`Dialect::Demo`] and [`Dialect::Unsupported`].
    pub api_base: String,
    pub auth: AuthScheme,
    /// None where the provider needs no key.
    pub api_key: Option<Secret>,
    /// `api-version` of the URL, Azure only.
    pub api_version: Option<String>,
    /// Sent as `openai-organization`.
    pub organization: Option<String>,
    /// Sent on every upstream call: the provider's own, then `extra_headers`.
    pub headers: Vec<(String, Secret)>,
    /// Price overrides by LiteLLM's field name (`input_cost_per_token`, …), as written. `litellm_params`
    /// wins over `model_info`.
    pub prices: Vec<(String, DecimalText)>,
    pub limits: ModelLimits,
    pub timeouts: ModelTimeouts,
    pub hints: Hints,
    /// What happens to the members of requests.
    pub params: Params,
    pub shape: Shape,
    /// `litellm_params.mock_response`: the answer of a deployment that asks no provider.
    pub mock: Option<String>,
    /// Line of the entry in the file; 0 without one.
    pub line: usize,
}

/// How requests are shaped and addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's chat completions below `api_base`.
    OpenAi,
    /// OpenAI's shape below `/openai/deployments/{model}` with an `api-version`.
    Azure,
    /// The built-in deterministic model `tollgate/demo`: no network.
    Demo,
    /// A provider whose own dialect is not spoken yet. A call is refused with this reason.
    Unsupported(&'static str),
}

/// How the key travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthScheme {
    /// `authorization: Bearer KEY`
    Bearer,
    /// The key alone in the header of this name.
    Header(&'static str),
    /// No key is sent.
    None,
}

/// How a deployment differs from the usual one: its path, its certificates, what it cannot read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Of chat completions below `api_base`, in the place of `/chat/completions`. `{model}` in it is the model.
    pub chat_path: Option<String>,
    pub quirks: Vec<Quirk>,
    pub trust: Trust,
}

/// Whose certificates are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// The system's authorities, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    #[default]
    System,
    /// Those of this PEM file, and no others.
    File(String),
    /// Anybody's: `ssl_verify: false`.
    Anyone,
}

/// Bounds of a deployment. Tokens unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// The most output tokens of a call that sets no bound: the lesser of what the model makes
    /// (`model_info.max_output_tokens`, else `model_info.max_tokens`) and `litellm_params.max_tokens`, which is
    /// then sent. Bounds the hold of a call.
    pub max_output_tokens: Option<u32>,
    /// `model_info.max_input_tokens`, else `metadata.max_tokens`: the context window.
    pub max_input_tokens: Option<u32>,
    /// Requests a minute to this deployment.
    pub rpm: Option<u64>,
    /// Tokens a minute to this deployment.
    pub tpm: Option<u64>,
    /// Calls in flight to this deployment: its own, else `router_settings.default_max_parallel_requests`.
    pub max_parallel_requests: Option<u32>,
}

/// Deadlines of one upstream call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelTimeouts {
    /// Until a connection stands: `tollgate.timeouts.connect_s`.
    pub connect: Duration,
    /// From dispatch to the first byte: `tollgate.timeouts.first_byte_s`. None: bounded by `total` alone.
    pub first_byte: Option<Duration>,
    /// Between two reads: `tollgate.timeouts.idle_s`.
    pub idle: Duration,
    /// From dispatch to the last byte: `litellm_params.timeout`, else `router_settings.timeout`, else
    /// `litellm_settings.request_timeout`, else `tollgate.timeouts.total_s`.
    pub total: Duration,
    /// The same for a streamed call: `litellm_params.stream_timeout`, else
    /// `router_settings.stream_timeout`, else `total`.
    pub total_stream: Duration,
}

impl ModelTimeouts {
    /// Those of an entry that says nothing itself.
    #[must_use]
    pub const fn of(defaults: &Timeouts) -> Self {
        Self {
            connect: defaults.connect,
            first_byte: defaults.first_byte,
            idle: defaults.idle,
            total: defaults.total,
            total_stream: defaults.total,
        }
    }
}

impl ModelEntry {
    /// Whether this entry answers for the name a client asked for, and as which upstream model.
    /// `*` stands for any text and is carried over into the upstream name.
    #[must_use]
    pub fn serves(&self, requested: &str) -> Option<String> {
        let Some((head, tail)) = self.model_name.split_once('*') else {
            return (self.model_name == requested).then(|| self.upstream_model.clone());
        };
        let matched = requested.strip_prefix(head)?.strip_suffix(tail)?;
        (!matched.is_empty()).then(|| self.upstream_model.replacen('*', matched, 1))
    }

    /// Whether `model_name` is a pattern.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.model_name.contains('*')
    }

    /// Azure's newer form, which has no versions: `api_version` v1, latest or preview, or an address that says so.
    fn is_azure_v1(&self) -> bool {
        matches!(
            self.api_version.as_deref(),
            Some("v1" | "latest" | "preview")
        ) || self.api_base.ends_with("/openai/v1")
    }

    /// Whether the address of an endpoint names the model, so that the body need not.
    #[must_use]
    pub fn names_model_in_path(&self, path: &str) -> bool {
        self.dialect == Dialect::Azure && path != "/responses" && !self.is_azure_v1()
    }

    /// URL of an endpoint, given its path below `/v1`, e.g. `/chat/completions`.
    #[must_use]
    pub fn url(&self, path: &str, upstream_model: &str) -> String {
        match self.dialect {
            // <https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle>
            Dialect::Azure if self.is_azure_v1() => {
                let root = self.api_base.trim_end_matches("/openai/v1");
                let preview = if self.api_version.as_deref() == Some("preview") {
                    "?api-version=preview"
                } else {
                    ""
                };
                format!("{root}/openai/v1{path}{preview}")
            }
            Dialect::Azure => {
                let version = self
                    .api_version
                    .as_deref()
                    .unwrap_or(crate::providers::AZURE_API_VERSION);
                let below = if self.names_model_in_path(path) {
                    format!("deployments/{upstream_model}{path}")
                } else {
                    path.trim_start_matches('/').to_owned()
                };
                format!("{}/openai/{below}?api-version={version}", self.api_base)
            }
            _ => match &self.shape.chat_path {
                Some(own) if path == "/chat/completions" => {
                    format!(
                        "{}{}",
                        self.api_base,
                        own.replace("{model}", upstream_model)
                    )
                }
                _ => format!("{}{path}", self.api_base),
            },
        }
    }
}

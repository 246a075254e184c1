//! Where and how clients are answered, what their calls must have, and the keys that a file brings along.

use std::net::SocketAddr;

use schemas::NanoUsd;

use super::Period;
use crate::{Access, Secret};

/// Where and how clients are answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// `general_settings.host`; `--host` wins. Default `127.0.0.1`.
    pub host: String,
    /// `general_settings.port`; `--port` wins. Default 4000.
    pub port: u16,
    /// `general_settings.master_key`, else `TOLLGATE_MASTER_KEY`, else `LITELLM_MASTER_KEY`. None: the
    /// generated file in the data directory.
    pub master_key: Option<Secret>,
    /// Send usage on every stream, asked for or not. Default false.
    pub always_include_stream_usage: bool,
    /// `litellm_settings.include_cost_in_streaming_usage`: the usage of a stream says what the call cost. Default
    /// false.
    pub cost_in_stream_usage: bool,
    /// `general_settings.store_model_in_db`: whether models can be changed over the API. Default true.
    pub models_change: bool,
    /// `tollgate.secret_key`, else `TOLLGATE_SECRET_KEY`, else `LITELLM_SALT_KEY`: seals the secrets of models
    /// that come over the API. None: such models name variables only.
    pub secret_key: Option<Secret>,
    pub metrics: Metrics,
    /// `general_settings.litellm_key_header_name`, in lower case: looked at first.
    pub key_header: Option<String>,
    /// `general_settings.user_header_name`, in lower case.
    pub user_header: Option<String>,
    pub demands: Demands,
    /// `general_settings.block_robots`.
    pub blocks_robots: bool,
    pub access: Access,
    pub default_models: DefaultModels,
}

/// `general_settings.enable_prometheus_metrics`, `prometheus_metrics_url`,
/// `litellm_settings.require_auth_for_metrics_endpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// None: there are none. Default `/metrics`.
    pub path: Option<String>,
    /// Default false.
    pub needs_key: bool,
}

/// What a call must, or must not, have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demands {
    /// `general_settings.enforce_user_param`.
    pub user: bool,
    /// `general_settings.enforced_params`: members of the body, `metadata.x` for one below.
    pub params: Vec<String>,
    /// `general_settings.reject_clientside_metadata_tags`.
    pub no_tags: bool,
}

impl Demands {
    /// Whether nothing is demanded.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.user && self.params.is_empty() && !self.no_tags
    }
}

/// The model of requests that name none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefaultModels {
    pub completion: Option<String>,
    pub embedding: Option<String>,
    pub moderation: Option<String>,
    pub image: Option<String>,
}

/// `litellm_settings.default_key_generate_params` and `upperbound_key_generate_params`: fields and their JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewKeys {
    pub defaults: Vec<(String, String)>,
    pub bounds: Vec<(String, String)>,
}

/// A virtual key of the file. The text is the key itself; only its hash is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedKey {
    pub key: Secret,
    pub key_alias: Option<String>,
    pub user_id: Option<String>,
    pub team_id: Option<String>,
    /// USD a window.
    pub max_budget: Option<NanoUsd>,
    /// Window of `max_budget`. None: for life.
    pub budget_period: Option<Period>,
    pub rpm_limit: Option<u64>,
    pub tpm_limit: Option<u64>,
    pub max_parallel_requests: Option<u32>,
    /// Empty: every model.
    pub models: Vec<String>,
    /// e.g. `key_settings[0]`.
    pub path: String,
}

impl Server {
    /// `host:port` as an address, when the host is a literal one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }
}

//! How one of several deployments is chosen, and what is tried after a failure: `router_settings` and
//! everything that means the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemas::NanoUsd;

/// Rules for all names, and what single names have of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// `router_settings.routing_strategy`. Default simple-shuffle.
    pub strategy: Strategy,
    /// `router.type` where `routing_strategy` says something else: decides among equals.
    pub then: Option<Strategy>,
    /// Names that answer for other names: `router_settings.model_group_alias`.
    pub aliases: BTreeMap<String, String>,
    /// Those of them that no list of models shows: `hidden: true`.
    pub hidden: BTreeSet<String>,
    /// Shares by `model_name`: the names form one pool that answers for each of them.
    pub weights: BTreeMap<String, f64>,
    /// Only deployments with a tag of the request: `enable_tag_filtering`.
    pub tag_filtering: bool,
    /// One common tag is enough; else all of the request's. Default true.
    pub tags_match_any: bool,
    /// A prompt goes only where it fits: `enable_pre_call_checks`.
    pub pre_call_checks: bool,
    /// Calls of one session go to one deployment, for its prompt cache: `session_affinity` and its kin in
    /// `optional_pre_call_checks`.
    pub sticky_sessions: bool,
    /// `litellm_settings.cache_system_prompt_only`: calls whose messages begin alike are one session, whoever
    /// makes them.
    pub sticky_by_prompt: bool,
    /// Calls estimated at this or less go to the fast, cheap deployment of any name.
    pub cost_threshold: Option<NanoUsd>,
    /// Prompts of more tokens go to a deployment of any name whose window holds them.
    pub context_threshold: Option<u64>,
    /// Deployments slower than this (to the first token) are chosen last.
    pub latency_threshold: Option<Duration>,
    pub retries: Retries,
    pub fallbacks: Fallbacks,
    pub cooldown: Cooldown,
    pub health: HealthChecks,
    /// `tollgate.timeouts.hedge_after_s`: where an answer has not begun by then, another deployment is asked
    /// as well, and the first answer is used. Both are billed. None: never.
    pub hedge_after: Option<Duration>,
    /// The whole request ends by then, whatever is tried: `router_settings.timeout`,
    /// `litellm_settings.request_timeout`, `tollgate.timeouts.total_s`.
    pub deadline: Duration,
    /// The same for a streamed request.
    pub deadline_stream: Duration,
    /// What the names have of their own (`fallback_config[].retry_attempts`, `retry_delay`,
    /// `model_group_retry_policy`).
    pub names: BTreeMap<String, OfName>,
}

/// How a deployment is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// At random, by `weight`, else by `rpm`, else by `tpm`.
    SimpleShuffle,
    /// The fewest calls in flight.
    LeastBusy,
    /// The shortest time to first token and per token, decayed.
    Latency,
    /// The smallest share of its tokens a minute used.
    Usage,
    /// The lowest price of this very call.
    Cost,
    /// The most of what the call needs.
    Capability,
    /// Each in turn, by weight.
    WeightedRoundRobin,
}

/// Attempts at one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// `num_retries`: attempts after the first one at the name that was asked for. None: two, at other
    /// deployments only.
    pub count: Option<u32>,
    /// `retry_after`: the least wait before the same deployment is asked again.
    pub wait: Duration,
    /// `retry_policy`: retries by kind of failure.
    pub by_kind: BTreeMap<FailureKind, u32>,
}

/// Other names after a name has failed. A list's own lists are never followed: nothing multiplies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fallbacks {
    /// By the name asked for; `*` is every name without a list of its own.
    pub general: BTreeMap<String, Vec<String>>,
    /// `default_fallbacks`, `default_fallback_models`.
    pub default: Vec<String>,
    /// For prompts that are too long.
    pub context_window: BTreeMap<String, Vec<String>>,
    /// For answers that the provider's policy refused.
    pub content_policy: BTreeMap<String, Vec<String>>,
    /// `fallback_on`: the failures after which the general and the default lists are used. None: all that
    /// another provider may not have.
    pub on: Option<Vec<FailureKind>>,
    /// `max_retries_per_fallback`: attempts at each name of a list. Default 1.
    pub attempts_each: u32,
    /// `max_fallbacks`: names of a list that are tried. Default 5.
    pub names_max: u32,
}

/// When a deployment is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cooldown {
    /// `allowed_fails`: failures within a minute that change nothing. None: an outlier is left alone, which
    /// failed several times in a row, or half of this minute's calls.
    pub allowed_fails: Option<u32>,
    /// `allowed_fails_policy`.
    pub by_kind: BTreeMap<FailureKind, u32>,
    /// `cooldown_time`. Default 5 s.
    pub time: Duration,
    /// `disable_cooldowns`.
    pub disabled: bool,
}

/// The active loop over providers' free endpoints, and over paid ones where a deployment asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthChecks {
    /// `general_settings.background_health_checks`.
    pub looks: Looks,
    /// `general_settings.health_check_interval`. Default 30 s.
    pub interval: Duration,
    /// The same between two paid looks. Default 300 s.
    pub interval_paid: Duration,
    /// `general_settings.health_check_concurrency`: looks at a time. Default 16.
    pub at_once: usize,
    /// `general_settings.health_check_details`: whether `/health` tells more than the model and the error.
    /// Default true.
    pub details: bool,
    /// `enable_health_check_routing`: deployments that a check found dead are chosen last.
    pub steer: bool,
}

/// Which looks the active loop takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// `background_health_checks: false`.
    None,
    /// Where nobody said: those that cost nothing, the first of them an interval after the start.
    Free,
    /// `background_health_checks: true`: from the start on, paid ones too where a deployment asks for one.
    All,
}

/// What a single name has of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfName {
    pub retries: Option<u32>,
    pub wait: Option<Duration>,
    pub by_kind: BTreeMap<FailureKind, u32>,
}

/// Why an attempt failed, as far as the next step depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// Too slow to connect, to begin, or to go on.
    Timeout,
    /// 429.
    RateLimit,
    /// 5xx; 409, 423, 425 and 499: a moment later it may do.
    Server,
    /// Refused, reset, or a certificate that does not verify.
    Connection,
    /// Something that is no answer: truncated, of another type.
    Malformed,
    /// 400 because the prompt is too long.
    ContextWindow,
    /// 400 because of the provider's policy.
    ContentPolicy,
    /// 401, 402 and 403: the deployment's key, or its account.
    Auth,
    /// 404, 405 and 410: the deployment's model or address.
    NotFound,
    /// Any other 4xx: the caller's own.
    BadRequest,
}

impl FailureKind {
    pub const ALL: [Self; 10] = [
        Self::Timeout,
        Self::RateLimit,
        Self::Server,
        Self::Connection,
        Self::Malformed,
        Self::ContextWindow,
        Self::ContentPolicy,
        Self::Auth,
        Self::NotFound,
        Self::BadRequest,
    ];

    /// The word in metrics, events and settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::RateLimit => "rate_limit_exceeded",
            Self::Server => "internal_server_error",
            Self::Connection => "api_connection_error",
            Self::Malformed => "malformed_response",
            Self::ContextWindow => "context_window_exceeded",
            Self::ContentPolicy => "content_policy_violation",
            Self::Auth => "authentication_error",
            Self::NotFound => "not_found",
            Self::BadRequest => "bad_request",
        }
    }

    /// From a word of `fallback_on`, of a policy (`TimeoutErrorRetries`), or a class of LiteLLM.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let mut word: String = word
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect();
        for tail in ["retries", "allowedfails", "error", "exceeded", "violation"] {
            if let Some(rest) = word.strip_suffix(tail).filter(|rest| !rest.is_empty()) {
                word.truncate(rest.len());
            }
        }
        Some(match word.as_str() {
            "timeout" | "apitimeout" | "requesttimeout" => Self::Timeout,
            "ratelimit" | "toomanyrequests" | "429" => Self::RateLimit,
            "internalserver" | "server" | "serviceunavailable" | "badgateway" | "500" | "503"
            | "api" => Self::Server,
            "apiconnection" | "connection" => Self::Connection,
            "malformedresponse" | "malformed" | "apiresponsevalidation" => Self::Malformed,
            "contextwindow" | "contextlength" => Self::ContextWindow,
            "contentpolicy" | "contentfilter" => Self::ContentPolicy,
            "authentication" | "auth" | "permissiondenied" | "401" | "403" => Self::Auth,
            "notfound" | "404" => Self::NotFound,
            "badrequest" | "invalidrequest" | "400" => Self::BadRequest,
            _ => return None,
        })
    }
}

impl Strategy {
    /// From one of the words that files use.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "simple-shuffle" => Self::SimpleShuffle,
            "least-busy" => Self::LeastBusy,
            "latency" | "latency-based" | "latency-based-routing" => Self::Latency,
            "usage-based-routing" | "usage-based-routing-v2" => Self::Usage,
            "cost-based" | "cost-based-routing" | "cost_optimized" => Self::Cost,
            "capability-based" => Self::Capability,
            "weighted_round_robin" | "round_robin" => Self::WeightedRoundRobin,
            _ => return None,
        })
    }

    /// LiteLLM's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SimpleShuffle => "simple-shuffle",
            Self::LeastBusy => "least-busy",
            Self::Latency => "latency-based",
            Self::Usage => "usage-based-routing",
            Self::Cost => "cost-based",
            Self::Capability => "capability-based",
            Self::WeightedRoundRobin => "weighted_round_robin",
        }
    }
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            strategy: Strategy::SimpleShuffle,
            then: None,
            aliases: BTreeMap::new(),
            hidden: BTreeSet::new(),
            weights: BTreeMap::new(),
            tag_filtering: false,
            tags_match_any: true,
            pre_call_checks: false,
            sticky_sessions: false,
            sticky_by_prompt: false,
            cost_threshold: None,
            context_threshold: None,
            latency_threshold: None,
            retries: Retries {
                count: None,
                wait: Duration::ZERO,
                by_kind: BTreeMap::new(),
            },
            fallbacks: Fallbacks {
                attempts_each: 1,
                names_max: 5,
                ..Fallbacks::default()
            },
            cooldown: Cooldown {
                allowed_fails: None,
                by_kind: BTreeMap::new(),
                time: Duration::from_secs(5),
                disabled: false,
            },
            health: HealthChecks {
                looks: Looks::Free,
                interval: Duration::from_secs(30),
                interval_paid: Duration::from_secs(300),
                at_once: 16,
                details: true,
                steer: false,
            },
            hedge_after: None,
            deadline: Duration::from_secs(600),
            deadline_stream: Duration::from_secs(600),
            names: BTreeMap::new(),
        }
    }
}

/// What routing knows of a deployment beside its limits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hints {
    /// `litellm_params.weight`.
    pub weight: Option<f64>,
    /// `litellm_params.order`, `metadata.priority`: lower ones are chosen first.
    pub order: u32,
    /// Where its key was found, in words, for who asks what a file does.
    pub key_from: Option<String>,
    /// Another model than the name's first: it answers where that cannot. `order` says the same.
    pub stands_in: bool,
    pub tags: Vec<String>,
    /// `region_name`, `metadata.region`.
    pub region: Option<String>,
    /// What it can do: `metadata.capabilities`, `model_info.capabilities`, `supports_*: true`.
    pub capabilities: Vec<String>,
    /// What it cannot: `supports_*: false`.
    pub lacks: Vec<String>,
    /// `metadata.latency`, until it is measured.
    pub latency: Option<Duration>,
    /// `metadata.cost`: USD per 1,000 tokens, where the catalog has no price. Steers, never bills.
    pub cost: Option<NanoUsd>,
    /// `litellm_params.num_retries`, `max_retries`.
    pub retries: Option<u32>,
    /// `litellm_params.cooldown_time`.
    pub cooldown: Option<Duration>,
    pub check: Check,
}

/// How a deployment is looked at, where checks are on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Check {
    /// `model_info.disable_background_health_check`.
    pub disabled: bool,
    /// `model_info.health_check_timeout`. Default 10 s.
    pub timeout: Option<Duration>,
    /// In place of the provider's free list of models: where `model_info.health_check_max_tokens` or
    /// `health_check_model` is set.
    pub paid: Option<PaidCheck>,
}

/// A call that the operator pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidCheck {
    /// `health_check_max_tokens`. Default 1.
    pub max_tokens: u32,
    /// `health_check_model`: what a name with `*` is checked by. None: the deployment's own model.
    pub model: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_known_by_the_words_of_files() {
        for (word, kind) in [
            ("timeout", FailureKind::Timeout),
            ("rate_limit_exceeded", FailureKind::RateLimit),
            ("internal_server_error", FailureKind::Server),
            ("api_connection_error", FailureKind::Connection),
            ("RateLimitErrorRetries", FailureKind::RateLimit),
            (
                "ContentPolicyViolationErrorRetries",
                FailureKind::ContentPolicy,
            ),
            ("BadRequestErrorAllowedFails", FailureKind::BadRequest),
            ("ContextWindowExceededError", FailureKind::ContextWindow),
            ("AuthenticationErrorRetries", FailureKind::Auth),
            ("InternalServerErrorRetries", FailureKind::Server),
        ] {
            assert_eq!(FailureKind::of(word), Some(kind), "{word}");
        }
        assert_eq!(FailureKind::of("mood"), None);
        for kind in FailureKind::ALL {
            assert_eq!(FailureKind::of(kind.name()), Some(kind));
        }
    }
}

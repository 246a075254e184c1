//! What a deployment does to the members of a request on their way out: defaults, what is dropped, what is
//! refused. Words only: the bytes are edited by the ingress.

use crate::ModelEntry;
use crate::providers::lacks;

/// `litellm_params` that are members of requests, and how the ones that a provider cannot take are met.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params {
    /// `temperature`, `stop`, …: name and JSON, for requests that do not have them.
    pub defaults: Vec<(String, String)>,
    /// `extra_body`: name and JSON, whatever the request has.
    pub extra_body: Vec<(String, String)>,
    /// `max_tokens`, `max_completion_tokens`: for requests without a bound of their own.
    pub max_tokens: Option<u32>,
    /// `drop_params`, else `litellm_settings.drop_params`: what the provider cannot take is left out. Default
    /// false: it is refused.
    pub drop: bool,
    /// `additional_drop_params`: left out of every request; `tools[*].function.strict` reaches inside.
    pub also_drop: Vec<String>,
    /// `allowed_openai_params`: sent although the table says that the provider cannot take them.
    pub allow: Vec<String>,
    /// `modify_params` with a known bound: a request's larger `max_tokens` is lowered to it.
    pub output_ceiling: Option<u32>,
    /// `model_info.supported_openai_params`: all others cannot be taken.
    pub supported: Option<Vec<String>>,
}

/// Members of OpenAI's chat requests that a provider may be without. Not the bound of the output: a budget
/// counts on it.
pub const OPENAI_PARAMS: &[&str] = &[
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];

/// What a model without a capability (`supports_…: false`) cannot take.
const CAPABILITIES: &[(&str, &[&str])] = &[
    (
        "function_calling",
        &[
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "functions",
            "function_call",
        ],
    ),
    ("tool_choice", &["tool_choice"]),
    ("parallel_function_calling", &["parallel_tool_calls"]),
    ("response_schema", &["response_format"]),
    ("reasoning", &["reasoning_effort", "thinking"]),
    ("audio_output", &["audio", "modalities"]),
    ("web_search", &["web_search_options"]),
    ("service_tier", &["service_tier"]),
];

/// One member that a deployment cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    pub param: String,
    /// Only where parameters are dropped: the provider refuses it by name itself, so a request that has it
    /// goes out as it came.
    pub provider_says: bool,
}

impl ModelEntry {
    /// What a deployment cannot take as this upstream model: by its own file first, then by the table. Without
    /// `allowed_openai_params`.
    #[must_use]
    pub fn lacking(&self, upstream_model: &str) -> Vec<Lack> {
        let mut found: Vec<Lack> = Vec::new();
        let mut add = |param: &str, provider_says: bool| {
            let allowed = self.params.allow.iter().any(|name| name == param);
            let known = found.iter_mut().find(|lack| lack.param == param);
            match known {
                Some(known) => known.provider_says &= provider_says,
                None if allowed => {}
                None => found.push(Lack {
                    param: param.to_owned(),
                    provider_says,
                }),
            }
        };
        if let Some(supported) = &self.params.supported {
            for param in OPENAI_PARAMS {
                if !supported.iter().any(|name| name == param) {
                    add(param, false);
                }
            }
        }
        for (capability, params) in CAPABILITIES {
            let same = |word: &String| word.replace('-', "_").eq_ignore_ascii_case(capability);
            if self.hints.lacks.iter().any(same) {
                params.iter().for_each(|param| add(param, false));
            }
        }
        let model = self.base_model.as_deref().unwrap_or(upstream_model);
        for row in lacks::of(&self.provider, model) {
            // What the file says it can do, it can.
            let can = |param: &str| {
                CAPABILITIES.iter().any(|(capability, params)| {
                    params.contains(&param)
                        && self
                            .hints
                            .capabilities
                            .iter()
                            .any(|own| own.replace('-', "_").eq_ignore_ascii_case(capability))
                })
            };
            let listed = |param: &str| matches!(&self.params.supported, Some(list) if list.iter().any(|own| own == param));
            for param in row.params.iter().filter(|p| !can(p) && !listed(p)) {
                add(param, row.provider_says);
            }
        }
        found
    }
}

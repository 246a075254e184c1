//! Which provider or model cannot take which parameter of OpenAI's chat requests. Sources: each provider's own
//! documentation of its OpenAI-shaped endpoint, read in November 2026. What a provider takes and what nobody
//! has written down is not here: it goes out as it came.

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Prefixes of the provider table.
    providers: &'static [&'static str],
    /// Beginnings of model names; none stands for all.
    models: &'static [&'static str],
    /// Beginnings that are meant otherwise.
    but: &'static [&'static str],
    pub params: &'static [&'static str],
    /// The provider refuses them by name itself, so nothing has to be refused for it.
    pub provider_says: bool,
}

/// Whatever steers sampling.
const SAMPLING: &[&str] = &[
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "logit_bias",
];

#[rustfmt::skip] // a table is read by its rows
const ROWS: &[Row] = &[
    // <https://platform.openai.com/docs/guides/reasoning>; later ones take them where they do not reason.
    row(&["openai", "azure"], &["o1", "o3", "o4", "gpt-5"], &["gpt-5.", "gpt-5-chat"], SAMPLING),
    row(&["openai", "azure"], &["o1-mini", "o1-preview"], &[], &["tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "response_format", "reasoning_effort"]),
    Row { provider_says: true, ..row(&["openai", "azure"], &["gpt-3.5", "gpt-4", "chatgpt-"], &[], &["reasoning_effort", "verbosity", "thinking"]) },
    // <https://platform.claude.com/docs/en/cli-sdks-libraries/libraries/openai-sdk>: all of these are ignored there.
    row(&["anthropic"], &[], &[], &["frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "n", "seed", "response_format", "prediction", "service_tier", "audio", "modalities", "reasoning_effort", "store"]),
    // <https://api-docs.deepseek.com/guides/reasoning_model>
    row(&["deepseek"], &["deepseek-reasoner"], &[], SAMPLING),
    row(&["deepseek"], &[], &[], &["n", "seed", "logit_bias", "parallel_tool_calls", "modalities", "prediction", "service_tier"]),
    // <https://console.groq.com/docs/openai>
    row(&["groq"], &[], &[], &["logprobs", "logit_bias", "top_logprobs", "n"]),
    // <https://inference-docs.cerebras.ai/resources/openai>
    row(&["cerebras"], &[], &[], &["frequency_penalty", "presence_penalty", "logit_bias"]),
    // <https://docs.mistral.ai/api>: further members are refused.
    row(&["mistral", "codestral"], &[], &[], &["logit_bias", "logprobs", "top_logprobs", "seed", "service_tier", "store", "web_search_options", "modalities", "audio"]),
    // <https://docs.x.ai/docs/guides/reasoning>
    row(&["xai"], &["grok-4", "grok-3-mini"], &["grok-4-fast-non-reasoning", "grok-4-1-fast-non-reasoning"], &["presence_penalty", "frequency_penalty", "stop"]),
    row(&["xai"], &["grok-4"], &["grok-4.", "grok-4-1"], &["reasoning_effort"]),
    // <https://docs.cohere.com/docs/compatibility-api>
    row(&["cohere"], &[], &[], &["n", "logit_bias", "top_logprobs", "modalities", "prediction", "audio", "service_tier", "parallel_tool_calls", "store"]),
    // <https://docs.perplexity.ai/api-reference/chat-completions-post>
    row(&["perplexity"], &[], &[], &["n", "seed", "logit_bias", "logprobs", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls"]),
    // <https://docs.ollama.com/api/openai-compatibility>
    row(&["ollama", "ollama_cloud"], &[], &[], &["n", "logit_bias", "tool_choice"]),
];

const fn row(
    providers: &'static [&'static str],
    models: &'static [&'static str],
    but: &'static [&'static str],
    params: &'static [&'static str],
) -> Row {
    Row {
        providers,
        models,
        but,
        params,
        provider_says: false,
    }
}

/// The rows that hold for a model of a provider.
pub fn of(provider: &str, model: &str) -> impl Iterator<Item = &'static Row> {
    // `openai/o3` as the base model of a deployment at Azure.
    let model = model
        .rsplit('/')
        .next()
        .unwrap_or(model)
        .to_ascii_lowercase();
    let provider = provider.to_owned();
    ROWS.iter().filter(move |row| {
        let begins = |heads: &[&str]| heads.iter().any(|head| model.starts_with(head));
        row.providers.contains(&&*provider)
            && (row.models.is_empty() || begins(row.models))
            && !begins(row.but)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::OPENAI_PARAMS;
    use crate::providers::find;

    #[test]
    fn rows_name_known_providers_and_parameters() {
        for row in ROWS {
            for provider in row.providers {
                assert!(
                    find(provider).is_some_and(|p| p.prefix == *provider),
                    "{provider}"
                );
            }
            for param in row.params {
                assert!(
                    OPENAI_PARAMS.contains(param) || *param == "thinking",
                    "{param}"
                );
            }
        }
    }

    #[test]
    fn models_that_reason_do_not_sample_and_others_do() {
        let refused = |provider: &str, model: &str| -> Vec<&str> {
            of(provider, model)
                .filter(|row| !row.provider_says)
                .flat_map(|row| row.params.iter().copied())
                .collect()
        };
        assert!(refused("openai", "o3-mini").contains(&"temperature"));
        assert!(refused("azure", "openai/gpt-5-mini").contains(&"top_p"));
        assert!(refused("openai", "gpt-5.2").is_empty());
        assert!(refused("openai", "gpt-4o").is_empty());
        assert!(refused("openai", "scripted").is_empty());
        assert!(refused("hosted_vllm", "o3").is_empty());
    }
}

//! Providers as data: prefix, base URL, key variable, how the key travels, quirks. And which provider a
//! model name without a prefix means.

pub(crate) mod lacks;
mod table;

pub use table::PROVIDERS;

use crate::check::nearest;
use crate::expand::Env;
use crate::kind::Kind;
use crate::{AuthScheme, Dialect};

/// `api-version` that is sent to Azure when the file names none.
/// <https://learn.microsoft.com/azure/ai-services/openai/api-version-deprecation>
pub const AZURE_API_VERSION: &str = "2024-10-21";

/// One provider that speaks OpenAI's shape, or whose name must at least be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// What `model` begins with: `openai` in `openai/gpt-4o`.
    pub prefix: &'static str,
    /// Other prefixes for the same.
    pub aliases: &'static [&'static str],
    /// For people.
    pub name: &'static str,
    /// Without a trailing slash. `{NAME}` is an environment variable. Empty: `api_base` must be given.
    pub base_url: &'static str,
    /// Variables that may hold the key, first found first.
    pub key_env: &'static [&'static str],
    /// Variables that may hold the base URL.
    pub base_env: &'static [&'static str],
    pub auth: AuthScheme,
    pub dialect: Dialect,
    /// Runs on machines of one's own, often without a key.
    pub key_optional: bool,
    /// Appended to an `api_base` that has no path, since other readers of the file want it without.
    pub bare_base_path: &'static str,
    pub quirks: &'static [Quirk],
}

/// Where a provider differs from OpenAI's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    /// Refuses `stream_options`; sends usage with the last chunk of its own accord.
    NoStreamOptions,
    /// Knows `max_tokens` only, not `max_completion_tokens`.
    MaxTokensOnly,
    /// Makes embeddings or ranks, and has no chat.
    NoChat,
}

impl Provider {
    #[must_use]
    pub fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    /// The first of the key variables that is set, with its name.
    pub(crate) fn key_from(&self, env: Env<'_>) -> Option<(&'static str, String)> {
        self.key_env
            .iter()
            .find_map(|name| Some((*name, env(name).filter(|key| !key.trim().is_empty())?)))
    }

    /// Where calls go when the file gives no `api_base`.
    ///
    /// # Errors
    /// What is missing, to be said after the path.
    pub(crate) fn base_from(&self, env: Env<'_>) -> Result<String, String> {
        let set =
            |name: &&'static str| Some((*name, env(name).filter(|base| !base.trim().is_empty())?));
        if let Some((name, base)) = self.base_env.iter().find_map(set) {
            let base = base.trim();
            if !Kind::Url.accepts(base) {
                return Err(format!(
                    "the environment variable {name} is not {}",
                    Kind::Url.expected()
                ));
            }
            return Ok(self.complete(base));
        }
        if self.base_url.is_empty() {
            let variables = match self.base_env {
                [] => String::new(),
                names => format!(", or {}", names.join(" or ")),
            };
            return Err(format!(
                "{} has no address of its own: give api_base{variables}",
                self.name
            ));
        }
        let mut base = self.base_url.to_owned();
        while let Some((before, rest)) = base.split_once('{') {
            let (name, after) = rest.split_once('}').unwrap_or((rest, ""));
            let value = env(name).filter(|value| !value.trim().is_empty());
            let value = value.ok_or_else(|| {
                format!(
                    "the environment variable {name} is not set; it is part of {}'s address",
                    self.name
                )
            })?;
            base = format!("{before}{}{after}", value.trim());
        }
        Ok(base)
    }

    /// A base URL of the file, with the path that the dialect needs.
    pub(crate) fn complete(&self, base: &str) -> String {
        let base = base.trim_end_matches('/');
        let after_scheme = base.split_once("://").map_or(base, |(_, rest)| rest);
        if after_scheme.contains('/') {
            base.to_owned()
        } else {
            format!("{base}{}", self.bare_base_path)
        }
    }
}

/// The provider of a prefix.
#[must_use]
pub fn find(prefix: &str) -> Option<&'static Provider> {
    PROVIDERS
        .iter()
        .find(|provider| provider.prefix == prefix || provider.aliases.contains(&prefix))
}

/// Beginnings of model names that say their provider. First match wins.
const BARE: &[(&str, &str)] = &[
    ("gpt-oss", ""), // open weights, served by many
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("ft:gpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("codex-", "openai"),
    ("computer-use-", "openai"),
    ("text-embedding-", "openai"),
    ("text-moderation-", "openai"),
    ("omni-moderation-", "openai"),
    ("davinci-", "openai"),
    ("babbage-", "openai"),
    ("dall-e-", "openai"),
    ("whisper-", "openai"),
    ("tts-", "openai"),
    ("sora-", "openai"),
    ("claude-", "anthropic"),
    ("command", "cohere"),
    ("c4ai-", "cohere"),
    ("embed-english-", "cohere"),
    ("embed-multilingual-", "cohere"),
    ("embed-v", "cohere"),
    ("gemini-", "gemini"),
    ("learnlm-", "gemini"),
    ("deepseek-", "deepseek"),
    ("mistral-", "mistral"),
    ("ministral-", "mistral"),
    ("magistral-", "mistral"),
    ("codestral-", "mistral"),
    ("devstral-", "mistral"),
    ("pixtral-", "mistral"),
    ("voxtral-", "mistral"),
    ("open-mistral-", "mistral"),
    ("open-mixtral-", "mistral"),
    ("glm-", "zai"),
    ("grok-", "xai"),
    ("kimi-", "moonshot"),
    ("moonshot-", "moonshot"),
    ("qwen", "dashscope"),
    ("qwq-", "dashscope"),
    ("qvq-", "dashscope"),
    ("sonar", "perplexity"),
    ("jamba-", "ai21"),
    ("minimax-", "minimax"),
    ("abab", "minimax"),
    ("ernie-", "qianfan"),
    ("hunyuan-", "hunyuan"),
    ("doubao-", "volcengine"),
    ("step-", "stepfun"),
    ("yi-", "yi"),
    ("baichuan", "baichuan"),
    ("voyage-", "voyage"),
    ("jina-", "jina_ai"),
    ("solar-", "upstage"),
    ("reka-", "reka"),
    ("mercury", "inception"),
    ("sarvam-", "sarvam"),
    ("sabia-", "maritalk"),
    ("nova-", "amazon_nova"),
];

/// The provider that a model's own name speaks of, wherever it is served: `claude-…` is Anthropic's.
#[must_use]
pub(crate) fn maker(model: &str) -> Option<&'static str> {
    let name = model
        .rsplit('/')
        .next()
        .unwrap_or(model)
        .to_ascii_lowercase();
    BARE.iter()
        .find(|(head, _)| name.starts_with(head))
        .map(|(_, prefix)| *prefix)
        .filter(|prefix| !prefix.is_empty())
}

/// The provider and the upstream name of a `model`.
///
/// # Errors
/// Why none is known, to be said after the path. Does not repeat the name.
pub(crate) fn identify(
    model: &str,
    custom: Option<&str>,
    has_base: bool,
) -> Result<(&'static Provider, String), String> {
    if let Some(custom) = custom {
        let provider = find(custom)
            .ok_or_else(|| unknown_prefix(custom, "custom_llm_provider is not a known provider"))?;
        let name = model
            .split_once('/')
            .filter(|(prefix, _)| find(prefix) == Some(provider))
            .map_or(model, |(_, rest)| rest);
        return Ok((provider, name.to_owned()));
    }
    if let Some((prefix, rest)) = model.split_once('/')
        && let Some(provider) = find(prefix)
    {
        if rest.is_empty() {
            return Err("ends after its provider; write provider/model".to_owned());
        }
        return Ok((provider, rest.to_owned()));
    }
    let lower = model.to_ascii_lowercase();
    let bare = if model == "*" {
        Some("openai")
    } else {
        BARE.iter()
            .find(|(head, _)| lower.starts_with(head))
            .map(|(_, prefix)| *prefix)
    };
    if let Some(provider) = bare.and_then(find)
        && !model.contains('/')
    {
        return Ok((provider, model.to_owned()));
    }
    let prefix = model.split_once('/').map(|(prefix, _)| prefix);
    // `meta-llama/…` and `Qwen/…` are names of organisations, not misspelt prefixes.
    let organisation =
        |prefix: &str| prefix.contains('-') || prefix.contains(|c: char| c.is_ascii_uppercase());
    let typo = prefix
        .filter(|prefix| !organisation(prefix))
        .and_then(nearest_prefix);
    match (find("custom_openai"), typo) {
        // An endpoint of one's own: the whole name is the model's.
        (Some(custom), None) if has_base => Ok((custom, model.to_owned())),
        _ => {
            let why = "its provider is not known; write provider/model, such as openai/gpt-4o, or give api_base";
            Err(prefix.map_or_else(|| why.to_owned(), |prefix| unknown_prefix(prefix, why)))
        }
    }
}

fn nearest_prefix(prefix: &str) -> Option<&'static str> {
    nearest(
        prefix,
        PROVIDERS
            .iter()
            .flat_map(|provider| std::iter::once(&provider.prefix).chain(provider.aliases))
            .copied(),
    )
}

fn unknown_prefix(prefix: &str, why: &str) -> String {
    match nearest_prefix(prefix) {
        Some(near) => format!("{why}; did you mean \"{near}\"?"),
        None => why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn prefixes_are_unique_and_addresses_well_formed() {
        let mut seen = HashSet::new();
        for provider in PROVIDERS {
            for prefix in std::iter::once(&provider.prefix).chain(provider.aliases) {
                assert!(seen.insert(*prefix), "{prefix} stands twice");
            }
            assert!(!provider.base_url.ends_with('/'), "{}", provider.prefix);
            assert!(
                provider.base_url.is_empty() || provider.base_url.starts_with("http"),
                "{}",
                provider.prefix
            );
            assert!(
                provider.key_optional
                    || !provider.key_env.is_empty()
                    || provider.auth == AuthScheme::None,
                "{}",
                provider.prefix
            );
        }
        assert!(PROVIDERS.len() >= 100, "{}", PROVIDERS.len());
        for (head, prefix) in BARE {
            assert!(prefix.is_empty() || find(prefix).is_some(), "{head}");
        }
    }

    #[test]
    fn names_find_their_provider() {
        for (model, custom, base, expected) in [
            ("openai/gpt-4o", None, false, Ok(("openai", "gpt-4o"))),
            ("gpt-4", None, false, Ok(("openai", "gpt-4"))),
            ("o3-mini", None, false, Ok(("openai", "o3-mini"))),
            (
                "claude-3-opus-20240229",
                None,
                false,
                Ok(("anthropic", "claude-3-opus-20240229")),
            ),
            ("command", None, false, Ok(("cohere", "command"))),
            (
                "vllm/meta-llama/Llama-2-70b-hf",
                None,
                true,
                Ok(("hosted_vllm", "meta-llama/Llama-2-70b-hf")),
            ),
            (
                "openai/meta-llama/Llama-3.1-8B-Instruct",
                None,
                true,
                Ok(("openai", "meta-llama/Llama-3.1-8B-Instruct")),
            ),
            (
                "meta-llama/Llama-3",
                None,
                true,
                Ok(("custom_openai", "meta-llama/Llama-3")),
            ),
            ("my-model", None, true, Ok(("custom_openai", "my-model"))),
            ("my-model", Some("groq"), false, Ok(("groq", "my-model"))),
            ("groq/llama", Some("groq"), false, Ok(("groq", "llama"))),
            ("openai/*", None, false, Ok(("openai", "*"))),
            ("*", None, false, Ok(("openai", "*"))),
            ("tollgate/demo", None, false, Ok(("tollgate", "demo"))),
            ("my-model", None, false, Err("api_base")),
            ("opnai/gpt-4o", None, true, Err("did you mean \"openai\"?")),
            ("gpt-oss-120b", None, false, Err("provider/model")),
            ("x", Some("grok"), false, Err("groq")),
            ("openai/", None, false, Err("provider/model")),
        ] {
            match (identify(model, custom, base), expected) {
                (Ok((provider, name)), Ok(expected)) => {
                    assert_eq!((provider.prefix, name.as_str()), expected, "{model}")
                }
                (Err(message), Err(part)) => assert!(message.contains(part), "{model}: {message}"),
                (got, expected) => panic!("{model}: {got:?}, not {expected:?}"),
            }
        }
    }

    /// `litellm/llms/openai_like/providers.json` of github.com/BerriAI/litellm, read in November 2026: prefix,
    /// address, variable of the key, and whether `max_completion_tokens` goes out as `max_tokens`.
    #[rustfmt::skip]
    const OPENAI_LIKE: &[(&str, &str, &str, bool)] = &[
        ("publicai", "https://api.publicai.co/v1", "PUBLICAI_API_KEY", true),
        ("helicone", "https://ai-gateway.helicone.ai", "HELICONE_API_KEY", false),
        ("veniceai", "https://api.venice.ai/api/v1", "VENICE_AI_API_KEY", false),
        ("xiaomi_mimo", "https://api.xiaomimimo.com/v1", "XIAOMI_MIMO_API_KEY", true),
        ("scaleway", "https://api.scaleway.ai/v1", "SCW_SECRET_KEY", false),
        ("synthetic", "https://api.synthetic.new/openai/v1", "SYNTHETIC_API_KEY", true),
        ("apertis", "https://api.stima.tech/v1", "STIMA_API_KEY", true),
        ("nano-gpt", "https://nano-gpt.com/api/v1", "NANOGPT_API_KEY", true),
        ("poe", "https://api.poe.com/v1", "POE_API_KEY", true),
        ("chutes", "https://llm.chutes.ai/v1", "CHUTES_API_KEY", true),
        ("abliteration", "https://api.abliteration.ai/v1", "ABLITERATION_API_KEY", false),
        ("llamagate", "https://api.llamagate.dev/v1", "LLAMAGATE_API_KEY", true),
        ("gmi", "https://api.gmi-serving.com/v1", "GMI_API_KEY", false),
        ("sarvam", "https://api.sarvam.ai/v1", "SARVAM_API_KEY", true),
        ("assemblyai", "https://llm-gateway.assemblyai.com/v1", "ASSEMBLYAI_API_KEY", false),
        ("charity_engine", "https://api.charityengine.services/remotejobs/v2/inference", "CHARITY_ENGINE_API_KEY", true),
        ("aihubmix", "https://aihubmix.com/v1", "AIHUBMIX_API_KEY", false),
        ("salad_cloud", "https://ai.salad.cloud/v1", "SALAD_CLOUD_API_KEY", false),
        ("crusoe", "https://managed-inference-api-proxy.crusoecloud.com/v1", "CRUSOE_API_KEY", true),
        ("darkbloom", "https://api.darkbloom.dev/v1", "DARKBLOOM_API_KEY", true),
        ("neosantara", "https://api.neosantara.xyz/v1", "NEOSANTARA_API_KEY", true),
        ("tensormesh", "https://serverless.tensormesh.ai/v1", "TENSORMESH_INFERENCE_API_KEY", true),
        ("libertai", "https://api.libertai.io/v1", "LIBERTAI_API_KEY", true),
        ("empiriolabs", "https://api.empiriolabs.ai/v1", "EMPIRIOLABS_API_KEY", true),
        ("meta", "https://api.meta.ai/v1", "META_API_KEY", false),
        ("cognition", "https://api.cognition.ai/v1", "COGNITION_API_KEY", false),
        ("pinstripes", "https://pinstripes.io/v1", "PINSTRIPES_API_KEY", true),
        ("scx-ai", "https://api.scx.ai/v1", "SCX_API_KEY", true),
        ("prism", "https://api.prisminference.com/v1", "PRISM_API_KEY", false),
        ("sail", "https://api.sailresearch.com/v1", "SAIL_API_KEY", false),
    ];

    /// `litellm_core_utils/get_llm_provider_logic.py` and `openai_compatible_endpoints` of `constants.py` there.
    #[rustfmt::skip]
    const BY_ENDPOINT: &[(&str, &str, &str)] = &[
        ("anyscale", "https://api.endpoints.anyscale.com/v1", "ANYSCALE_API_KEY"),
        ("empower", "https://app.empower.dev/api/v1", "EMPOWER_API_KEY"),
        ("nvidia_nim", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
        ("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
        ("sambanova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
        ("meta_llama", "https://api.llama.com/compat/v1", "LLAMA_API_KEY"),
        ("ai21_chat", "https://api.ai21.com/studio/v1", "AI21_API_KEY"),
        ("volcengine", "https://ark.cn-beijing.volces.com/api/v3", "VOLCENGINE_API_KEY"),
        ("codestral", "https://codestral.mistral.ai/v1", "CODESTRAL_API_KEY"),
        ("together_ai", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        ("friendliai", "https://api.friendli.ai/serverless/v1", "FRIENDLIAI_API_KEY"),
        ("galadriel", "https://api.galadriel.com/v1", "GALADRIEL_API_KEY"),
        ("perplexity", "https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
        ("deepinfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
        ("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        ("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        ("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
        ("nscale", "https://inference.api.nscale.com/v1", "NSCALE_API_KEY"),
        ("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
        ("featherless_ai", "https://api.featherless.ai/v1", "FEATHERLESS_AI_API_KEY"),
        ("dashscope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
        ("qwencloud", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "QWENCLOUD_API_KEY"),
        ("qwen_ai_platform", "https://dashscope.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
        ("tencent", "https://tokenhub-intl.tencentcloudmaas.com/v1", "TENCENT_API_KEY"),
        ("compactifai", "https://api.compactif.ai/v1", "COMPACTIFAI_API_KEY"),
        ("edenai", "https://api.edenai.run/v3", "EDENAI_API_KEY"),
        ("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    ];

    #[test]
    fn what_litellm_publishes_of_providers_holds_here() {
        let same = |prefix: &str, base: &str, key: &str| {
            let ours = find(prefix).unwrap_or_else(|| panic!("{prefix} is not known"));
            assert_eq!(ours.base_url, base, "{prefix}");
            assert!(ours.key_env.contains(&key), "{prefix}: {key}");
            ours
        };
        for (prefix, base, key, renamed) in OPENAI_LIKE {
            let ours = same(prefix, base, key);
            assert_eq!(ours.has(Quirk::MaxTokensOnly), *renamed, "{prefix}");
        }
        for (prefix, base, key) in BY_ENDPOINT {
            same(prefix, base, key);
        }
    }
}

//! Every file that users already have loads, and means what its comments say.

use std::collections::BTreeSet;

use config::{Dialect, FailureKind, Loaded, Period, Strategy, parse};
use schemas::NanoUsd;

fn env(name: &str) -> Option<String> {
    name.ends_with("_KEY").then(|| format!("sk-of-{name}"))
}

macro_rules! load {
    ($file:literal) => {
        match parse(
            include_str!(concat!("../../../../deploy/reference-configs/", $file)),
            $file,
            &env,
        ) {
            Ok(loaded) => loaded,
            Err(errors) => panic!("{errors}"),
        }
    };
}

/// One line per deployment: `name provider upstream base key max_output total_s prices`.
fn models(loaded: &Loaded) -> Vec<String> {
    loaded
        .config
        .models
        .iter()
        .map(|model| {
            let key = model.api_key.as_ref().map_or("-", |key| key.expose());
            let prices: Vec<_> = model
                .prices
                .iter()
                .map(|(name, price)| format!(" {name}={price}"))
                .collect();
            format!(
                "{} {} {} {} {key} {:?} {}{}",
                model.model_name,
                model.provider,
                model.upstream_model,
                model.api_base,
                model.limits.max_output_tokens,
                model.timeouts.total.as_secs(),
                prices.concat()
            )
        })
        .collect()
}

fn warned(loaded: &Loaded) -> BTreeSet<&str> {
    loaded
        .warnings
        .iter()
        .map(|warning| warning.path.as_str())
        .collect()
}

fn usd(amount: i32) -> Option<NanoUsd> {
    Some(NanoUsd::from_usd(amount))
}

#[test]
fn full_stack() {
    let loaded = load!("01-full-stack.yaml");
    assert_eq!(
        models(&loaded),
        [
            "gpt-4o openai gpt-4o https://api.openai.com/v1 sk-of-OPENAI_API_KEY None 600",
            "gpt-4o-mini openai gpt-4o-mini https://api.openai.com/v1 sk-of-OPENAI_API_KEY None 600",
            "claude-sonnet-4-6 anthropic claude-sonnet-4-6 https://api.anthropic.com/v1 sk-of-ANTHROPIC_API_KEY None 600",
            "llama-3.1-8b openai meta-llama/Llama-3.1-8B-Instruct http://vllm-1:8000/v1 fake None 600",
            "llama-3.1-8b openai meta-llama/Llama-3.1-8B-Instruct http://vllm-2:8000/v1 fake None 600",
            "gpt-4o openai gpt-4o-mini https://api.openai.com/v1 sk-of-OPENAI_API_KEY None 600",
        ]
    );
    let config = &loaded.config;
    assert_eq!(
        (config.models[0].limits.rpm, config.models[0].limits.tpm),
        (Some(10_000), Some(2_000_000))
    );
    assert!(config.cache.enabled && config.cache.semantic);
    assert_eq!(config.cache.threshold.as_str(), "0.90");
    assert_eq!(
        config.cache.redis_url.as_ref().map(|url| url.expose()),
        Some("redis://redis:6379/0")
    );
    assert_eq!(
        config.server.master_key.as_ref().map(|key| key.expose()),
        Some("sk-of-LITELLM_MASTER_KEY")
    );
    let expected = [
        "general_settings.database_url",
        "litellm_settings.failure_callback[0]",
        "litellm_settings.langfuse_public_key",
        "litellm_settings.langfuse_secret_key",
        "litellm_settings.success_callback[0]",
    ];
    assert_eq!(warned(&loaded), BTreeSet::from(expected));
    // "The same name again: a cheaper fallback", and two replicas of one model.
    let orders: Vec<u32> = config
        .models
        .iter()
        .map(|model| model.hints.order)
        .collect();
    assert_eq!(orders, [0, 0, 0, 0, 0, 1]);
    let routing = &config.routing;
    assert_eq!(routing.strategy, Strategy::LeastBusy);
    assert_eq!(
        (routing.retries.count, routing.retries.wait.as_secs()),
        (Some(3), 5)
    );
    let cooldown = &routing.cooldown;
    assert_eq!(
        (cooldown.allowed_fails, cooldown.time.as_secs()),
        (Some(2), 60)
    );
    assert_eq!(routing.fallbacks.general["gpt-4o"], ["claude-sonnet-4-6"]);
    assert_eq!(routing.fallbacks.general["claude-sonnet-4-6"], ["gpt-4o"]);
}

#[test]
fn blueprint() {
    let loaded = load!("02-blueprint.yaml");
    assert_eq!(
        models(&loaded),
        [
            "claude-sonnet anthropic claude-sonnet-4-20250514 https://api.anthropic.com/v1 sk-of-ANTHROPIC_API_KEY Some(8192) 120 input_cost_per_token=0.000003 output_cost_per_token=0.000015",
            "claude-sonnet openai gpt-4o https://api.openai.com/v1 sk-of-OPENAI_API_KEY Some(8192) 120 input_cost_per_token=0.0000025 output_cost_per_token=0.00001",
            "fast anthropic claude-haiku-4-5-20251001 https://api.anthropic.com/v1 sk-of-ANTHROPIC_API_KEY Some(4096) 30",
        ]
    );
    // "Same name = automatic fallback": another maker's model stands in.
    let stands_in: Vec<bool> = loaded
        .config
        .models
        .iter()
        .map(|m| m.hints.stands_in)
        .collect();
    assert_eq!(stands_in, [false, true, false]);
    assert_eq!(loaded.config.models[0].params.max_tokens, Some(8192));
    // Exact answers only: a plain store without a threshold.
    assert!(loaded.config.cache.enabled && !loaded.config.cache.semantic);
    assert_eq!(loaded.config.cache.ttl.as_secs(), 3600);
    // REDIS_HOST and DATABASE_URL are not set, and nothing that takes effect needs them.
    assert_eq!(loaded.config.cache.redis_url, None);
    assert!(warned(&loaded).contains("litellm_settings.cache_params.host"));
    assert!(warned(&loaded).contains("general_settings.alerting[0]"));
    assert!(!warned(&loaded).contains("litellm_settings.set_verbose"));
}

#[test]
fn bare_names() {
    let loaded = load!("03-bare-names.yaml");
    assert_eq!(
        models(&loaded),
        [
            "gpt-4 openai gpt-4 https://api.openai.com/v1 sk-of-OPENAI_API_KEY None 600",
            "claude-3-opus anthropic claude-3-opus-20240229 https://api.anthropic.com/v1 sk-of-ANTHROPIC_API_KEY None 600",
            "cohere-command cohere command https://api.cohere.ai/compatibility/v1 sk-of-COHERE_API_KEY None 600",
            "local-llama hosted_vllm meta-llama/Llama-2-70b-hf http://vllm-server:8000/v1 sk-of-HOSTED_VLLM_API_KEY None 600",
        ]
    );
    assert_eq!(warned(&loaded), BTreeSet::new());
    assert_eq!(
        loaded
            .config
            .server
            .master_key
            .map(|key| key.expose().to_owned())
            .as_deref(),
        Some("sk-1234")
    );
}

#[test]
fn routing() {
    let loaded = load!("04-routing.yaml");
    let windows: Vec<_> = loaded
        .config
        .models
        .iter()
        .map(|model| model.limits.max_input_tokens)
        .collect();
    assert_eq!(windows, [Some(8_000), Some(4_000), Some(100_000)]);
    // A hint per 1,000 tokens is no price.
    assert!(
        loaded
            .config
            .models
            .iter()
            .all(|model| model.prices.is_empty())
    );
    assert_eq!(warned(&loaded), BTreeSet::new());
    let routing = &loaded.config.routing;
    assert_eq!(
        (routing.strategy, routing.then),
        (Strategy::Cost, Some(Strategy::Latency))
    );
    assert_eq!(routing.cost_threshold, Some(NanoUsd(10_000_000)));
    assert_eq!(routing.context_threshold, Some(50_000));
    let hints = &loaded.config.models[0].hints;
    assert_eq!(hints.cost, Some(NanoUsd(30_000_000)));
    assert_eq!(hints.latency.map(|hint| hint.as_millis()), Some(500));
    assert_eq!(hints.capabilities, ["long-context", "reasoning"]);
}

#[test]
fn fallback_config() {
    let loaded = load!("05-fallback-config.yaml");
    assert_eq!(loaded.config.models.len(), 3);
    assert_eq!(warned(&loaded), BTreeSet::new());
    let routing = &loaded.config.routing;
    assert_eq!(
        routing.fallbacks.general["gpt-4"],
        ["claude-opus", "gpt-3.5-turbo"]
    );
    let own = &routing.names["gpt-4"];
    assert_eq!(
        (own.retries, own.wait.map(|wait| wait.as_secs())),
        (Some(3), Some(2))
    );
}

#[test]
fn logging() {
    let loaded = load!("06-logging.yaml");
    assert_eq!(loaded.config.log.level.as_str(), "debug");
    let file = config::LogFile::At("/var/log/litellm.log".to_owned());
    assert_eq!(loaded.config.log.file, Some(file));
    assert!(loaded.config.log.calls);
    assert_eq!(warned(&loaded), BTreeSet::from(["database"]));
}

#[test]
fn key_settings() {
    let loaded = load!("07-key-settings.yaml");
    let keys: Vec<_> = loaded
        .config
        .seed_keys
        .iter()
        .map(|key| {
            (
                key.key.expose(),
                key.rpm_limit,
                key.tpm_limit,
                key.max_budget,
                key.budget_period,
            )
        })
        .collect();
    assert_eq!(
        keys,
        [
            (
                "user-key-123",
                Some(60),
                Some(100_000),
                usd(100),
                Some(Period::Monthly)
            ),
            (
                "user-key-456",
                Some(120),
                Some(500_000),
                usd(1000),
                Some(Period::Monthly)
            ),
        ]
    );
    assert_eq!(warned(&loaded), BTreeSet::new());
}

#[test]
fn weighted() {
    let loaded = load!("08-weighted.yaml");
    assert_eq!(
        models(&loaded),
        [
            "gpt-4-us openai gpt-4 https://api.openai.com/v1 sk-of-OPENAI_API_KEY None 600",
            "gpt-4-eu openai gpt-4 https://api.openai-eu.com/v1 sk-of-OPENAI_EU_API_KEY None 600",
        ]
    );
    assert_eq!(warned(&loaded), BTreeSet::new());
    let routing = &loaded.config.routing;
    assert_eq!(routing.strategy, Strategy::WeightedRoundRobin);
    assert_eq!(
        (routing.weights["gpt-4-us"], routing.weights["gpt-4-eu"]),
        (0.6, 0.4)
    );
}

#[test]
fn unified_access() {
    let loaded = load!("09-unified-access.yaml");
    assert_eq!(
        models(&loaded),
        [
            "deepseek-v4 deepseek deepseek-chat-v4 https://api.deepseek.com sk-of-DEEPSEEK_API_KEY None 60",
            "gpt-4o openai gpt-4o https://api.openai.com/v1 sk-of-OPENAI_API_KEY None 60",
        ]
    );
    let server = &loaded.config.server;
    assert_eq!((server.host.as_str(), server.port), ("0.0.0.0", 4000));
    assert_eq!(
        server.master_key.as_ref().map(|key| key.expose()),
        Some("sk-of-GATEWAY_MASTER_KEY")
    );
    let url = loaded.config.models[0].url("/chat/completions", "deepseek-chat-v4");
    assert_eq!(url, "https://api.deepseek.com/chat/completions");
    assert_eq!(warned(&loaded), BTreeSet::new());
    assert!(loaded.config.models.iter().all(|model| model.params.drop));
    assert_eq!(loaded.config.models[0].hints.retries, Some(2));
}

#[test]
fn fallback_chain() {
    let loaded = load!("10-fallback-chain.yaml");
    assert_eq!(
        loaded.config.models[2].api_base,
        "https://api.z.ai/api/paas/v4"
    );
    assert_eq!(loaded.config.models[2].provider, "zai");
    assert_eq!(warned(&loaded), BTreeSet::new());
    let routing = &loaded.config.routing;
    assert_eq!(routing.fallbacks.default, ["claude-3.7-sonnet", "glm-4"]);
    let on = [
        FailureKind::Timeout,
        FailureKind::RateLimit,
        FailureKind::Server,
        FailureKind::Connection,
    ];
    assert_eq!(routing.fallbacks.on.as_deref(), Some(&on[..]));
    assert_eq!(routing.fallbacks.attempts_each, 1);
    assert!(routing.pre_call_checks);
}

#[test]
fn system_prompt_cache() {
    let loaded = load!("11-system-prompt-cache.yaml");
    let cache = &loaded.config.cache;
    assert!(cache.enabled && !cache.semantic);
    assert_eq!(cache.ttl.as_secs(), 3600);
    assert_eq!(
        cache.redis_url.as_ref().map(|url| url.expose()),
        Some("redis://redis:6379/0")
    );
    assert!(cache.per_user && loaded.config.routing.sticky_by_prompt);
    assert_eq!(warned(&loaded), BTreeSet::new());
}

#[test]
fn tenants() {
    let loaded = load!("12-tenants.yaml");
    let [key] = &loaded.config.seed_keys[..] else {
        panic!("one key")
    };
    assert_eq!(key.key.expose(), "tenant-a-key");
    assert_eq!(key.user_id.as_deref(), Some("tenant-a"));
    assert_eq!(
        (key.max_budget, key.budget_period, key.rpm_limit),
        (usd(1000), Some(Period::Monthly), Some(1000))
    );
    assert_eq!(key.models, ["deepseek-v4", "glm-4"]);
    let budgets = &loaded.config.budgets;
    assert_eq!(
        (budgets.global_max_budget, budgets.global_period),
        (usd(10_000), None)
    );
    assert_eq!(budgets.alert_threshold.as_str(), "0.8");
    let alerts = loaded.config.alerts.as_ref();
    assert!(alerts.is_some_and(|alerts| alerts.budgets && !alerts.exceptions));
    assert_eq!(warned(&loaded), BTreeSet::new());
}

#[test]
fn monitoring() {
    let loaded = load!("13-monitoring.yaml");
    assert_eq!(loaded.config.log.format, config::LogFormat::Json);
    assert_eq!(
        loaded.config.server.metrics.path.as_deref(),
        Some("/metrics")
    );
    assert_eq!(loaded.config.models[0].dialect, Dialect::OpenAi);
    assert_eq!(warned(&loaded), BTreeSet::new());
}

/// Each file can be explained, and nothing secret is in the explanation.
#[test]
fn every_file_is_explained_without_its_secrets() {
    for loaded in [
        load!("01-full-stack.yaml"),
        load!("02-blueprint.yaml"),
        load!("07-key-settings.yaml"),
        load!("12-tenants.yaml"),
    ] {
        let text = config::check(&loaded);
        assert!(text.contains("listens on 127.0.0.1:4000"), "{text}");
        for secret in ["sk-of", "user-key", "tenant-a-key", "litellm:password"] {
            assert!(!text.contains(secret), "{secret} in {text}");
            assert!(!format!("{loaded:?}").contains(secret), "{secret}");
        }
    }
}

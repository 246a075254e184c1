//! The provider table. Sources: each provider's own documentation of its OpenAI-shaped endpoint, and the
//! lists of LiteLLM and models.dev where they agree with it; read in November 2026.

use super::{Provider, Quirk};
use crate::{AuthScheme, Dialect};

/// Every provider that Tollgate knows by name.
pub const PROVIDERS: &[Provider] = &[
    // The built-in deterministic model.
    Provider {
        auth: AuthScheme::None,
        dialect: Dialect::Demo,
        key_optional: true,
        ..hosted("tollgate", "Tollgate", "", &[])
    },
    // OpenAI and those who made their own models.
    Provider {
        aliases: &["text-completion-openai"],
        base_env: &["OPENAI_BASE_URL", "OPENAI_API_BASE"],
        ..hosted(
            "openai",
            "OpenAI",
            "https://api.openai.com/v1",
            &["OPENAI_API_KEY"],
        )
    },
    Provider {
        aliases: &["azure_text"],
        base_env: &["AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"],
        auth: AuthScheme::Header("api-key"),
        dialect: Dialect::Azure,
        ..hosted(
            "azure",
            "Azure OpenAI",
            "",
            &["AZURE_API_KEY", "AZURE_OPENAI_API_KEY"],
        )
    },
    Provider {
        base_env: &["AZURE_AI_API_BASE"],
        auth: AuthScheme::Header("api-key"),
        ..hosted("azure_ai", "Azure AI Foundry", "", &["AZURE_AI_API_KEY"])
    },
    Provider {
        aliases: &["anthropic_text"],
        base_env: &["ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"],
        bare_base_path: "/v1",
        ..hosted(
            "anthropic",
            "Anthropic",
            "https://api.anthropic.com/v1",
            &["ANTHROPIC_API_KEY"],
        )
    },
    Provider {
        bare_base_path: "/v1beta/openai",
        ..hosted(
            "gemini",
            "Google Gemini",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        )
    },
    Provider {
        base_env: &["MISTRAL_API_BASE"],
        quirks: &[Quirk::NoStreamOptions, Quirk::MaxTokensOnly],
        ..hosted(
            "mistral",
            "Mistral",
            "https://api.mistral.ai/v1",
            &["MISTRAL_API_KEY"],
        )
    },
    Provider {
        quirks: &[Quirk::NoStreamOptions, Quirk::MaxTokensOnly],
        ..hosted(
            "codestral",
            "Mistral Codestral",
            "https://codestral.mistral.ai/v1",
            &["CODESTRAL_API_KEY"],
        )
    },
    Provider {
        base_env: &["DEEPSEEK_API_BASE"],
        ..hosted(
            "deepseek",
            "DeepSeek",
            "https://api.deepseek.com",
            &["DEEPSEEK_API_KEY"],
        )
    },
    Provider {
        aliases: &["cohere_chat"],
        bare_base_path: "/compatibility/v1",
        ..hosted(
            "cohere",
            "Cohere",
            "https://api.cohere.ai/compatibility/v1",
            &["COHERE_API_KEY", "CO_API_KEY"],
        )
    },
    Provider {
        base_env: &["XAI_API_BASE"],
        ..hosted("xai", "xAI", "https://api.x.ai/v1", &["XAI_API_KEY"])
    },
    Provider {
        base_env: &["ZAI_API_BASE"],
        ..hosted(
            "zai",
            "Z.ai",
            "https://api.z.ai/api/paas/v4",
            &["ZAI_API_KEY"],
        )
    },
    Provider {
        aliases: &["zhipuai", "bigmodel"],
        ..hosted(
            "zhipu",
            "Zhipu",
            "https://open.bigmodel.cn/api/paas/v4",
            &["ZHIPUAI_API_KEY", "ZHIPU_API_KEY"],
        )
    },
    Provider {
        base_env: &["MOONSHOT_API_BASE"],
        ..hosted(
            "moonshot",
            "Moonshot",
            "https://api.moonshot.ai/v1",
            &["MOONSHOT_API_KEY"],
        )
    },
    hosted(
        "moonshot_cn",
        "Moonshot (China)",
        "https://api.moonshot.cn/v1",
        &["MOONSHOT_CN_API_KEY"],
    ),
    Provider {
        base_env: &["DASHSCOPE_API_BASE"],
        ..hosted(
            "dashscope",
            "Alibaba Model Studio",
            "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
            &["DASHSCOPE_API_KEY"],
        )
    },
    hosted(
        "dashscope_cn",
        "Alibaba Model Studio (China)",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        &["DASHSCOPE_CN_API_KEY"],
    ),
    Provider {
        aliases: &["ark", "doubao"],
        ..hosted(
            "volcengine",
            "Volcano Engine Ark",
            "https://ark.cn-beijing.volces.com/api/v3",
            &["VOLCENGINE_API_KEY", "ARK_API_KEY"],
        )
    },
    hosted(
        "byteplus",
        "BytePlus ModelArk",
        "https://ark.ap-southeast.bytepluses.com/api/v3",
        &["BYTEPLUS_API_KEY"],
    ),
    Provider {
        base_env: &["MINIMAX_API_BASE"],
        ..hosted(
            "minimax",
            "MiniMax",
            "https://api.minimax.io/v1",
            &["MINIMAX_API_KEY"],
        )
    },
    hosted(
        "hunyuan",
        "Tencent Hunyuan",
        "https://api.hunyuan.cloud.tencent.com/v1",
        &["HUNYUAN_API_KEY"],
    ),
    hosted(
        "qianfan",
        "Baidu Qianfan",
        "https://qianfan.baidubce.com/v2",
        &["QIANFAN_API_KEY"],
    ),
    hosted(
        "spark",
        "iFlytek Spark",
        "https://spark-api-open.xf-yun.com/v1",
        &["SPARK_API_KEY"],
    ),
    hosted(
        "sensenova",
        "SenseNova",
        "https://api.sensenova.cn/compatible-mode/v1",
        &["SENSENOVA_API_KEY"],
    ),
    hosted(
        "baichuan",
        "Baichuan",
        "https://api.baichuan-ai.com/v1",
        &["BAICHUAN_API_KEY"],
    ),
    Provider {
        aliases: &["01ai", "lingyiwanwu"],
        ..hosted(
            "yi",
            "01.AI",
            "https://api.lingyiwanwu.com/v1",
            &["YI_API_KEY", "LINGYIWANWU_API_KEY"],
        )
    },
    hosted(
        "stepfun",
        "StepFun",
        "https://api.stepfun.com/v1",
        &["STEPFUN_API_KEY"],
    ),
    hosted(
        "longcat",
        "LongCat",
        "https://api.longcat.chat/openai/v1",
        &["LONGCAT_API_KEY"],
    ),
    Provider {
        quirks: &[Quirk::MaxTokensOnly],
        ..hosted(
            "xiaomi_mimo",
            "Xiaomi MiMo",
            "https://api.xiaomimimo.com/v1",
            &["XIAOMI_MIMO_API_KEY"],
        )
    },
    hosted(
        "ai360",
        "360 AI",
        "https://api.360.cn/v1",
        &["AI360_API_KEY"],
    ),
    Provider {
        aliases: &["ai21_chat"],
        base_env: &["AI21_API_BASE"],
        ..hosted(
            "ai21",
            "AI21",
            "https://api.ai21.com/studio/v1",
            &["AI21_API_KEY"],
        )
    },
    hosted(
        "upstage",
        "Upstage",
        "https://api.upstage.ai/v1",
        &["UPSTAGE_API_KEY"],
    ),
    hosted(
        "inception",
        "Inception",
        "https://api.inceptionlabs.ai/v1",
        &["INCEPTION_API_KEY"],
    ),
    hosted("reka", "Reka", "https://api.reka.ai/v1", &["REKA_API_KEY"]),
    Provider {
        auth: AuthScheme::Header("api-subscription-key"),
        quirks: &[Quirk::MaxTokensOnly],
        ..hosted(
            "sarvam",
            "Sarvam",
            "https://api.sarvam.ai/v1",
            &["SARVAM_API_KEY"],
        )
    },
    hosted(
        "maritalk",
        "Maritaca",
        "https://chat.maritaca.ai/api",
        &["MARITALK_API_KEY"],
    ),
    Provider {
        base_env: &["LLAMA_API_BASE"],
        ..hosted(
            "meta_llama",
            "Meta Llama API",
            "https://api.llama.com/compat/v1",
            &["LLAMA_API_KEY"],
        )
    },
    hosted(
        "amazon_nova",
        "Amazon Nova",
        "https://api.nova.amazon.com/v1",
        &["AMAZON_NOVA_API_KEY"],
    ),
    Provider {
        base_env: &["PERPLEXITY_API_BASE"],
        ..hosted(
            "perplexity",
            "Perplexity",
            "https://api.perplexity.ai",
            &["PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"],
        )
    },
    hosted(
        "morph",
        "Morph",
        "https://api.morphllm.com/v1",
        &["MORPH_API_KEY"],
    ),
    hosted("v0", "Vercel v0", "https://api.v0.dev/v1", &["V0_API_KEY"]),
    // Hosts of open models.
    Provider {
        base_env: &["GROQ_API_BASE"],
        ..hosted(
            "groq",
            "Groq",
            "https://api.groq.com/openai/v1",
            &["GROQ_API_KEY"],
        )
    },
    Provider {
        aliases: &["together"],
        base_env: &["TOGETHER_AI_API_BASE"],
        ..hosted(
            "together_ai",
            "Together AI",
            "https://api.together.xyz/v1",
            &[
                "TOGETHERAI_API_KEY",
                "TOGETHER_API_KEY",
                "TOGETHER_AI_API_KEY",
            ],
        )
    },
    Provider {
        aliases: &["fireworks"],
        base_env: &["FIREWORKS_API_BASE"],
        ..hosted(
            "fireworks_ai",
            "Fireworks AI",
            "https://api.fireworks.ai/inference/v1",
            &["FIREWORKS_AI_API_KEY", "FIREWORKS_API_KEY"],
        )
    },
    Provider {
        base_env: &["CEREBRAS_API_BASE"],
        ..hosted(
            "cerebras",
            "Cerebras",
            "https://api.cerebras.ai/v1",
            &["CEREBRAS_API_KEY"],
        )
    },
    Provider {
        base_env: &["NVIDIA_NIM_API_BASE"],
        ..hosted(
            "nvidia_nim",
            "NVIDIA NIM",
            "https://integrate.api.nvidia.com/v1",
            &["NVIDIA_NIM_API_KEY", "NVIDIA_API_KEY"],
        )
    },
    Provider {
        base_env: &["SAMBANOVA_API_BASE"],
        ..hosted(
            "sambanova",
            "SambaNova",
            "https://api.sambanova.ai/v1",
            &["SAMBANOVA_API_KEY"],
        )
    },
    Provider {
        aliases: &["hf"],
        base_env: &["HF_API_BASE", "HUGGINGFACE_API_BASE"],
        bare_base_path: "/v1",
        ..hosted(
            "huggingface",
            "Hugging Face",
            "https://router.huggingface.co/v1",
            &["HUGGINGFACE_API_KEY", "HF_TOKEN"],
        )
    },
    Provider {
        base_env: &["DEEPINFRA_API_BASE"],
        ..hosted(
            "deepinfra",
            "DeepInfra",
            "https://api.deepinfra.com/v1/openai",
            &["DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"],
        )
    },
    Provider {
        base_env: &["NOVITA_API_BASE"],
        ..hosted(
            "novita",
            "Novita AI",
            "https://api.novita.ai/v3/openai",
            &["NOVITA_API_KEY"],
        )
    },
    Provider {
        base_env: &["HYPERBOLIC_API_BASE"],
        ..hosted(
            "hyperbolic",
            "Hyperbolic",
            "https://api.hyperbolic.xyz/v1",
            &["HYPERBOLIC_API_KEY"],
        )
    },
    Provider {
        base_env: &["NEBIUS_API_BASE"],
        ..hosted(
            "nebius",
            "Nebius Token Factory",
            "https://api.tokenfactory.nebius.com/v1",
            &["NEBIUS_API_KEY"],
        )
    },
    hosted(
        "github",
        "GitHub Models",
        "https://models.github.ai/inference",
        &["GITHUB_API_KEY"],
    ),
    hosted(
        "cloudflare",
        "Cloudflare Workers AI",
        "https://api.cloudflare.com/client/v4/accounts/{CLOUDFLARE_ACCOUNT_ID}/ai/v1",
        &["CLOUDFLARE_API_KEY", "CLOUDFLARE_API_TOKEN"],
    ),
    Provider {
        base_env: &["DATABRICKS_API_BASE"],
        bare_base_path: "/serving-endpoints",
        ..hosted(
            "databricks",
            "Databricks",
            "",
            &["DATABRICKS_API_KEY", "DATABRICKS_TOKEN"],
        )
    },
    hosted(
        "snowflake",
        "Snowflake Cortex",
        "https://{SNOWFLAKE_ACCOUNT_ID}.snowflakecomputing.com/api/v2/cortex/v1",
        &["SNOWFLAKE_JWT", "SNOWFLAKE_PAT"],
    ),
    Provider {
        base_env: &["ANYSCALE_API_BASE"],
        ..hosted(
            "anyscale",
            "Anyscale",
            "https://api.endpoints.anyscale.com/v1",
            &["ANYSCALE_API_KEY"],
        )
    },
    hosted(
        "siliconflow",
        "SiliconFlow",
        "https://api.siliconflow.com/v1",
        &["SILICONFLOW_API_KEY"],
    ),
    hosted(
        "siliconflow_cn",
        "SiliconFlow (China)",
        "https://api.siliconflow.cn/v1",
        &["SILICONFLOW_CN_API_KEY"],
    ),
    hosted(
        "modelscope",
        "ModelScope",
        "https://api-inference.modelscope.cn/v1",
        &["MODELSCOPE_API_KEY"],
    ),
    hosted(
        "ppio",
        "PPIO",
        "https://api.ppinfra.com/v3/openai",
        &["PPIO_API_KEY"],
    ),
    hosted(
        "infini",
        "Infinigence",
        "https://cloud.infini-ai.com/maas/v1",
        &["INFINI_API_KEY"],
    ),
    hosted(
        "gitee",
        "Gitee AI",
        "https://ai.gitee.com/v1",
        &["GITEE_AI_API_KEY"],
    ),
    Provider {
        base_env: &["FRIENDLI_API_BASE"],
        ..hosted(
            "friendliai",
            "Friendli",
            "https://api.friendli.ai/serverless/v1",
            &["FRIENDLIAI_API_KEY", "FRIENDLI_TOKEN"],
        )
    },
    Provider {
        aliases: &["lambda"],
        base_env: &["LAMBDA_API_BASE"],
        ..hosted(
            "lambda_ai",
            "Lambda",
            "https://api.lambda.ai/v1",
            &["LAMBDA_API_KEY"],
        )
    },
    Provider {
        aliases: &["featherless"],
        base_env: &["FEATHERLESS_AI_API_BASE"],
        ..hosted(
            "featherless_ai",
            "Featherless",
            "https://api.featherless.ai/v1",
            &["FEATHERLESS_AI_API_KEY", "FEATHERLESS_API_KEY"],
        )
    },
    Provider {
        aliases: &["inference"],
        ..hosted(
            "inference_net",
            "Inference.net",
            "https://api.inference.net/v1",
            &["INFERENCE_API_KEY"],
        )
    },
    hosted(
        "nscale",
        "Nscale",
        "https://inference.api.nscale.com/v1",
        &["NSCALE_API_KEY"],
    ),
    hosted(
        "baseten",
        "Baseten",
        "https://inference.baseten.co/v1",
        &["BASETEN_API_KEY"],
    ),
    hosted(
        "clarifai",
        "Clarifai",
        "https://api.clarifai.com/v2/ext/openai/v1",
        &["CLARIFAI_API_KEY", "CLARIFAI_PAT"],
    ),
    hosted(
        "wandb",
        "Weights & Biases",
        "https://api.inference.wandb.ai/v1",
        &["WANDB_API_KEY"],
    ),
    hosted(
        "ovhcloud",
        "OVHcloud AI Endpoints",
        "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
        &["OVHCLOUD_API_KEY"],
    ),
    hosted(
        "scaleway",
        "Scaleway",
        "https://api.scaleway.ai/v1",
        &["SCW_SECRET_KEY", "SCALEWAY_API_KEY"],
    ),
    hosted(
        "ionos",
        "IONOS",
        "https://openai.inference.de-txl.ionos.com/v1",
        &["IONOS_API_KEY"],
    ),
    hosted(
        "vultr",
        "Vultr",
        "https://api.vultrinference.com/v1",
        &["VULTR_API_KEY"],
    ),
    Provider {
        aliases: &["digitalocean"],
        ..hosted(
            "gradient_ai",
            "DigitalOcean Gradient",
            "https://inference.do-ai.run/v1",
            &["GRADIENT_AI_API_KEY"],
        )
    },
    Provider {
        base_env: &["HEROKU_API_BASE"],
        bare_base_path: "/v1",
        ..hosted(
            "heroku",
            "Heroku",
            "https://us.inference.heroku.com/v1",
            &["HEROKU_API_KEY"],
        )
    },
    hosted(
        "io_net",
        "io.net",
        "https://api.intelligence.io.solutions/api/v1",
        &["IOINTELLIGENCE_API_KEY"],
    ),
    hosted(
        "parasail",
        "Parasail",
        "https://api.parasail.io/v1",
        &["PARASAIL_API_KEY"],
    ),
    hosted(
        "kluster",
        "kluster.ai",
        "https://api.kluster.ai/v1",
        &["KLUSTER_API_KEY"],
    ),
    hosted(
        "avian",
        "Avian",
        "https://api.avian.io/v1",
        &["AVIAN_API_KEY"],
    ),
    hosted(
        "targon",
        "Targon",
        "https://api.targon.com/v1",
        &["TARGON_API_KEY"],
    ),
    Provider {
        quirks: &[Quirk::MaxTokensOnly],
        ..hosted(
            "chutes",
            "Chutes",
            "https://llm.chutes.ai/v1",
            &["CHUTES_API_KEY"],
        )
    },
    hosted(
        "gmi",
        "GMI Cloud",
        "https://api.gmi-serving.com/v1",
        &["GMI_API_KEY"],
    ),
    Provider {
        base_env: &["CRUSOE_API_BASE"],
        quirks: &[Quirk::MaxTokensOnly],
        ..hosted(
            "crusoe",
            "Crusoe",
            "https://managed-inference-api-proxy.crusoecloud.com/v1",
            &["CRUSOE_API_KEY"],
        )
    },
    hosted(
        "salad_cloud",
        "Salad Cloud",
        "https://ai.salad.cloud/v1",
        &["SALAD_CLOUD_API_KEY"],
    ),
    hosted(
        "akashchat",
        "Akash Chat",
        "https://chatapi.akash.network/api/v1",
        &["AKASHCHAT_API_KEY"],
    ),
    hosted(
        "infermatic",
        "Infermatic",
        "https://api.totalgpt.ai/v1",
        &["INFERMATIC_API_KEY"],
    ),
    hosted(
        "publicai",
        "PublicAI",
        "https://api.publicai.co/v1",
        &["PUBLICAI_API_KEY"],
    ),
    Provider {
        aliases: &["venice"],
        ..hosted(
            "veniceai",
            "Venice",
            "https://api.venice.ai/api/v1",
            &["VENICE_AI_API_KEY", "VENICE_API_KEY"],
        )
    },
    Provider {
        quirks: &[Quirk::MaxTokensOnly],
        ..hosted(
            "synthetic",
            "Synthetic",
            "https://api.synthetic.new/openai/v1",
            &["SYNTHETIC_API_KEY"],
        )
    },
    hosted(
        "abliteration",
        "Abliteration",
        "https://api.abliteration.ai/v1",
        &["ABLITERATION_API_KEY"],
    ),
    hosted(
        "llamagate",
        "LlamaGate",
        "https://api.llamagate.dev/v1",
        &["LLAMAGATE_API_KEY"],
    ),
    hosted(
        "ollama_cloud",
        "Ollama Cloud",
        "https://ollama.com/v1",
        &["OLLAMA_API_KEY"],
    ),
    hosted(
        "empower",
        "Empower",
        "https://app.empower.dev/api/v1",
        &["EMPOWER_API_KEY"],
    ),
    hosted(
        "galadriel",
        "Galadriel",
        "https://api.galadriel.com/v1",
        &["GALADRIEL_API_KEY"],
    ),
    Provider {
        quirks: &[Quirk::NoChat],
        ..hosted(
            "voyage",
            "Voyage AI",
            "https://api.voyageai.com/v1",
            &["VOYAGE_API_KEY"],
        )
    },
    Provider {
        aliases: &["jina"],
        quirks: &[Quirk::NoChat],
        ..hosted(
            "jina_ai",
            "Jina AI",
            "https://api.jina.ai/v1",
            &["JINA_AI_API_KEY", "JINA_API_KEY"],
        )
    },
    // Gateways to many providers.
    Provider {
        base_env: &["OPENROUTER_API_BASE"],
        ..hosted(
            "openrouter",
            "OpenRouter",
            "https://openrouter.ai/api/v1",
            &["OPENROUTER_API_KEY"],
        )
    },
    hosted(
        "vercel_ai_gateway",
        "Vercel AI Gateway",
        "https://ai-gateway.vercel.sh/v1",
        &["VERCEL_AI_GATEWAY_API_KEY", "AI_GATEWAY_API_KEY"],
    ),
    hosted(
        "helicone",
        "Helicone",
        "https://ai-gateway.helicone.ai",
        &["HELICONE_API_KEY"],
    ),
    hosted(
        "requesty",
        "Requesty",
        "https://router.requesty.ai/v1",
        &["REQUESTY_API_KEY"],
    ),
    Provider {
        auth: AuthScheme::Header("x-portkey-api-key"),
        ..hosted(
            "portkey",
            "Portkey",
            "https://api.portkey.ai/v1",
            &["PORTKEY_API_KEY"],
        )
    },
    hosted(
        "aiml",
        "AI/ML API",
        "https://api.aimlapi.com/v1",
        &["AIML_API_KEY"],
    ),
    hosted(
        "cometapi",
        "CometAPI",
        "https://api.cometapi.com/v1",
        &["COMETAPI_KEY", "COMETAPI_API_KEY"],
    ),
    Provider {
        base_env: &["AIHUBMIX_API_BASE"],
        ..hosted(
            "aihubmix",
            "AIHubMix",
            "https://aihubmix.com/v1",
            &["AIHUBMIX_API_KEY"],
        )
    },
    hosted(
        "apertis",
        "Apertis",
        "https://api.stima.tech/v1",
        &["STIMA_API_KEY"],
    ),
    hosted(
        "nano-gpt",
        "NanoGPT",
        "https://nano-gpt.com/api/v1",
        &["NANOGPT_API_KEY"],
    ),
    hosted("poe", "Poe", "https://api.poe.com/v1", &["POE_API_KEY"]),
    hosted(
        "zenmux",
        "ZenMux",
        "https://zenmux.ai/api/v1",
        &["ZENMUX_API_KEY"],
    ),
    hosted(
        "opencode",
        "OpenCode Zen",
        "https://opencode.ai/zen/v1",
        &["OPENCODE_API_KEY"],
    ),
    hosted(
        "cortecs",
        "Cortecs",
        "https://api.cortecs.ai/v1",
        &["CORTECS_API_KEY"],
    ),
    hosted("llm7", "LLM7", "https://api.llm7.io/v1", &["LLM7_API_KEY"]),
    hosted(
        "redpill",
        "RedPill",
        "https://api.redpill.ai/v1",
        &["REDPILL_API_KEY"],
    ),
    Provider {
        base_env: &["LITELLM_PROXY_API_BASE"],
        ..hosted(
            "litellm_proxy",
            "LiteLLM proxy",
            "",
            &["LITELLM_PROXY_API_KEY"],
        )
    },
    // Machines of one's own.
    Provider {
        aliases: &["ollama_chat"],
        base_env: &["OLLAMA_API_BASE"],
        bare_base_path: "/v1",
        ..local("ollama", "Ollama", "http://localhost:11434/v1")
    },
    Provider {
        aliases: &["vllm"],
        key_env: &["HOSTED_VLLM_API_KEY"],
        base_env: &["HOSTED_VLLM_API_BASE"],
        bare_base_path: "/v1",
        ..local("hosted_vllm", "vLLM", "")
    },
    Provider {
        bare_base_path: "/v1",
        ..local("sglang", "SGLang", "")
    },
    Provider {
        aliases: &["text-generation-inference"],
        bare_base_path: "/v1",
        ..local("tgi", "Text Generation Inference", "")
    },
    Provider {
        key_env: &["LM_STUDIO_API_KEY"],
        base_env: &["LM_STUDIO_API_BASE"],
        bare_base_path: "/v1",
        ..local("lm_studio", "LM Studio", "http://localhost:1234/v1")
    },
    Provider {
        key_env: &["LLAMAFILE_API_KEY"],
        base_env: &["LLAMAFILE_API_BASE"],
        bare_base_path: "/v1",
        ..local("llamafile", "llamafile", "http://127.0.0.1:8080/v1")
    },
    Provider {
        aliases: &["llamacpp"],
        bare_base_path: "/v1",
        ..local("llama_cpp", "llama.cpp", "http://127.0.0.1:8080/v1")
    },
    Provider {
        key_env: &["XINFERENCE_API_KEY"],
        base_env: &["XINFERENCE_API_BASE"],
        bare_base_path: "/v1",
        ..local("xinference", "Xinference", "http://127.0.0.1:9997/v1")
    },
    Provider {
        base_env: &["LEMONADE_API_BASE"],
        ..local("lemonade", "Lemonade", "http://localhost:8000/api/v1")
    },
    Provider {
        base_env: &["DOCKER_MODEL_RUNNER_API_BASE"],
        ..local(
            "docker_model_runner",
            "Docker Model Runner",
            "http://localhost:12434/engines/v1",
        )
    },
    Provider {
        bare_base_path: "/v1",
        ..local("localai", "LocalAI", "http://localhost:8080/v1")
    },
    Provider {
        bare_base_path: "/v1",
        ..local("jan", "Jan", "http://localhost:1337/v1")
    },
    Provider {
        bare_base_path: "/v1",
        ..local(
            "oobabooga",
            "text-generation-webui",
            "http://127.0.0.1:5000/v1",
        )
    },
    Provider {
        bare_base_path: "/v1",
        ..local("koboldcpp", "KoboldCpp", "http://localhost:5001/v1")
    },
    Provider {
        bare_base_path: "/v1",
        ..local("gpt4all", "GPT4All", "http://localhost:4891/v1")
    },
    Provider {
        quirks: &[Quirk::NoChat],
        ..local("infinity", "Infinity", "")
    },
    Provider {
        aliases: &[
            "openai_like",
            "custom",
            "aiohttp_openai",
            "openai_compatible",
        ],
        ..local("custom_openai", "an OpenAI-shaped endpoint", "")
    },
    // Known by name; their own dialects are not spoken yet.
    foreign(
        "bedrock",
        &["bedrock_converse"],
        "Amazon Bedrock",
        "Amazon Bedrock's own dialect and signatures are not spoken yet",
    ),
    foreign(
        "sagemaker",
        &["sagemaker_chat", "sagemaker_nova"],
        "Amazon SageMaker",
        "Amazon SageMaker's own dialect and signatures are not spoken yet",
    ),
    foreign(
        "vertex_ai",
        &["vertex_ai_beta"],
        "Google Vertex AI",
        "Google Vertex AI's sign-in is not spoken yet; the prefix gemini/ with an API key is",
    ),
    foreign(
        "watsonx",
        &["watsonx_text"],
        "IBM watsonx",
        "IBM watsonx's own dialect is not spoken yet",
    ),
    foreign(
        "oci",
        &[],
        "Oracle Cloud",
        "Oracle Cloud's own dialect is not spoken yet",
    ),
    foreign(
        "replicate",
        &[],
        "Replicate",
        "Replicate's own dialect is not spoken yet",
    ),
    foreign(
        "gigachat",
        &[],
        "GigaChat",
        "GigaChat's sign-in is not spoken yet",
    ),
    foreign(
        "github_copilot",
        &[],
        "GitHub Copilot",
        "GitHub Copilot's sign-in is not spoken yet",
    ),
    foreign(
        "predibase",
        &[],
        "Predibase",
        "Predibase's own dialect is not spoken yet",
    ),
    foreign(
        "triton",
        &[],
        "NVIDIA Triton",
        "Triton's own dialect is not spoken yet",
    ),
    foreign(
        "nlp_cloud",
        &[],
        "NLP Cloud",
        "NLP Cloud's own dialect is not spoken yet",
    ),
];

/// An OpenAI-shaped endpoint with a bearer key.
const fn hosted(
    prefix: &'static str,
    name: &'static str,
    base_url: &'static str,
    key_env: &'static [&'static str],
) -> Provider {
    Provider {
        prefix,
        aliases: &[],
        name,
        base_url,
        key_env,
        base_env: &[],
        auth: AuthScheme::Bearer,
        dialect: Dialect::OpenAi,
        key_optional: false,
        bare_base_path: "",
        quirks: &[],
    }
}

/// The same on a machine of one's own, where a key is the exception.
const fn local(prefix: &'static str, name: &'static str, base_url: &'static str) -> Provider {
    Provider {
        key_optional: true,
        ..hosted(prefix, name, base_url, &[])
    }
}

/// A provider without an OpenAI-shaped endpoint that a plain key opens.
const fn foreign(
    prefix: &'static str,
    aliases: &'static [&'static str],
    name: &'static str,
    why: &'static str,
) -> Provider {
    Provider {
        aliases,
        key_optional: true,
        auth: AuthScheme::Bearer,
        dialect: Dialect::Unsupported(why),
        ..hosted(prefix, name, "", &[])
    }
}

//! Names without a provider's prefix find their provider.

use super::{Cast, asked, checked, swap};

const FILE: &str = include_str!("../../../deploy/reference-configs/03-bare-names.yaml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let cast = Cast::new().await;
    let text = swap(FILE, "http://vllm-server:8000/v1", &cast.other.base_url());
    let on = cast.ingress(&text).await;
    for model in ["gpt-4", "claude-3-opus", "cohere-command", "local-llama"] {
        let told = on.chat_as("sk-1234", model, "hi").send().await;
        assert_eq!(told.status, 200, "{model}: {}", told.text);
        assert_eq!(told.json()["model"], model);
    }
    assert_eq!(asked(&cast.openai), ["gpt-4"]);
    assert_eq!(asked(&cast.anthropic), ["claude-3-opus-20240229"]);
    assert_eq!(asked(&cast.other), ["command", "meta-llama/Llama-2-70b-hf"]);
    let keys: Vec<_> = cast
        .other
        .headers()
        .iter()
        .map(|h| h.get("authorization").cloned())
        .collect();
    assert_eq!(keys[0].as_ref().unwrap(), "Bearer key-of-COHERE");
    assert_eq!(keys[1], None, "a machine of one's own wants no key");
    assert_eq!(
        on.chat("gpt-4", "hi").send().await.status,
        401,
        "the file's master key is the only one"
    );

    // A name that says nothing of its provider needs the prefix, or an address.
    let nameless = swap(&text, "model: command", "model: my-own-model");
    let (good, said) = checked(&cast, &nameless);
    assert!(!good, "{said}");
    assert!(
        said.contains("checked.yaml:12: model_list[2].litellm_params.model"),
        "{said}"
    );
}

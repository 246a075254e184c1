//! Small requests to the cheap model, long ones to the large window.

use super::{Cast, asked, swap, without};

const FILE: &str = include_str!("../../../deploy/reference-configs/04-routing.yaml");
const CLAUDE: &str = "claude-3-opus-20240229";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let cast = Cast::new().await;
    let long = "word ".repeat(60_000);
    // Some 700 tokens: too dear to be small with gpt-4, and within its window.
    let medium = "word ".repeat(700);
    let on = cast.ingress(FILE).await;
    let short = on.chat("gpt-4", "hi").with("max_tokens", 50);
    for (chat, model) in [
        (short, "gpt-3.5-turbo"),
        (on.chat("gpt-4", &medium), "gpt-4"),
    ] {
        let told = chat.send().await;
        assert_eq!(told.status, 200, "{}", told.text);
        assert_eq!(asked(&cast.openai).last().unwrap(), model);
    }
    let told = on.chat("gpt-4", &long).send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(asked(&cast.anthropic), [CLAUDE]);
    drop(on);

    // Of the two with a long window, the cheaper one; by `router.type` alone the faster one, by its hint, or the
    // one that can do what is asked for.
    let near = swap(FILE, "context_threshold: 50000 ", "context_threshold: 500 ");
    let cost = "  routing_strategy: cost_optimized\n";
    let by = |word: &str| {
        swap(
            &swap(&near, cost, ""),
            "type: latency ",
            &format!("type: {word} "),
        )
    };
    for (text, model) in [
        (near.clone(), CLAUDE),
        (by("cost-based"), CLAUDE),
        (by("latency"), "gpt-4"),
        (by("capability-based"), "gpt-4"),
    ] {
        let stage = cast.ingress(&text).await;
        for provider in [&cast.openai, &cast.anthropic] {
            provider.forget();
        }
        // What an answer may cost counts as well.
        let chat = stage.chat("gpt-3.5-turbo", &medium);
        let chat = chat.with("max_tokens", 50);
        let chat = if text.contains("capability-based ") {
            chat.with("reasoning_effort", "low")
        } else {
            chat
        };
        let told = chat.send().await;
        assert_eq!(told.status, 200, "{}", told.text);
        let models = [asked(&cast.openai), asked(&cast.anthropic)].concat();
        assert_eq!(models, [model]);
    }

    // Without thresholds a name is its own model.
    let plain = swap(
        FILE,
        "  cost_threshold: 0.01           # small requests to the fast, cheap model\n",
        "",
    );
    let plain = cast.ingress(&plain).await;
    cast.openai.forget();
    let short = plain.chat("gpt-4", "hi").with("max_tokens", 50);
    assert_eq!(short.send().await.status, 200);
    assert_eq!(asked(&cast.openai), ["gpt-4"]);
    drop(plain);

    let off = cast.ingress(&without(FILE, "router:")).await;
    cast.openai.forget();
    for question in ["hi", &medium, &long] {
        assert_eq!(off.chat("gpt-4", question).send().await.status, 200);
    }
    assert_eq!(asked(&cast.openai), ["gpt-4", "gpt-4", "gpt-4"]);
}

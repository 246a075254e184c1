//! Small requests to the cheap model, long ones to the large window.

use super::{Cast, asked, without};

const FILE: &str = include_str!("../../../deploy/reference-configs/04-routing.yaml");

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
    assert_eq!(asked(&cast.anthropic), ["claude-3-opus-20240229"]);
    drop(on);

    let off = cast.ingress(&without(FILE, "router:")).await;
    let before = cast.openai.books().requests;
    for question in ["hi", &medium, &long] {
        assert_eq!(off.chat("gpt-4", question).send().await.status, 200);
    }
    let models = asked(&cast.openai);
    let since = usize::try_from(before).unwrap();
    assert_eq!(models[since..], ["gpt-4", "gpt-4", "gpt-4"]);
}

//! Shares between two names that serve one model.

use tests::Provider;

use super::{Cast, swap, without};

const FILE: &str = include_str!("../../../deploy/reference-configs/08-weighted.yaml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let (mut cast, eu) = (Cast::new().await, Provider::start().await);
    cast.env
        .push(("OPENAI_EU_API_KEY".to_owned(), "key-of-EU".to_owned()));
    let text = swap(FILE, "https://api.openai.com/v1", &cast.openai.base_url());
    let text = swap(&text, "https://api.openai-eu.com/v1", &eu.base_url());
    let on = cast.ingress(&text).await;
    for name in ["gpt-4-us", "gpt-4-eu", "gpt-4", "gpt-4-us"] {
        for _ in 0..5 {
            assert_eq!(on.chat(name, "hi").send().await.status, 200);
        }
    }
    let shares = (cast.openai.books().requests, eu.books().requests);
    assert_eq!(shares, (12, 8), "six tenths and four of twenty");
    assert_eq!(eu.headers()[0]["authorization"], "Bearer key-of-EU");
    drop(on);

    let off = cast.ingress(&without(&text, "router:")).await;
    for _ in 0..5 {
        assert_eq!(off.chat("gpt-4-us", "hi").send().await.status, 200);
    }
    assert_eq!((cast.openai.books().requests, eu.books().requests), (17, 8));
    assert_eq!(
        off.chat("gpt-4", "hi").send().await.status,
        400,
        "no name of its own"
    );
}

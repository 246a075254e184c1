//! Servers and URLs that budget state is not entrusted to.

use budgets::redis::Settings;
use budgets::{Error, Redis};
use test_servers::Redis as Server;

async fn refusal(url: String) -> String {
    match Redis::start(Settings::new(url, "refused")).await {
        Err(Error::Unusable(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[tokio::test]
async fn a_server_that_evicts_is_refused_by_name() {
    let server = Server::start(test_servers::redis::ANSWERS).await;
    let why = refusal(server.url()).await;
    assert!(why.contains("maxmemory-policy allkeys-lru"), "{why}");
}

#[tokio::test]
async fn a_wrong_login_is_refused_and_never_shown() {
    let server = Server::start(&["--save", "", "--requirepass", "right-secret"]).await;
    let url = |login: &str| format!("redis://{login}@127.0.0.1:{}", server.port());
    let why = refusal(url(":wrong-secret")).await;
    assert!(
        why.contains("login") && !why.contains("wrong-secret"),
        "{why}"
    );
    let settings = Settings::new(url(":right-secret"), "refused");
    assert!(!format!("{settings:?}").contains("right-secret"));
    Redis::start(settings).await.expect("the right login");
    for url in [
        "http://:some-secret@host",
        "redis://:some-secret@",
        "some-secret",
    ] {
        let why = refusal(url.to_owned()).await;
        assert!(!why.contains("some-secret"), "{why}");
    }
}

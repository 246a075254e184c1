//! `rediss://`: the server is known by a certificate that somebody trusted has signed.
//!
//! `tls/server.pem` is for localhost, signed by `tls/ca.pem`, whose key is gone; both last a century.

use std::time::Duration;

use budgets::redis::Settings;
use budgets::{Budgets, Error, Redis};
use test_servers::{Redis as Server, free_port};

use crate::world::{opened, reserve, scope, spend, usd};

const CA: &str = include_str!("tls/ca.pem");

async fn over_tls() -> (Server, Settings) {
    let port = free_port();
    let certificate = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/redis/tls/server.pem");
    let arguments = [
        "--save",
        "",
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        certificate,
        "--tls-key-file",
        certificate,
        "--tls-auth-clients",
        "no",
    ];
    let server = Server::start(&arguments).await;
    let settings = Settings {
        pause: Duration::ZERO,
        ca: Some(CA.to_owned()),
        ..Settings::new(format!("rediss://localhost:{port}"), "tls")
    };
    (server, settings)
}

#[tokio::test]
async fn budgets_are_kept_over_tls() {
    let (_server, settings) = over_tls().await;
    let budgets = opened(&settings).await;
    let scopes = [scope("key:k", Some(usd(10)))];
    reserve(&budgets, 1, usd(6), &scopes).await.expect("fits");
    reserve(&budgets, 2, usd(6), &scopes)
        .await
        .expect_err("4 are left");
    assert_eq!(spend(&budgets, &scopes[0]).await.held, usd(6));
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_no_budgets() {
    let (_server, settings) = over_tls().await;
    let unknown = Settings {
        ca: None,
        ..settings.clone()
    };
    let budgets = Redis::start(unknown).await.expect("it may be mended");
    assert!(budgets.standing().await.is_err());
    let broken = Settings {
        ca: Some("-----BEGIN CERTIFICATE-----".to_owned()),
        ..settings
    };
    let refused = Redis::start(broken).await.err();
    assert!(
        matches!(&refused, Some(Error::Unusable(why)) if why.contains("redis.ca")),
        "{refused:?}"
    );
}

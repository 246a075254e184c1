//! Brokers that are spoken to over TLS, and know their users by a password: everything about it stands in
//! `kafka.properties`. Who is refused is told why, in readiness and in the log, and no password is in either.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use test_servers::Kafka;
use test_servers::secure::Secured;
use tests::build::yaml;
use tests::gateway::{Gateway, Launch};
use tests::tls::authority;
use tests::{Shape, World};

const PASSWORD: &str = "the-password-of-the-gateway";
const WRONG: &str = "a-password-of-nobody";
/// Signed none of the broker's certificates.
const NOBODY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/storm/nobody.pem");
const CERTIFICATE: &str = concat!(
    include_str!("../src/tls/localhost.pem"),
    include_str!("../src/tls/localhost.key.pem")
);

/// The section `tollgate:` of a gateway with these properties of librdkafka.
fn section(brokers: &str, properties: &[(&str, &str)]) -> String {
    let line = |(name, value): &(&str, &str)| format!("      {name}: {value}\n");
    let lines: String = properties.iter().map(line).collect();
    format!(
        "  kafka:\n    bootstrap_servers: {brokers}\n    partitions: 4\n    properties:\n{lines}"
    )
}

fn with_password<'a>(
    mechanism: &'a str,
    password: &'a str,
    ca: &'a str,
) -> Vec<(&'a str, &'a str)> {
    vec![
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanisms", mechanism),
        ("sasl.username", "gateway"),
        ("sasl.password", password),
        ("ssl.ca.location", ca),
    ]
}

/// One broker for all of it. The topics are made, the journal relayed, keys and prices followed, and usage read,
/// each by clients of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_over_tls_with_a_password() {
    let kafka = Kafka::start_secured(&Secured {
        certificate: CERTIFICATE,
        user: "gateway",
        password: PASSWORD,
    })
    .await;
    let (secure, ca) = (kafka.secured(), authority().display().to_string());
    let right = with_password("SCRAM-SHA-256", PASSWORD, &ca);
    let world = World::with(Shape::OneMachine, "")
        .tollgate(&section(&secure.sasl, &right))
        .start()
        .await;
    let key = world.key(serde_json::json!({"max_budget": 1.0})).await;
    for _ in 0..3 {
        assert_eq!(world.chat_as(&key, "hi").send().await.status, 200);
    }
    world.rows(3).await;
    let charged = world.sql("select sum(toInt64(amount * 1000000000)) from cost_ledger final");
    assert_eq!(
        charged,
        world.provider.books().charged_nano.to_string(),
        "the bill is the provider's"
    );
    assert!(!world.gateway().log().contains(PASSWORD));

    // The other ways in find what is there.
    let tls = [
        ("security.protocol", "SSL"),
        ("ssl.ca.location", ca.as_str()),
    ];
    for (brokers, properties) in [
        (&secure.tls, tls.to_vec()),
        (&secure.sasl, with_password("PLAIN", PASSWORD, &ca)),
    ] {
        let file = world.path("other.yaml");
        let text = yaml(&world.provider, "", "");
        let tollgate = section(brokers, &properties);
        std::fs::write(&file, format!("{text}tollgate:\n{tollgate}")).unwrap();
        world.command(&["topics", "create", "--config", file.to_str().unwrap()]);
    }

    let unknown = with_password("SCRAM-SHA-256", PASSWORD, NOBODY);
    for (name, properties, why) in [
        (
            "wrong-password",
            with_password("SCRAM-SHA-256", WRONG, &ca),
            ["SASL authentication error", "invalid credentials"],
        ),
        (
            "wrong-authority",
            unknown,
            ["certificate verify failed", "ssl.ca.location"],
        ),
    ] {
        let file = world.path(&format!("{name}.yaml"));
        let text = yaml(&world.provider, "", "");
        let tollgate = section(&secure.sasl, &properties);
        std::fs::write(&file, format!("{text}tollgate:\n{tollgate}")).unwrap();
        let launch = Launch::role("ingress", Some(file), world.path(name));
        let refused = Gateway::spawn(launch);
        let told = unready(&refused).await;
        let log = refused.log();
        for (place, text) in [("readiness", &told), ("log", &log)] {
            for word in why {
                assert!(text.contains(word), "{place} of {name}: {text}");
            }
            assert!(
                !text.contains(PASSWORD) && !text.contains(WRONG),
                "{place} of {name}: {text}"
            );
        }
    }
}

/// What a gateway that is not ready says is missing, and what is late.
async fn unready(gateway: &Gateway) -> String {
    let url = format!("{}/health/readiness", gateway.url());
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Ok(answer) = tests::client::http().get(&url).send().await {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            return answer.text().await.unwrap();
        }
        assert!(
            Instant::now() < deadline,
            "does not answer:\n{}",
            gateway.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

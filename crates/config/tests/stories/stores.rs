//! The parts outside of a process, in the section `tollgate:`.

use super::{env, load};

#[test]
fn our_own_section_is_read_whole() {
    let config = load(
        "litellm_settings: {cache: true}\ntollgate:\n  data_dir: /var/lib/tollgate\n  journal: {sync: always, segment_bytes: 1048576, cap_bytes: 4194304, retention_days: 1, group_wait_us: 50}\n\
         \x20 clickhouse: {url: 'http://ch:8123', user: u, password: pw-secret, database: spend, port: 8124}\n\
         \x20 kafka: {bootstrap_servers: 'k1:9092,k2:9092', properties: {security.protocol: SASL_SSL, sasl.password: pw-secret}, topic_prefix: tg, partitions: 8, replication_factor: 1, schema_registry_url: 'http://sr:8081'}\n\
         \x20 redis: {url: 'redis://:pw-secret@r:6379', prefix: tg, wait_ms: 700, ca: '-----BEGIN CERTIFICATE----- x'}\n\
         \x20 drain: {lame_duck_s: 5, deadline_s: 1m}\n\
         \x20 cache: {url: 'http://cache:7000', timeout_ms: 40, token: pw-secret, redis_url: 'redis://:pw-secret@r', threshold: 0.95, ttl_s: 60, max_bytes: 1000, semantic: true}\n\
         \x20 budgets: {hold_s: 1200, unpriced_ceiling: 0.25, timezone: Europe/Berlin, refusal_status: 402}\n\
         \x20 limits: {body_bytes_max: 1024}\n  timeouts: {connect_s: 1, first_byte_s: 2.5, idle_s: 30s, total_s: 5m}\n  log: {level: trace, format: json}\n",
    );
    let debug = format!("{config:?}");
    assert!(
        !debug.contains("pw-secret") && debug.contains("[redacted]"),
        "{debug}"
    );
    let config = config.config;
    assert_eq!(config.data_dir.as_deref(), Some("/var/lib/tollgate"));
    assert_eq!(config.journal.sync, config::SyncMode::Always);
    assert_eq!(config.clickhouse.url.as_deref(), Some("http://ch:8123"));
    assert_eq!(config.clickhouse.database, "spend");
    let secret = |text: &str| config::Secret::new(text);
    assert_eq!(
        config.kafka,
        Some(config::Kafka {
            bootstrap_servers: "k1:9092,k2:9092".to_owned(),
            properties: vec![
                ("security.protocol".to_owned(), secret("SASL_SSL")),
                ("sasl.password".to_owned(), secret("pw-secret")),
            ],
            topic_prefix: "tg".to_owned(),
            partitions: 8,
            replication_factor: Some(1),
            schema_registry_url: Some("http://sr:8081".to_owned()),
        })
    );
    assert_eq!(
        config.redis,
        Some(config::Redis {
            url: secret("redis://:pw-secret@r:6379"),
            prefix: "tg".to_owned(),
            wait: std::time::Duration::from_millis(700),
            ca: Some(secret("-----BEGIN CERTIFICATE----- x")),
        })
    );
    assert_eq!(
        (
            config.drain.lame_duck.as_secs(),
            config.drain.deadline.as_secs()
        ),
        (5, 60)
    );
    assert_eq!(
        (
            config.cache.service_url.as_deref(),
            config.cache.timeout.as_millis(),
            config.cache.token
        ),
        (Some("http://cache:7000"), 40, Some(secret("pw-secret")))
    );
    assert_eq!(
        (config.cache.threshold.as_str(), config.cache.ttl.as_secs()),
        ("0.95", 60)
    );
    assert_eq!(config.budgets.unpriced_ceiling.to_string(), "0.25");
    assert_eq!(
        (
            config.budgets.refusal_status,
            config.budgets.timezone.as_str()
        ),
        (402, "Europe/Berlin")
    );
    assert_eq!(
        config.timeouts.first_byte.map(|span| span.as_millis()),
        Some(2500)
    );
    assert_eq!(config.timeouts.total.as_secs(), 300);
    assert_eq!(config.limits.body_bytes_max, 1024);
}

#[test]
fn the_whole_of_our_section_takes_effect_and_is_explained() {
    let text = "model_list: [{model_name: m, litellm_params: {model: tollgate/demo}}]\n\
         tollgate:\n  kafka: {bootstrap_servers: 'k1:9092'}\n  redis_url: 'redis://:pw@r:6379'\n\
         \x20 clickhouse: {url: 'http://ch:8123'}\nlitellm_settings: {cache: true, cache_params: {type: redis, host: h}}\n";
    let loaded = load(text);
    assert_eq!(loaded.warnings, []);
    let told = config::check(&loaded);
    for line in [
        "log: Kafka at k1:9092, topics tollgate.*, 0 properties of librdkafka",
        "budget state: Redis at redis://r:6379, keys {tollgate}*",
        "usage tables: http://ch:8123, database default",
        "kept by this process, answers in Redis at redis://h:6379/0",
        "when it is stopped\n  calls in progress have 20 s to end",
        "everything in this file takes effect",
    ] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
    assert!(!told.contains("pw"), "{told}");
    let page = config::settings_page();
    let (_, without_effect) = page.split_once("What does not take effect").unwrap();
    assert!(!without_effect.contains("### In `tollgate"));
}

#[test]
fn parts_outside_are_held_to_what_works() {
    for (text, message) in [
        (
            "tollgate: {kafka: {topic_prefix: tg}}",
            "f.yaml:1: tollgate.kafka.bootstrap_servers: is required and not set",
        ),
        (
            "tollgate: {kafka: {bootstrap_servers: k, properties: {acks: '1'}}}",
            "f.yaml:1: tollgate.kafka.properties.acks: is set by Tollgate itself: another value could lose or double events",
        ),
        (
            "tollgate: {kafka: {bootstrap_servers: k, partitions: 5000}}",
            "f.yaml:1: tollgate.kafka.partitions: must be 1024 or less",
        ),
        (
            "tollgate: {kafka: {bootstrap_servers: k, topic_prefix: 'a b'}}",
            "f.yaml:1: tollgate.kafka.topic_prefix: use 1 to 100 of a-z A-Z 0-9 - _ .",
        ),
        (
            "tollgate: {redis: {prefix: tg}}",
            "f.yaml:1: tollgate.redis.url: is required and not set",
        ),
        (
            "tollgate: {redis: {url: 'rediss://r#insecure'}}",
            "f.yaml:1: tollgate.redis.url: #insecure is not served: name the certificates that sign the server's in redis.ca",
        ),
        (
            "tollgate: {redis: {url: 'rediss://r', ca: nothing}}",
            "f.yaml:1: tollgate.redis.ca: expected certificates in PEM, or file/PATH of them",
        ),
        (
            "tollgate: {redis: {url: 'redis://r', wait_ms: 0}}",
            "f.yaml:1: tollgate.redis.wait_ms: expected a whole number, 1 or more; 0 is not allowed here",
        ),
        (
            "tollgate: {redis: {url: 'r:6379'}}",
            "f.yaml:1: tollgate.redis.url: expected a URL that begins with redis:// or rediss://",
        ),
        (
            "tollgate: {redis_url: 'redis://a', redis: {url: 'redis://b'}}",
            "f.yaml:1: tollgate.redis_url: is the same setting as tollgate.redis.url on line 1, with another value",
        ),
    ] {
        let errors = config::parse(text, "f.yaml", &env).expect_err(text);
        assert_eq!(errors.to_string(), message);
    }
}

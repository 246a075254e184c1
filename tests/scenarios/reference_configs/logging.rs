//! What is logged, how much, and where to.

use super::{Cast, swap, without};

const FILE: &str = include_str!("../../../deploy/reference-configs/06-logging.yaml");
const QUESTION: &str = "a question that nobody but the model may read";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_takes_effect() {
    let cast = Cast::new().await;
    let path = cast.folder.path().join("gateway.log");
    let text = swap(FILE, "/var/log/litellm.log", path.to_str().unwrap());
    let mut on = cast.ingress(&text).await;
    assert_eq!(on.chat("gpt-4", QUESTION).send().await.status, 200);
    on.gateway.stop();
    let (file, printed) = (std::fs::read_to_string(&path).unwrap(), on.gateway.log());
    for log in [&file, &printed] {
        let call = log
            .lines()
            .find(|line| line.contains("tokens.input=9"))
            .unwrap_or_else(|| panic!("{log}"));
        for part in [
            "INFO",
            "tokens.output=5",
            "cost_usd=",
            "model=gpt-4",
            "request.id=",
        ] {
            assert!(call.contains(part), "{part}: {call}");
        }
        assert!(log.contains("DEBUG"), "{log}");
        assert!(log.contains("there is no relational database"), "{log}");
        for secret in [QUESTION, "key-of-OPENAI", "user:pass"] {
            assert!(!log.contains(secret), "{secret}: {log}");
        }
    }
    let size = file.len();

    let off = swap(&text, "log_level: \"DEBUG\"", "log_level: INFO");
    let off = swap(&off, "log_to_file: true", "log_to_file: false");
    let off = swap(
        &off,
        "log_completion_tokens: true",
        "log_completion_tokens: false",
    );
    let mut off = cast.ingress(&without(&off, "database:")).await;
    assert_eq!(off.chat("gpt-4", QUESTION).send().await.status, 200);
    off.gateway.stop();
    let log = off.gateway.log();
    assert!(
        !log.contains("tokens.input") && !log.contains("DEBUG"),
        "{log}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap().len(), size);
    assert!(!log.contains("relational database"), "{log}");
}

//! The price catalog from the command line.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Map, Value, json};
use tests::gateway::executable;

fn prices(arguments: &[&str], data_dir: &Path) -> Output {
    let mut command = Command::new(executable());
    command
        .arg("prices")
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A list as long as LiteLLM's is one change of the catalog; a second import of it changes nothing.
#[test]
fn a_whole_price_list_is_imported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let list: Map<String, Value> = (0..4_000)
        .map(|at| {
            let model = json!({"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 128_000,
                "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "cache_read_input_token_cost": 1e-7});
            (format!("openai/made-up-{at}"), model)
        })
        .collect();
    let file = folder.path().join("prices.json");
    std::fs::write(&file, Value::from(list).to_string()).unwrap();
    let data_dir = folder.path().join("data");
    let import = || {
        let output = prices(&["import", file.to_str().unwrap()], &data_dir);
        String::from_utf8(output.stdout).unwrap()
    };
    let first = import();
    assert!(
        first.contains("4000 new") && first.contains("at version 1"),
        "{first}"
    );
    let second = import();
    assert!(
        second.contains("4000 unchanged") && !second.contains("version"),
        "{second}"
    );
    let listed = prices(&["list"], &data_dir).stdout;
    assert_eq!(String::from_utf8(listed).unwrap().lines().count(), 4_000);
}

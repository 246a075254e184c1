//! What a call's record tells beside its cost: where the time went, what was tried before it was answered,
//! what was left out of its prompt, and what the caller wants to find again.

use serde_json::{Value, json};
use tests::provider::Script;
use tests::{Shape, World};

tests::in_both_shapes!(the_tables_tell_how_a_call_went);

async fn the_tables_tell_how_a_call_went(shape: Shape) {
    let rules = "router_settings:\n  num_retries: 0\n  fallbacks:\n    - flaky: [scripted]\n";
    let model = |name: &str, provider: &str| {
        format!(
            "  - model_name: {name}\n    litellm_params: {{model: openai/{name}-upstream, api_base: '{provider}', \
             api_key: k, input_cost_per_token: 0.000001, output_cost_per_token: 0.000002}}\n"
        )
    };
    // The usual provider's address is known only when the world stands: one of its own.
    let other = tests::Provider::start().await;
    let failing = Script {
        fail: Some(503),
        ..Script::default()
    };
    other.script("flaky-upstream", failing);
    let base = other.base_url();
    let world = World::with(shape, rules)
        .models(&(model("flaky", &base) + &model("cheap", &base)))
        .tollgate(
            "  long_context: {strategy: summarise, model: cheap, over_tokens: 200, models: [scripted]}\n",
        )
        .start()
        .await;

    let told = world.chat("hi").with("model", "flaky").send().await;
    assert_eq!(told.status, 200, "{}", told.text);
    let turn = |role: &str| json!({ "role": role, "content": "word ".repeat(100) });
    let messages = json!([turn("user"), turn("assistant"), { "role": "user", "content": "and?" }]);
    let long = world
        .chat("hi")
        .with("messages", messages)
        .with(
            "metadata",
            json!({ "spend_logs_metadata": { "ticket": 7 } }),
        )
        .send()
        .await;
    assert_eq!(long.status, 200, "{}", long.text);
    assert!(
        long.header("x-tollgate-compression")
            .starts_with("summarise; tokens=2")
    );
    world.rows(3).await;

    let ask = |query: &str| {
        let output = world.ask(&["sql", query]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(
        ask(
            "select attempts.why, attempts.failure, attempts.status from usage_rows final where notEmpty(attempts)"
        ),
        "['first','fallback']\t['internal_server_error','']\t[503,200]"
    );
    assert_eq!(
        ask(
            "select countIf(admit_us > 0 and ttft_us > admit_us and duration_us >= ttft_us), count() from usage_rows final"
        ),
        "3\t3"
    );
    let saved = ask(
        "select compression, tokens_before > 200, tokens_after < 50, JSONExtractInt(metadata, 'ticket') \
         from usage_rows final where compression != ''",
    );
    assert_eq!(saved, "summarise\t1\t1\t7");
    // The summary is a row of its own, which names the call that it was made for.
    let id: Value = long.header("x-litellm-call-id").into();
    assert_eq!(
        ask("select model, parent_id from usage_rows final where parent_id != ''"),
        format!("cheap-upstream\t{}", id.as_str().unwrap())
    );
    let charged = other.books().charged_nano + world.provider.books().charged_nano;
    let billed = ask("select sum(toInt64(amount * 1000000000)) from cost_ledger final");
    assert_eq!(billed, charged.to_string());
}

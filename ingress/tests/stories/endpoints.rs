//! The endpoints beside chat: metered, budgeted and billed like it.

use schemas::{NanoUsd, Outcome};
use serde_json::{Value, json};

use crate::provider::{STREAM_HEAD, Step, chunk, last_chunk, whole};
use crate::world::{INPUT, MASTER, OUTPUT, Told, UNIT, World, bill};

const JSON: &str = "application/json";

/// What is asked, what the provider answers, and what that costs.
struct Case {
    path: &'static str,
    body: Value,
    kind: &'static str,
    answer: &'static str,
    cost: i64,
}

fn cases() -> Vec<Case> {
    let case = |path, body, answer, cost| Case {
        path,
        body,
        kind: JSON,
        answer,
        cost,
    };
    vec![
        case(
            "/v1/completions",
            json!({"prompt": "hi", "max_tokens": 9}),
            r#"{"object":"text_completion","model":"up-1","choices":[{"text":"x","index":0,"finish_reason":"stop"}],
               "usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
            3 * INPUT + 4 * OUTPUT,
        ),
        case(
            "/v1/embeddings",
            json!({"input": ["a", "b"]}),
            r#"{"object":"list","data":[],"model":"up-1","usage":{"prompt_tokens":5,"total_tokens":5}}"#,
            5 * INPUT,
        ),
        case(
            "/v1/responses",
            json!({"input": "hi", "max_output_tokens": 50, "metadata": {"k": "v"}}),
            r#"{"object":"response","model":"up-1","status":"completed","output":[],"usage":{"input_tokens":30,
               "input_tokens_details":{"cached_tokens":0},"output_tokens":12,
               "output_tokens_details":{"reasoning_tokens":0},"total_tokens":42}}"#,
            30 * INPUT + 12 * OUTPUT,
        ),
        case(
            "/moderations",
            json!({"input": "hi"}),
            r#"{"id":"modr-1","model":"up-1","results":[{"flagged":false}]}"#,
            0,
        ),
        case(
            "/v1/images/generations",
            json!({"prompt": "a cat", "n": 2}),
            r#"{"created":1,"data":[{"url":"https://x/1"},{"url":"https://x/2"}]}"#,
            2 * UNIT,
        ),
        Case {
            path: "/v1/audio/speech",
            body: json!({"input": "Grüße", "voice": "alloy"}),
            kind: "audio/mpeg",
            answer: "ID3-sound",
            cost: 5 * UNIT,
        },
        case(
            "/v1/rerank",
            json!({"query": "q", "documents": ["a", "b"]}),
            r#"{"results":[{"index":0,"relevance_score":0.9}],"meta":{"billed_units":{"search_units":1}}}"#,
            UNIT,
        ),
    ]
}

async fn post(world: &World, key: &str, path: &str, body: &Value) -> Told {
    let request = world.http.post(world.url(path)).bearer_auth(key);
    let request = request.header("content-type", JSON).body(body.to_string());
    Told::read(request.send().await.unwrap()).await
}

#[tokio::test]
async fn each_is_sent_to_its_own_path_and_billed_by_its_own_meters() {
    let world = World::start().await;
    let key = world.key(json!({ "max_budget": 1000 })).await;
    for (number, case) in cases().into_iter().enumerate() {
        let Case {
            path,
            mut body,
            kind,
            answer,
            cost,
        } = case;
        world.provider.script(whole("200 OK", kind, "", answer));
        body["model"] = json!("one");
        let told = post(&world, &key, path, &body).await;
        assert_eq!(told.status, 200, "{path}: {}", told.text);
        assert_eq!(told.header("content-type"), kind, "{path}");
        let cost = NanoUsd(cost);
        assert_eq!(
            told.header("x-litellm-response-cost"),
            cost.to_string(),
            "{path}"
        );
        let upstream = &world.provider.heads()[number];
        let bare = path.trim_start_matches("/v1");
        assert!(
            upstream.starts_with(&format!("POST /v1{bare} HTTP/1.1")),
            "{upstream}"
        );
        let sent: Value = serde_json::from_str(&world.provider.bodies()[number]).unwrap();
        assert_eq!(sent["model"], "up-1", "{path}");
        body["model"] = json!("up-1");
        assert_eq!(sent, body, "{path}: the rest as it came");
        let (admits, usages) = world.events();
        assert_eq!(bill(&usages[number]), cost, "{path}");
        assert!(
            admits[number].hold >= cost,
            "{path}: the worst case was held"
        );
        assert_eq!(usages[number].outcome, Outcome::Ok);
        assert!(!usages[number].estimated, "{path}");
    }
}

#[tokio::test]
async fn a_form_with_sound_goes_on_as_it_came_but_for_the_model() {
    let world = World::start().await;
    let key = world.key(json!({ "max_budget": 1000 })).await;
    world.provider.script(whole(
        "200 OK",
        JSON,
        "",
        r#"{"text":"hello","usage":{"type":"duration","seconds":3}}"#,
    ));
    let form = "--edge\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\nsound\r\n\
                --edge\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\none\r\n--edge--\r\n";
    let kind = "multipart/form-data; boundary=edge";
    let send = |form: &'static str| {
        let request = world.http.post(world.url("/v1/audio/transcriptions"));
        let request = request.bearer_auth(&key).header("content-type", kind);
        async move { Told::read(request.body(form).send().await.unwrap()).await }
    };
    let told = send(form).await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert_eq!(
        told.header("x-litellm-response-cost"),
        NanoUsd(3 * UNIT).to_string()
    );
    assert!(world.provider.heads()[0].contains(&format!("content-type: {kind}")));
    assert_eq!(world.provider.bodies()[0], form.replace("one", "up-1"));

    world
        .provider
        .script(whole("200 OK", "text/plain", "", "hello in words\n"));
    let told = send(form).await;
    assert_eq!(
        (told.status, told.text.as_str(), told.header("content-type")),
        (200, "hello in words\n", "text/plain")
    );
    assert!(world.ended(2).await[1].estimated);

    let told = send("--edge\r\nbroken").await;
    assert_eq!(told.status, 400);
    assert!(told.message().contains("form"), "{}", told.text);
}

#[tokio::test]
async fn a_stream_of_events_ends_with_the_one_that_tells_its_usage() {
    let world = World::start().await;
    let event = |kind: &str, more: &str| {
        chunk(&format!(
            "event: {kind}\ndata: {{\"type\":\"{kind}\"{more}}}\n\n"
        ))
    };
    let opening = [
        Step::Send(STREAM_HEAD.as_bytes().to_vec()),
        event(
            "response.created",
            ",\"response\":{\"model\":\"up-1\",\"usage\":null}",
        ),
        event("response.output_text.delta", ",\"delta\":\"hel\""),
        event("response.output_text.delta", ",\"delta\":\"lo\""),
    ];
    let whole_stream = [
        &opening[..],
        &[
            event(
                "response.completed",
                ",\"response\":{\"model\":\"up-1\",\"usage\":{\"input_tokens\":9,\"output_tokens\":2,\"total_tokens\":11}}",
            ),
            last_chunk(),
        ],
    ];
    world.provider.script(whole_stream.concat());
    let body = json!({"model": "one", "input": "hi", "stream": true});
    let told = post(&world, MASTER, "/v1/responses", &body).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let last = told.text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(
        last.starts_with("event: response.completed\ndata: "),
        "{last}"
    );
    assert!(last.contains("\"model\":\"one\""), "{last}");
    assert!(!told.text.contains("up-1") && !told.text.contains("[DONE]"));
    assert_eq!(
        world.provider.bodies()[0],
        body.to_string().replace("\"one\"", "\"up-1\""),
        "no stream options are asked for"
    );
    assert_eq!(
        bill(&world.ended(1).await[0]),
        NanoUsd(9 * INPUT + 2 * OUTPUT)
    );

    // Cut off: what came is billed, and the client is told in the shape of the stream.
    world.provider.script([&opening[..], &[Step::Cut]].concat());
    let told = post(&world, MASTER, "/v1/responses", &body).await;
    let last = told.text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("event: error\ndata: {"), "{last}");
    let usage = &world.ended(2).await[1];
    assert_eq!(usage.outcome, Outcome::Error);
    assert!(usage.estimated && bill(usage) > NanoUsd::ZERO);
}

#[tokio::test]
async fn a_budget_caps_what_can_be_capped_and_refuses_the_rest() {
    let world = World::start().await;
    let key = world.key(json!({ "max_budget": 0.0003 })).await;
    world.provider.script(whole(
        "200 OK",
        JSON,
        "",
        r#"{"object":"response","model":"up-1","usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}"#,
    ));
    let body = json!({"model": "one", "input": "hi"});
    let told = post(&world, &key, "/v1/responses", &body).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let sent: Value = serde_json::from_str(&world.provider.bodies()[0]).unwrap();
    let cap = sent["max_output_tokens"].as_u64().unwrap();
    assert_eq!(told.header("x-tollgate-output-cap"), cap.to_string());
    assert!((1..150).contains(&cap), "{cap}");

    // A picture cannot be made smaller.
    let body = json!({"model": "one", "prompt": "a cat", "n": 100});
    let told = post(&world, &key, "/v1/images/generations", &body).await;
    assert_eq!(told.status, 429, "{}", told.text);
    assert_eq!(world.provider.bodies().len(), 1, "nothing was sent");
}

#[tokio::test]
async fn azures_paths_name_the_model_and_bad_input_names_the_field() {
    let world = World::start().await;
    let body = json!({"messages": [{"role": "user", "content": "hi"}]});
    let path = "/openai/deployments/one/chat/completions?api-version=2024-10-21";
    let told = post(&world, MASTER, path, &body).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let sent: Value = serde_json::from_str(&world.provider.bodies()[0]).unwrap();
    assert_eq!(sent["model"], "up-1");
    assert_eq!(told.json()["model"], "one");

    let table = [
        ("/v1/embeddings", json!({"model": "one"}), "input"),
        ("/v1/completions", json!({"model": "one"}), "prompt"),
        ("/v1/responses", json!({"input": "hi"}), "model"),
        (
            "/v1/rerank",
            json!({"model": "one", "query": "q", "documents": 3}),
            "documents",
        ),
        (
            "/v1/audio/speech",
            json!({"model": "one", "input": ["x"]}),
            "input",
        ),
        (
            "/v1/images/generations",
            json!({"model": "one", "prompt": "x", "n": 0}),
            "n",
        ),
    ];
    for (path, body, param) in table {
        let told = post(&world, MASTER, path, &body).await;
        assert_eq!(told.status, 400, "{path}: {}", told.text);
        assert_eq!(told.json()["error"]["param"], param, "{path}");
    }
    let told = world.get("/v1/embeddings").await;
    assert_eq!((told.status, told.header("allow")), (405, "POST"));
    let demo = json!({"model": "tollgate/demo", "input": "x"});
    let told = post(&world, MASTER, "/v1/embeddings", &demo).await;
    assert!(told.message().contains("chat only"), "{}", told.text);
}

/// What a provider sends for a stream: its frames, each in a piece of its own.
fn streamed(frames: &[&str]) -> Vec<Step> {
    let mut steps = vec![Step::Send(STREAM_HEAD.as_bytes().to_vec())];
    steps.extend(frames.iter().map(|frame| chunk(&format!("{frame}\n\n"))));
    steps.push(last_chunk());
    steps
}

#[tokio::test]
async fn whatever_streams_is_passed_on_in_its_own_shape_and_billed_by_its_last_word() {
    let world = World::start().await;
    let usage = r#""usage":{"input_tokens":20,"output_tokens":30,"total_tokens":50}"#;
    let completed =
        format!(r#"data: {{"type":"image_generation.completed","b64_json":"QQ==",{usage}}}"#);
    let spoken = format!(r#"data: {{"type":"speech.audio.done",{usage}}}"#);
    let table: [(&str, Value, Vec<&str>); 3] = [
        (
            "/v1/completions",
            json!({"prompt": "hi", "stream": true, "stream_options": {"include_usage": true}}),
            vec![
                r#"data: {"object":"text_completion","model":"up-1","choices":[{"text":"a","index":0,"finish_reason":null}],"usage":null}"#,
                r#"data: {"object":"text_completion","model":"up-1","choices":[{"text":"b","index":0,"finish_reason":"stop"}],"usage":null}"#,
                r#"data: {"object":"text_completion","model":"up-1","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":30,"total_tokens":50}}"#,
                "data: [DONE]",
            ],
        ),
        (
            "/v1/images/generations",
            json!({"prompt": "a cat", "stream": true, "partial_images": 1}),
            vec![
                r#"data: {"type":"image_generation.partial_image","b64_json":"QQ==","partial_image_index":0}"#,
                &completed,
            ],
        ),
        (
            "/v1/audio/speech",
            json!({"input": "hi", "voice": "alloy", "stream_format": "sse"}),
            vec![
                r#"data: {"type":"speech.audio.delta","audio":"QQ=="}"#,
                &spoken,
            ],
        ),
    ];
    for (path, mut body, frames) in table {
        body["model"] = json!("one");
        world.provider.script(streamed(&frames));
        let told = post(&world, MASTER, path, &body).await;
        assert_eq!(told.status, 200, "{path}: {}", told.text);
        assert!(told.header("content-type").starts_with("text/event-stream"));
        let wanted: String = frames.iter().map(|frame| format!("{frame}\n\n")).collect();
        assert_eq!(told.text, wanted.replace("up-1", "one"), "{path}");
    }
    // Sound that comes in, in words that come out.
    let done = format!(r#"data: {{"type":"transcript.text.done","text":"hello",{usage}}}"#);
    world.provider.script(streamed(&[
        r#"data: {"type":"transcript.text.delta","delta":"hello"}"#,
        &done,
    ]));
    let form = "--edge\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\nsound\r\n\
                --edge\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\none\r\n\
                --edge\r\ncontent-disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n--edge--\r\n";
    let request = world.http.post(world.url("/audio/translations"));
    let request = request.header("content-type", "multipart/form-data; boundary=edge");
    let told = Told::read(request.bearer_auth(MASTER).body(form).send().await.unwrap()).await;
    assert_eq!(told.status, 200, "{}", told.text);
    assert!(told.text.trim_end().ends_with(&*done), "{}", told.text);
    for usage in world.ended(4).await {
        assert!(usage.stream && !usage.estimated);
        assert_eq!(bill(&usage), NanoUsd(20 * INPUT + 30 * OUTPUT));
    }
}

#[tokio::test]
async fn sound_may_come_as_sound_where_events_were_asked_for() {
    let world = World::start().await;
    world
        .provider
        .script(whole("200 OK", "audio/mpeg", "", "ID3-sound"));
    let body = json!({"model": "one", "input": "Grüße", "stream_format": "sse"});
    let told = post(&world, MASTER, "/v1/audio/speech", &body).await;
    assert_eq!((told.status, told.text.as_str()), (200, "ID3-sound"));
    assert_eq!(bill(&world.ended(1).await[0]), NanoUsd(5 * UNIT));
}

#[tokio::test]
async fn every_endpoint_asks_the_budget_first() {
    let world = World::start().await;
    let key = world.key(json!({ "max_budget": 0.000000001 })).await;
    for Case { path, mut body, .. } in cases() {
        body["model"] = json!("one");
        let told = post(&world, &key, path, &body).await;
        assert_eq!(told.status, 429, "{path}: {}", told.text);
        assert_eq!(told.json()["error"]["type"], "budget_exceeded", "{path}");
        assert!(!told.header("x-litellm-call-id").is_empty(), "{path}");
    }
    assert!(world.provider.bodies().is_empty(), "nothing was sent");
}

/// Some clients say `stream` whatever they ask for; providers look at it only where there is something to stream.
#[tokio::test]
async fn what_never_streams_is_answered_whole() {
    let world = World::start().await;
    let answer = r#"{"object":"list","data":[],"model":"up-1","usage":{"prompt_tokens":5,"total_tokens":5}}"#;
    world.provider.script(whole("200 OK", JSON, "", answer));
    let body = json!({"model": "one", "input": "hi", "stream": true});
    let told = post(&world, MASTER, "/v1/embeddings", &body).await;
    assert_eq!((told.status, told.header("content-type")), (200, JSON));
    assert_eq!(bill(&world.ended(1).await[0]), NanoUsd(5 * INPUT));
}

/// Azure's clients, and those of OpenAI's first days, name the model in the path.
#[tokio::test]
async fn paths_of_every_form_reach_the_same_model() {
    let world = World::start().await;
    let messages = json!({"messages": [{"role": "user", "content": "hi"}]});
    let input = json!({"input": "hi"});
    let whole_input = json!({"model": "one", "input": "hi"});
    for (path, body, upstream) in [
        (
            "/openai/deployments/one/chat/completions?api-version=v",
            &messages,
            "/v1/chat/completions",
        ),
        (
            "/openai/deployments/wild%2Fup-1/chat/completions",
            &messages,
            "/v1/chat/completions",
        ),
        (
            "/openai/deployments/wild/up-1/chat/completions",
            &messages,
            "/v1/chat/completions",
        ),
        (
            "/engines/one/chat/completions",
            &messages,
            "/v1/chat/completions",
        ),
        (
            "/openai/deployments/one/embeddings",
            &input,
            "/v1/embeddings",
        ),
        ("/v1/engines/one/embeddings", &input, "/v1/embeddings"),
        ("/openai/v1/responses", &whole_input, "/v1/responses"),
        (
            "/openai/responses?api-version=v",
            &whole_input,
            "/v1/responses",
        ),
        ("/embeddings", &whole_input, "/v1/embeddings"),
    ] {
        let told = post(&world, MASTER, path, body).await;
        assert_eq!(told.status, 200, "{path}: {}", told.text);
        let head = world.provider.heads().pop().unwrap();
        assert!(
            head.starts_with(&format!("POST {upstream} HTTP")),
            "{path}: {head}"
        );
        let sent: Value = serde_json::from_str(&world.provider.bodies().pop().unwrap()).unwrap();
        assert_eq!(sent["model"], "up-1", "{path}");
    }
    for path in [
        "/v1/models",
        "/models",
        "/openai/models",
        "/openai/v1/models",
    ] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
}

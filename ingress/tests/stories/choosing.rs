//! Which deployment of a name is asked: each setting on, and off.

use std::time::{Duration, Instant};

use config::{Config, ModelEntry, Strategy};
use routing::Encoding;
use serde_json::{Value, json};

use crate::provider::{
    Provider, STREAM_HEAD, Step, chunk, completion, frame, last_chunk, plain, usage_frame, whole,
};
use crate::world::{MASTER, PATIENCE, Told, World, request};

/// What a deployment has of its own.
type Change = fn(&mut ModelEntry);

/// `one` stands at several providers.
struct Pool {
    world: World,
    others: Vec<Provider>,
}

impl Pool {
    /// As many deployments as changes; the first stands at the world's own provider.
    async fn of(changes: &[Change], rules: impl FnOnce(&mut Config)) -> Self {
        let mut others = Vec::new();
        for _ in 1..changes.len() {
            others.push(Provider::start().await);
        }
        let bases: Vec<String> = others.iter().map(Provider::base).collect();
        let world = World::with(|config| {
            let first = config.models.remove(0);
            config.models.clear();
            for (at, change) in changes.iter().enumerate() {
                let mut entry = first.clone();
                entry.deployment_id = format!("at-{at}");
                if let Some(base) = at.checked_sub(1).map(|at| &bases[at]) {
                    entry.api_base.clone_from(base);
                }
                change(&mut entry);
                config.models.push(entry);
            }
            rules(config);
        })
        .await;
        Self { world, others }
    }

    fn provider(&self, at: usize) -> &Provider {
        match at.checked_sub(1) {
            None => &self.world.provider,
            Some(at) => &self.others[at],
        }
    }

    /// How often each was asked.
    fn asked(&self) -> Vec<usize> {
        let count = self.others.len() + 1;
        (0..count)
            .map(|at| self.provider(at).bodies().len())
            .collect()
    }

    async fn call(&self, extra: Value) -> Told {
        let told = self.world.chat(MASTER, extra).await;
        assert_eq!(told.status, 200, "{}", told.text);
        told
    }

    /// So many calls; how often each was asked for them.
    async fn calls(&self, count: usize, extra: Value) -> Vec<usize> {
        let before = self.asked();
        for _ in 0..count {
            self.call(extra.clone()).await;
        }
        let after = self.asked();
        after
            .iter()
            .zip(before)
            .map(|(now, then)| now - then)
            .collect()
    }

    /// A call that stays open, once it has come to its provider.
    async fn open(&self, extra: Value) -> tokio::task::JoinHandle<()> {
        let before: usize = self.asked().iter().sum();
        let call = self
            .world
            .http
            .post(self.world.url("/v1/chat/completions"))
            .bearer_auth(MASTER)
            .json(&request(extra))
            .send();
        let call = tokio::spawn(async move {
            let _ = call.await;
        });
        let deadline = Instant::now() + PATIENCE;
        while self.asked().iter().sum::<usize>() == before {
            assert!(Instant::now() < deadline, "the call has not come");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        call
    }

    async fn with_headers(&self, headers: &[(&str, &str)]) -> Told {
        let mut post = self.world.http.post(self.world.url("/v1/chat/completions"));
        for (name, value) in headers {
            post = post.header(*name, *value);
        }
        let post = post.bearer_auth(MASTER).json(&request(json!({})));
        Told::read(post.send().await.unwrap()).await
    }
}

fn as_it_is(_: &mut ModelEntry) {}

fn by(strategy: Strategy) -> impl FnOnce(&mut Config) {
    move |config| config.routing.strategy = strategy
}

/// An answer with this usage.
fn used(prompt: u64, answer: u64) -> Vec<Step> {
    let usage = format!(
        ",\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{answer},\"total_tokens\":{}}}",
        prompt + answer
    );
    whole(
        "200 OK",
        "application/json",
        "",
        &completion("up-1", &usage),
    )
}

/// A stream of five tokens that takes these times, to the first and between the others.
fn paced(first: Duration, each: Duration) -> Vec<Step> {
    let mut pieces: Vec<Step> = (0..5)
        .map(|_| chunk(&frame("up-1", "{\"content\":\"w \"}", "null")))
        .collect();
    pieces.push(chunk(&frame("up-1", "{}", "\"stop\"")));
    pieces.push(chunk(&usage_frame("up-1")));
    pieces.push(chunk("data: [DONE]\n\n"));
    pieces.push(last_chunk());
    let mut steps = vec![Step::Send(STREAM_HEAD.into()), Step::Pause(first)];
    if each.is_zero() {
        // In one write: no time passes between them.
        let bytes = pieces.into_iter().flat_map(|piece| match piece {
            Step::Send(bytes) => bytes,
            _ => Vec::new(),
        });
        steps.push(Step::Send(bytes.collect()));
        return steps;
    }
    for piece in pieces {
        steps.extend([piece, Step::Pause(each)]);
    }
    steps
}

/// By `weight`, else by `rpm`, else by `tpm`; without any, all alike.
#[tokio::test]
async fn shuffling_goes_by_weight_then_rpm_then_tpm() {
    let shares: [(Change, Change); 3] = [
        (
            |one| one.hints.weight = Some(9.0),
            |one| one.hints.weight = Some(1.0),
        ),
        (
            |one| one.limits.rpm = Some(90_000),
            |one| one.limits.rpm = Some(10_000),
        ),
        (
            |one| one.limits.tpm = Some(90_000_000),
            |one| one.limits.tpm = Some(10_000_000),
        ),
    ];
    for (heavy, light) in shares {
        let pool = Pool::of(&[heavy, light], |_| {}).await;
        // 180 of 200 are expected, give or take 4.
        let asked = pool.calls(200, json!({})).await;
        assert!((140..200).contains(&asked[0]), "{asked:?}");
    }
    let pool = Pool::of(&[as_it_is, as_it_is], |_| {}).await;
    let asked = pool.calls(100, json!({})).await;
    assert!((20..80).contains(&asked[0]), "{asked:?}");
}

#[tokio::test]
async fn round_robin_gives_each_its_share_in_turn() {
    let heavy = |one: &mut ModelEntry| one.hints.weight = Some(3.0);
    let light = |one: &mut ModelEntry| one.hints.weight = Some(1.0);
    let pool = Pool::of(&[heavy, light], by(Strategy::WeightedRoundRobin)).await;
    assert_eq!(pool.calls(8, json!({})).await, [6, 2]);
}

#[tokio::test]
async fn the_least_busy_is_asked() {
    for strategy in [Strategy::LeastBusy, Strategy::SimpleShuffle] {
        let pool = Pool::of(&[as_it_is, as_it_is], by(strategy)).await;
        for at in 0..2 {
            pool.provider(at).script(vec![Step::Stall]);
        }
        let open = pool.open(json!({})).await;
        let busy = pool.asked().iter().position(|count| *count == 1).unwrap();
        for at in 0..2 {
            pool.provider(at).script(plain("up-1"));
        }
        let asked = pool.calls(40, json!({})).await;
        let avoids = strategy == Strategy::LeastBusy;
        assert_eq!(asked[busy] == 0, avoids, "{strategy:?} {asked:?}");
        open.abort();
    }
}

/// Time to the first token counts, and so does the time for each further one.
#[tokio::test]
async fn the_fastest_is_asked_by_first_token_and_by_speed() {
    let ms = Duration::from_millis;
    // The quicker beginning; the quicker answer after a later beginning.
    // Far apart: a busy machine is slow for both.
    for (one, other) in [((1_500, 0), (0, 0)), ((0, 100), (60, 0))] {
        let pool = Pool::of(&[as_it_is, as_it_is], by(Strategy::Latency)).await;
        let scripts = [one, other];
        for (at, (first, each)) in scripts.into_iter().enumerate() {
            pool.provider(at).script(paced(ms(first), ms(each)));
        }
        let streamed = json!({ "stream": true });
        // Each becomes known by one call.
        assert_eq!(pool.calls(2, streamed.clone()).await, [1, 1]);
        assert_eq!(pool.calls(10, streamed).await, [0, 10], "{scripts:?}");
    }
}

/// An answer that comes whole tells of its deployment's speed by its length, too.
#[tokio::test]
async fn a_long_answer_is_no_slow_one() {
    let pool = Pool::of(&[as_it_is, as_it_is], by(Strategy::Latency)).await;
    for (at, pause, tokens) in [(0, 60, 1), (1, 120, 2_000)] {
        let mut steps = vec![Step::Pause(Duration::from_millis(pause))];
        steps.extend(used(10, tokens));
        pool.provider(at).script(steps);
    }
    assert_eq!(pool.calls(2, json!({})).await, [1, 1]);
    assert_eq!(pool.calls(6, json!({})).await, [0, 6]);
}

/// One that nobody knows becomes known by one call; while that hangs, no other one follows it.
#[tokio::test]
async fn one_that_hangs_is_found_out_by_one_call() {
    let pool = Pool::of(&[as_it_is, as_it_is], by(Strategy::Latency)).await;
    for at in 0..2 {
        pool.provider(at).script(vec![Step::Stall]);
    }
    let open = pool.open(json!({})).await;
    let hangs = pool.asked().iter().position(|count| *count == 1).unwrap();
    pool.provider(1 - hangs).script(plain("up-1"));
    let asked = pool.calls(10, json!({})).await;
    assert_eq!(asked[hangs], 0);
    open.abort();
}

#[tokio::test]
async fn the_least_used_is_asked() {
    let pool = Pool::of(&[as_it_is, as_it_is], by(Strategy::Usage)).await;
    pool.provider(0).script(used(900, 100));
    pool.provider(1).script(used(1, 1));
    // One call there is worth 500 here; a minute may turn once.
    let asked = pool.calls(20, json!({})).await;
    assert!(asked[0] <= 2, "{asked:?}");

    // With limits it is their share that counts.
    let narrow = |one: &mut ModelEntry| one.limits.tpm = Some(10_000);
    let wide = |one: &mut ModelEntry| one.limits.tpm = Some(10_000_000);
    let pool = Pool::of(&[narrow, wide], by(Strategy::Usage)).await;
    for at in 0..2 {
        pool.provider(at).script(used(50, 50));
    }
    let asked = pool.calls(20, json!({})).await;
    assert!(asked[0] <= 2, "{asked:?}");
}

/// By the catalog's prices and what the call is about to use: who is cheapest depends on the call.
#[tokio::test]
async fn the_cheapest_for_this_very_call_is_asked() {
    let reads = |one: &mut ModelEntry| one.upstream_model = "reads-cheaply".to_owned();
    let pool = Pool::of(&[as_it_is, reads], by(Strategy::Cost)).await;
    assert_eq!(pool.calls(5, json!({ "max_tokens": 500 })).await, [5, 0]);
    let long = json!([{ "role": "user", "content": "word ".repeat(2_000) }]);
    let long = json!({ "max_tokens": 5, "messages": long });
    assert_eq!(pool.calls(5, long).await, [0, 5]);
}

#[tokio::test]
async fn what_a_call_needs_decides() {
    let image =
        json!([{ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } }]);
    let image = json!({ "messages": [{ "role": "user", "content": image }] });
    let sees = |one: &mut ModelEntry| one.hints.capabilities = vec!["vision".to_owned()];
    let pool = Pool::of(&[as_it_is, sees], by(Strategy::Capability)).await;
    assert_eq!(pool.calls(10, image.clone()).await, [0, 10]);
    let asked = pool.calls(40, json!({})).await;
    assert!(asked[0] > 0, "who needs nothing goes anywhere: {asked:?}");
    // One that is said not to is never asked, whatever the strategy.
    let blind = |one: &mut ModelEntry| one.hints.lacks = vec!["vision".to_owned()];
    let pool = Pool::of(&[blind, as_it_is], |_| {}).await;
    assert_eq!(pool.calls(10, image).await, [0, 10]);
}

/// LiteLLM's `order`, and `metadata.priority`.
#[tokio::test]
async fn a_lower_order_is_asked_while_it_can() {
    let later = |one: &mut ModelEntry| one.hints.order = 2;
    let first = |one: &mut ModelEntry| one.hints.order = 1;
    let pool = Pool::of(&[later, first], |_| {}).await;
    assert_eq!(pool.calls(10, json!({})).await, [0, 10]);
    let down = whole(
        "500 No",
        "application/json",
        "",
        "{\"error\":{\"message\":\"no\"}}",
    );
    pool.provider(1).script(down);
    assert_eq!(pool.calls(1, json!({})).await, [1, 1]);
}

#[tokio::test]
async fn tags_choose_where_they_are_asked_for() {
    let free = |one: &mut ModelEntry| one.hints.tags = vec!["free".to_owned()];
    let paid = |one: &mut ModelEntry| one.hints.tags = vec!["paid".to_owned()];
    let on = Pool::of(&[free, paid], |config| config.routing.tag_filtering = true).await;
    let tagged = |tag: &str| json!({ "metadata": { "tags": [tag] } });
    assert_eq!(on.calls(10, tagged("paid")).await, [0, 10]);
    assert_eq!(on.calls(10, tagged("free")).await, [10, 0]);
    let told = on.with_headers(&[("x-litellm-tags", "other, paid")]).await;
    assert_eq!(
        (told.status, told.header("x-litellm-model-id")),
        (200, "at-1")
    );
    let told = on.world.chat(MASTER, tagged("gold")).await;
    assert!(told.status != 200 && told.text.contains("tags of this request"));

    let off = Pool::of(&[free, paid], |_| {}).await;
    let asked = off.calls(40, tagged("paid")).await;
    assert!(asked[0] > 0, "{asked:?}");
}

#[tokio::test]
async fn a_region_keeps_calls_in() {
    let eu = |one: &mut ModelEntry| one.hints.region = Some("eu-west-1".to_owned());
    let us = |one: &mut ModelEntry| one.hints.region = Some("us-east-1".to_owned());
    let pool = Pool::of(&[eu, us], |_| {}).await;
    for _ in 0..10 {
        let told = pool.with_headers(&[("x-tollgate-region", "eu")]).await;
        assert_eq!(told.header("x-litellm-model-region"), "eu-west-1");
    }
    let told = pool.with_headers(&[("x-tollgate-region", "asia")]).await;
    assert!(told.status != 200 && told.text.contains("region of this request"));
    assert!(pool.calls(40, json!({})).await[1] > 0);
}

/// For the prompt cache of its provider: by the client's own word for a session, else by how its messages begin.
#[tokio::test]
async fn a_session_stays_where_it_was() {
    let three = [as_it_is as Change; 3];
    let on = Pool::of(&three, |config| config.routing.sticky_sessions = true).await;
    let mut homes = Vec::new();
    for session in 0..30 {
        let name = format!("session-{session}");
        let mut homes_of_it = Vec::new();
        for _ in 0..2 {
            let told = on.with_headers(&[("x-litellm-session-id", &name)]).await;
            homes_of_it.push(told.header("x-litellm-model-id").to_owned());
        }
        assert_eq!(homes_of_it[0], homes_of_it[1]);
        homes.append(&mut homes_of_it);
    }
    homes.sort();
    homes.dedup();
    assert_eq!(homes.len(), 3);
    let asked = on.calls(10, json!({})).await;
    assert!(asked.contains(&10), "{asked:?}");

    let off = Pool::of(&three, |_| {}).await;
    let asked = off.calls(40, json!({})).await;
    assert!(!asked.contains(&40), "{asked:?}");
}

/// Each deployment by its own model's tokenizer: the same prompt fits one window, and not another of its size.
#[tokio::test]
async fn a_prompt_goes_only_where_it_fits_by_the_models_own_tokens() {
    let text = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。".repeat(20);
    let [old, new] = [Encoding::Cl100k, Encoding::O200k].map(|one| routing::count(one, &text));
    assert!(old > new + 50, "{old} {new}");
    fn window(one: &mut ModelEntry, model: &str) {
        let text = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。".repeat(20);
        one.upstream_model = model.to_owned();
        let fits = routing::count(Encoding::O200k, &text) + 30;
        one.limits.max_input_tokens = u32::try_from(fits).ok();
    }
    let new: Change = |one| window(one, "gpt-4o");
    let old: Change = |one| window(one, "gpt-4");
    let messages = json!({ "messages": [{ "role": "user", "content": text }] });
    let on = Pool::of(&[new, old], |config| config.routing.pre_call_checks = true).await;
    assert_eq!(on.calls(20, messages.clone()).await, [20, 0]);
    // A name that follows is held to its own tokens, too.
    let on = Pool::of(&[new, old], |config| {
        config.routing.pre_call_checks = true;
        config.models[1].model_name = "spare".to_owned();
        config.routing.fallbacks.default = vec!["spare".to_owned()];
    })
    .await;
    let down = whole(
        "500 No",
        "application/json",
        "",
        "{\"error\":{\"message\":\"no\"}}",
    );
    on.provider(0).script(down);
    assert_eq!(on.world.chat(MASTER, messages.clone()).await.status, 500);
    assert_eq!(on.asked(), [1, 0]);

    let off = Pool::of(&[new, old], |_| {}).await;
    assert!(off.calls(40, messages).await[1] > 0);
}

/// Slower than the threshold: asked where no other is left.
#[tokio::test]
async fn slow_ones_are_asked_last() {
    let slow = |one: &mut ModelEntry| one.hints.latency = Some(Duration::from_secs(90));
    let threshold = |config: &mut Config| {
        config.routing.latency_threshold = Some(Duration::from_secs(50));
    };
    let on = Pool::of(&[slow, as_it_is], threshold).await;
    assert_eq!(on.calls(20, json!({})).await, [0, 20]);
    let down = whole(
        "500 No",
        "application/json",
        "",
        "{\"error\":{\"message\":\"no\"}}",
    );
    on.provider(1).script(down);
    assert_eq!(on.calls(1, json!({})).await, [1, 1]);
    let off = Pool::of(&[slow, as_it_is], |_| {}).await;
    assert!(off.calls(40, json!({})).await[0] > 0);
}

/// Thresholds send a call to no name that its key may not use.
#[tokio::test]
async fn thresholds_keep_to_the_models_of_a_key() {
    let world = World::with(|config| {
        config.routing.cost_threshold = "1".parse().ok();
        for (name, cost) in [("one", "0.03"), ("up-2", "0.0005")] {
            let entry = config.models.iter_mut().find(|e| e.model_name == name);
            entry.unwrap().hints.cost = cost.parse().ok();
        }
        config
            .models
            .retain(|entry| ["one", "up-2"].contains(&&*entry.model_name));
        // Hints count where no price is known.
        for entry in &mut config.models {
            entry.provider = "unlisted".to_owned();
        }
    })
    .await;
    let limited = world.key(json!({"models": ["one"]})).await;
    let both = world.key(json!({"models": ["one", "up-2"]})).await;
    let team = json!({"team_alias": "t", "models": ["one"]});
    let team = world.manage(MASTER, "/team/new", team).await.json();
    let of_team = world.key(json!({"team_id": team["team_id"]})).await;
    for (key, upstream) in [
        (MASTER, "up-2"),
        (&*both, "up-2"),
        (&*limited, "up-1"),
        (&*of_team, "up-1"),
    ] {
        let told = world
            .chat(key, json!({"model": "one", "max_tokens": 5}))
            .await;
        assert_eq!(told.status, 200, "{}", told.text);
        let sent: Value = serde_json::from_str(world.provider.bodies().last().unwrap()).unwrap();
        assert_eq!(sent["model"], upstream);
    }
}

//! Ten deployments, each failing in its own way, under thousands of calls: every call ends in an answer or in
//! one clear error before its deadline, no call makes more attempts than it may, and the bill is the
//! providers' own.

#[path = "storm/servers.rs"]
mod servers;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tests::provider::{INPUT_NANO, OUTPUT_NANO};
use tests::world::MASTER;
use tests::{Shape, World};

use servers::{ANSWER, BEGUN, PROMPT, Server, WAYS, Way};

const CALLS: usize = 5_000;
const AT_ONCE: usize = 500;
const DEADLINE: Duration = Duration::from_secs(60);
/// One attempt, four retries, one other name.
const ATTEMPTS: u64 = 6;

const RULES: &str = "router_settings:
  routing_strategy: simple-shuffle
  num_retries: 4
  retry_after: 0
  allowed_fails: 300
  cooldown_time: 0.2
  timeout: 60
  fallbacks:
    - sheltered: [steady]
";

/// How often calls ended in what.
#[derive(Debug, Default, Clone, Copy)]
struct Ends {
    answers: usize,
    errors: usize,
    /// Refused since every deployment cooled down: nothing was sent, so nothing is recorded.
    unsent: usize,
    /// Errors of the name that has a fallback.
    shelterless: usize,
    /// Streams that broke off after their first token, with one error frame.
    broken: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_failures_is_ridden_out() {
    let mut servers = Vec::new();
    for way in WAYS {
        servers.push(Server::start(way).await);
    }
    servers.push(Server::start(Way::Steady).await);
    let mut models = String::new();
    for server in &servers {
        let names: &[&str] = match server.way {
            Way::Steady => &["steady"],
            _ => &["sheltered", "exposed"],
        };
        for name in names {
            models.push_str(&entry(name, server));
        }
    }
    let world = World::with(Shape::OneMachine, RULES)
        .models(&models)
        .tollgate("  timeouts:\n    connect_s: 5\n    first_byte_s: 5\n    idle_s: 5\n")
        .start()
        .await;

    let ends = rage(&world).await;
    assert_eq!(ends.answers + ends.errors + ends.broken, CALLS);
    // Half of the calls have a name to fall back to that never fails: each of them is answered, unless its
    // stream had begun.
    assert_eq!(ends.shelterless, 0, "{ends:?}");
    assert!(ends.answers > CALLS / 2 - ends.broken, "{ends:?}");

    let twice = "select count() from (select request_id from usage_rows final where last \
                 group by request_id having count() > 1)";
    assert_eq!(world.sql(twice), "0");
    let most: u64 = world
        .sql("select max(attempt_no) from usage_rows final")
        .parse()
        .unwrap();
    assert!((2..=ATTEMPTS).contains(&most), "{most} attempts");

    // By the providers' own books, deployment by deployment, to the nano-dollar; where a provider broke off
    // before it told what it charges, one estimated record for each such answer, and none for others.
    for server in &servers {
        let books = |count: &AtomicU64| count.load(SeqCst);
        let (answered, begun) = (books(&server.books.answered), books(&server.books.begun));
        let of = format!(
            "deployment_id in ('{0}-sheltered', '{0}-exposed', '{0}-steady')",
            id(server)
        );
        let told = world.sql(&format!(
            "select outcome, error_code, estimated, stream, attempt_no, last, count() from usage_rows final \
             where {of} group by all order by all"
        ));
        let rows = |what: &str| {
            let count = format!("select count() from usage_rows final where {of} and {what}");
            world.sql(&count).parse::<u64>().unwrap()
        };
        assert_eq!(rows("outcome = 'ok'"), answered, "{:?}: {told}", server.way);
        assert_eq!(
            rows("not estimated and input_tokens > 0"),
            answered + begun,
            "{:?}",
            server.way
        );
        let untold = books(&server.books.untold);
        assert_eq!(rows("estimated"), untold, "{:?}: {told}", server.way);
        let charged = world.sql(&format!(
            "select toInt64(sum(amount) * 1000000000) from cost_ledger final \
             where (source_id, kpart, pseq) in (select source_id, kpart, pseq from usage_rows final \
             where not estimated and {of})"
        ));
        let price = |answer: u64| PROMPT * INPUT_NANO + answer * OUTPUT_NANO;
        let theirs = answered * price(ANSWER) + begun * price(BEGUN);
        assert_eq!(charged, theirs.to_string(), "{:?}", server.way);
    }
    // No call was made more often than its budget of attempts allows, by what reached the providers.
    let mut asked = HashMap::<u64, u64>::new();
    for server in &servers {
        for (call, times) in server.books.calls.lock().unwrap().iter() {
            *asked.entry(*call).or_default() += times;
        }
    }
    let most = asked.values().max().unwrap();
    assert!((2..=ATTEMPTS).contains(most), "{most} attempts");
}

fn id(server: &Server) -> String {
    format!("{:?}", server.way).to_lowercase()
}

fn entry(name: &str, server: &Server) -> String {
    format!(
        "  - model_name: {name}\n    litellm_params:\n      model: openai/of-the-storm\n      api_base: {}\n      \
         api_key: sk-x\n      input_cost_per_token: 0.000001\n      output_cost_per_token: 0.000002\n    \
         model_info:\n      id: {}-{name}\n      max_output_tokens: 100\n",
        server.base(),
        id(server)
    )
}

/// All calls, so many at once.
async fn rage(world: &World) -> Ends {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (next, http) = (next.clone(), world.http.clone());
        let url = format!("{}/v1/chat/completions", world.url());
        callers.spawn(async move {
            let mut ends = Ends::default();
            loop {
                let number = next.fetch_add(1, SeqCst);
                if number >= CALLS {
                    return ends;
                }
                call(&http, &url, number, &mut ends).await;
            }
        });
    }
    let mut all = Ends::default();
    while let Some(ends) = callers.join_next().await {
        let ends = ends.unwrap();
        all.answers += ends.answers;
        all.errors += ends.errors;
        all.shelterless += ends.shelterless;
        all.unsent += ends.unsent;
        all.broken += ends.broken;
    }
    world
        .until(
            || "the bill of all calls",
            || {
                let rows = world.sql("select count() from usage_rows final where last");
                let ledger = world.sql("select count() from cost_ledger final where last");
                rows == ledger && rows == (CALLS - all.unsent).to_string()
            },
        )
        .await;
    all
}

async fn call(http: &reqwest::Client, url: &str, number: usize, ends: &mut Ends) {
    let streamed = number.is_multiple_of(2);
    let name = if number % 4 < 2 {
        "sheltered"
    } else {
        "exposed"
    };
    let body = format!(
        "{{\"model\":\"{name}\",\"stream\":{streamed},\"messages\":[{{\"role\":\"user\",\"content\":\"call {number}\"}}]}}"
    );
    let began = Instant::now();
    let answer = http
        .post(url)
        .bearer_auth(MASTER)
        .header("x-litellm-call-id", number.to_string())
        .body(body)
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let retries: BTreeMap<&str, u64> = [
        "x-litellm-attempted-retries",
        "x-litellm-attempted-fallbacks",
    ]
    .into_iter()
    .filter_map(|name| {
        Some((
            name,
            answer.headers().get(name)?.to_str().ok()?.parse().ok()?,
        ))
    })
    .collect();
    let text = answer.text().await.unwrap();
    assert!(
        began.elapsed() < DEADLINE + Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert!(retries.values().sum::<u64>() < ATTEMPTS, "{retries:?}");
    let errors = text.matches("\"error\":{").count();
    if status != 200 {
        assert_eq!(errors, 1, "{status}: {text}");
        ends.errors += 1;
        ends.unsent += usize::from(text.contains("No deployments available"));
        ends.shelterless += usize::from(name == "sheltered");
    } else if streamed && errors > 0 {
        assert_eq!(errors, 1, "{text}");
        assert!(text.contains("so ") && !text.contains("[DONE]"), "{text}");
        ends.broken += 1;
    } else {
        assert!(text.contains("calm") && text.contains("again"), "{text}");
        assert!(!streamed || text.ends_with("data: [DONE]\n\n"), "{text}");
        ends.answers += 1;
    }
}

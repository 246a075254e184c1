//! What the tables promise: no replay changes a sum, no hole is counted, every byte comes back.

use std::time::Duration;

use analytics::{Batch, Caller, Dimension, Error, LogFilter, Span, Store};
use schemas::{
    AttemptView, AttoUsd, CacheKind, Identity, Micros, NanoUsd, Offset, Outcome, Partition, Pseq,
    RequestId, SourceId,
};

use crate::world::{World, batch, call, now};

const MONTH: i64 = 31 * 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_changes_no_sum() {
    let world = World::start().await;
    let (store, ts) = (&world.store, now());
    let first = batch(1, 1..=100, ts);
    for _ in 0..3 {
        store.insert(&first).await.unwrap();
    }
    // The same events again, cut in another way.
    store.insert(&batch(1, 41..=90, ts)).await.unwrap();
    store.migrate().await.unwrap();

    let sum = (1..=100).sum::<i64>();
    for by in Dimension::ALL {
        let rows = store.spend(by, Span::default()).await.unwrap();
        assert_eq!(
            rows.iter().map(|row| row.spend.0).sum::<i64>(),
            sum,
            "{by:?}"
        );
        assert_eq!(
            rows.iter().map(|row| row.requests).sum::<u64>(),
            100,
            "{by:?}"
        );
        assert_eq!(
            rows.iter().map(|row| row.input_tokens).sum::<i64>(),
            1_000,
            "{by:?}"
        );
        assert!(
            rows.is_sorted_by_key(|row| std::cmp::Reverse(row.spend)),
            "{by:?}"
        );
    }
    let keys = store.spend(Dimension::Key, Span::default()).await.unwrap();
    assert_eq!(
        (keys[0].name.as_str(), keys[0].alias.as_str()),
        ("07".repeat(32).as_str(), "laptop")
    );
    let none = Span {
        since: Some(ts.plus_secs(1)),
        until: None,
    };
    assert_eq!(store.spend(Dimension::Team, none).await.unwrap(), []);

    let mark = |pseq| Identity {
        source_id: SourceId(1),
        partition: Partition(0),
        pseq: Pseq(pseq),
    };
    let high_water = store.high_water().await.unwrap();
    assert_eq!(high_water, [mark(100)]);
    let sums = store.budget_sums(&high_water).await.unwrap();
    let global = ("global".to_owned(), Micros(0), NanoUsd(sum));
    assert!(sums.contains(&global), "{sums:?}");
    assert_eq!(sums.len(), 4);
    let half = [mark(50)];
    let sums = store.budget_sums(&half).await.unwrap();
    assert!(sums.contains(&("global".to_owned(), Micros(0), NanoUsd((1..=50).sum()))));
    assert_eq!(store.budget_sums(&[]).await.unwrap(), []);

    // What FINAL shows is what a merge makes of it.
    world.ask("OPTIMIZE TABLE cost_ledger FINAL").await;
    assert_eq!(
        world
            .ask("SELECT count(), sum(amount) FROM cost_ledger")
            .await,
        "100\t0.00000505"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_rating_adds_its_difference_once() {
    let world = World::start().await;
    let (usage, cost) = call(1, 1_000, now());
    let mut first = Batch::new();
    first.push(&usage, &cost);
    world.store.insert(&first).await.unwrap();
    let mut again = Batch::new();
    let mut difference = cost;
    difference.rating_seq = 1;
    difference.amount = NanoUsd(-400);
    difference.exact = AttoUsd(-400_000_000_000);
    again.push_cost(&difference);
    for _ in 0..2 {
        world.store.insert(&again).await.unwrap();
    }
    let rows = world
        .store
        .spend(Dimension::Model, Span::default())
        .await
        .unwrap();
    assert_eq!(
        (rows[0].spend, rows[0].requests, rows[0].input_tokens),
        (NanoUsd(600), 1, 10)
    );
    let logs = world
        .store
        .spend_logs(&LogFilter::default(), 10, 0)
        .await
        .unwrap();
    assert_eq!((logs.len(), logs[0].spend), (1, NanoUsd(600)));
}

/// A batch over two months stops between two inserts: what lies behind the hole is not counted.
#[tokio::test(flavor = "multi_thread")]
async fn rows_behind_a_hole_do_not_count() {
    let world = World::start().await;
    let (store, ts) = (&world.store, now());
    let reached = async || store.high_water().await.unwrap();
    assert_eq!(reached().await, []);
    store.insert(&batch(1, 1..=5, ts)).await.unwrap();
    store.insert(&batch(2, 1..=3, ts)).await.unwrap();

    // Rows without a mark are what a crash before the mark leaves.
    let mut half = batch(1, 6..=7, ts);
    for pseq in [9, 10] {
        let (usage, cost) = call(1, pseq, ts);
        half.push(&usage, &cost);
    }
    let late = ts.plus_secs(-MONTH);
    let (usage, cost) = call(1, 8, late);
    let mut whole = half.clone();
    whole.push(&usage, &cost);
    store.insert(&half).await.unwrap();
    world.ask("TRUNCATE TABLE lane_marks").await;
    store.insert(&batch(1, 1..=5, ts)).await.unwrap();
    let mark = |source_id, pseq| Identity {
        source_id,
        partition: Partition(0),
        pseq: Pseq(pseq),
    };
    let (one, two) = (SourceId(1), SourceId(2));
    assert_eq!(reached().await, [mark(one, 7), mark(two, 3)]);

    store.insert(&whole).await.unwrap();
    assert_eq!(reached().await[0], mark(one, 10));
    // A dead letter leaves no row and is no hole.
    let mut dead = Batch::new();
    dead.passed(mark(two, 4));
    assert!(!dead.is_empty() && dead.rows() == 0);
    store.insert(&dead).await.unwrap();
    assert_eq!(reached().await[1], mark(two, 4));
    // Offsets only grow, whoever writes them last.
    for next in [7, 9, 8] {
        let mut read = Batch::new();
        read.read_to(Partition(3), Offset(next));
        assert!(!read.is_empty());
        store.insert(&read).await.unwrap();
    }
    let standing = store.standing().await.unwrap();
    assert_eq!(standing.next, [(Partition(3), Offset(9))]);
    assert_eq!(standing.marks, reached().await);
    assert_eq!(
        world
            .ask("SELECT uniqExact(_partition_id) FROM cost_ledger")
            .await,
        "2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_column_comes_back_as_it_went() {
    let world = World::start().await;
    let ts = now();
    let (mut usage, mut cost) = call(u64::MAX, u64::MAX, ts);
    cost.amount = NanoUsd(i64::MAX / 10);
    usage.kpart = Partition(u16::MAX);
    usage.request_id = RequestId::parse("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
    usage.call_id = Some("caf\u{e9} \u{1f600} 'quoted' \\ \t\n");
    usage.end_user = Some("\0");
    usage.tags = &["\u{fc}", "b"];
    usage.outcome = Outcome::CacheHit;
    usage.cache_kind = CacheKind::Semantic;
    usage.cache_similarity = 0.9375;
    usage.saved = NanoUsd(i64::MAX / 10);
    usage.stream = true;
    usage.status = 599;
    let mut meters = usage.meters.clone();
    meters.add(schemas::Meter::InputCacheRead, i64::MAX);
    usage.meters = Box::leak(Box::new(meters));
    usage.provider_usage = &[0, 255, b'\n'];
    let attempt = |failure: Option<&'static str>| AttemptView {
        deployment: "d",
        provider: "p",
        model: "m",
        why: "first",
        failure,
        status: if failure.is_none() { 200 } else { 429 },
        wait_us: 7,
        took_us: u64::MAX,
    };
    usage.attempts = Box::leak(Box::new([attempt(Some("rate_limit")), attempt(None)]));
    usage.compression = Some("drop_middle");
    (usage.tokens_before, usage.tokens_after) = (90_000, 30_000);
    usage.parent_id = Some(usage.request_id);
    usage.metadata = Some("{\"ticket\":7}");
    (cost.kpart, cost.request_id, cost.tags) = (usage.kpart, usage.request_id, usage.tags);
    cost.exact = AttoUsd(-10_i128.pow(37));
    let (mut bare, mut bare_cost) = call(1, 1, ts.plus_secs(-1));
    (bare.team_id, bare.user_id, bare.key_hash, bare.key_alias) = (None, None, None, None);
    bare.meters = Box::leak(Box::default());
    (bare.tags, bare.provider_usage) = (&[], &[]);
    (bare_cost.team_id, bare_cost.user_id, bare_cost.key_hash) = (None, None, None);
    (bare_cost.tags, bare_cost.budget_id, bare_cost.window_start) =
        (&[], analytics::Names(&[]), analytics::Starts(&[]));
    let mut both = Batch::new();
    both.push(&usage, &cost);
    both.push(&bare, &bare_cost);
    assert_eq!(both.rows(), 4);
    world.store.insert(&both).await.unwrap();

    let logs = world
        .store
        .spend_logs(&LogFilter::default(), 10, 0)
        .await
        .unwrap();
    assert_eq!(logs.len(), 2);
    let row = &logs[0];
    assert_eq!(row.request_id, usage.request_id.to_string());
    assert_eq!(Some(row.call_id.as_str()), usage.call_id);
    assert_eq!(
        (row.end_user.as_str(), &row.tags[..]),
        ("\0", &["\u{fc}".to_owned(), "b".to_owned()][..])
    );
    assert_eq!(
        (row.outcome.as_str(), row.cache_kind.as_str()),
        ("cache_hit", "semantic")
    );
    assert!((row.cache_similarity - 0.9375).abs() < f32::EPSILON);
    assert_eq!((row.started, row.ended), (usage.ts, usage.ended_at));
    assert_eq!((row.saved, row.spend), (usage.saved, cost.amount));
    assert_eq!((row.status, row.stream, row.last), (599, true, true));
    assert_eq!(
        (logs[1].team_id.as_str(), logs[1].key_hash.as_str()),
        ("", "")
    );
    assert_eq!(logs[1].tags, Vec::<String>::new());

    let raw = world
        .ask("SELECT source_id, kpart, pseq, meters, hex(provider_usage), hold FROM usage_rows WHERE status = 599")
        .await;
    assert_eq!(
        raw,
        format!(
            "{max}\t65535\t{max}\t{{'input_text':10,'output_text':2,'input_cache_read':{}}}\t00FF0A\t0.000001",
            i64::MAX,
            max = u64::MAX
        )
    );
    let raw = world
        .ask(
            "SELECT auth_us, route_us, admit_us, cache_us, connect_us, attempts.failure, attempts.status, attempts.took_us[2], \
             compression, tokens_before - tokens_after, parent_id, JSONExtractInt(metadata, 'ticket') \
             FROM usage_rows WHERE status = 599",
        )
        .await;
    assert_eq!(
        raw,
        format!(
            "1\t2\t3\t4\t5\t['rate_limit','']\t[429,200]\t{}\tdrop_middle\t60000\t{}\t7",
            u64::MAX,
            usage.request_id
        )
    );
    let raw = world
        .ask("SELECT exact, budget_id, window_start FROM cost_ledger WHERE kpart = 65535")
        .await;
    assert_eq!(
        raw,
        "-10000000000000000000\t['global','team:team-0']\t\
         ['1970-01-01 00:00:00.000000','2023-11-14 22:13:20.000000']"
    );

    let found =
        async |filter: LogFilter| world.store.spend_logs(&filter, 10, 0).await.unwrap().len();
    // By our id, by the one that the client gave, by one that nobody did.
    for (id, rows) in [
        (usage.request_id.to_string(), 1),
        (row.call_id.clone(), 1),
        ("chatcmpl-unknown".to_owned(), 0),
    ] {
        let by_request = LogFilter {
            request_id: Some(id.clone()),
            ..LogFilter::default()
        };
        assert_eq!(found(by_request).await, rows, "{id}");
    }
    let by_user = LogFilter {
        user_id: Some("o'brien".to_owned()),
        ..LogFilter::default()
    };
    assert_eq!(found(by_user).await, 0);
    let days = world
        .store
        .spend_days(&LogFilter {
            caller: usage.key_hash.map(Caller::Key),
            ..LogFilter::default()
        })
        .await
        .unwrap();
    assert_eq!(
        (days.len(), days[0].spend, days[0].user_id.as_str()),
        (1, cost.amount, "alice")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_rows_go_in_at_once() {
    let world = World::start().await;
    let hundred = batch(1, 1..=100_000, now());
    let started = std::time::Instant::now();
    world.store.insert(&hundred).await.unwrap();
    eprintln!(
        "100,000 events ({} MB in two tables): {:?}",
        hundred.bytes() / 1_000_000,
        started.elapsed()
    );
    let started = std::time::Instant::now();
    let rows = world
        .store
        .spend(Dimension::Team, Span::default())
        .await
        .unwrap();
    eprintln!("spend by team over them: {:?}", started.elapsed());
    assert_eq!(
        rows.iter().map(|row| row.spend.0).sum::<i64>(),
        (1..=100_000).sum::<i64>()
    );
    let started = std::time::Instant::now();
    assert_eq!(
        world.store.high_water().await.unwrap()[0].pseq,
        Pseq(100_000)
    );
    eprintln!("high water: {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_tell_what_helps() {
    let world = World::start().await;
    let nobody = Store::connect("http://127.0.0.1:1", "tollgate", "");
    let gone = nobody.insert(&batch(1, 1..=1, now())).await.unwrap_err();
    assert!(matches!(gone, Error::Unreachable(_)) && !gone.is_poison());
    let wrong = Store::connect(&format!("http://{}", world.addr), "tollgate", "guess");
    let refused = wrong.insert(&batch(1, 1..=1, now())).await.unwrap_err();
    assert!(
        matches!(refused, Error::Refused { code: 516, .. }) && !refused.is_poison(),
        "{refused}"
    );
    let bad = world.store.sql("SELECT nope", "TSV").await.err().unwrap();
    assert!(matches!(bad, Error::Refused { code: 47, .. }), "{bad}");
    let poison = world
        .store
        .sql("INSERT INTO usage_rows (status) VALUES ('x')", "TSV")
        .await;
    assert!(poison.err().unwrap().is_poison());
    world
        .ask("ALTER TABLE usage_rows MODIFY COLUMN status UInt32")
        .await;
    let schema = world.store.migrate().await.unwrap_err();
    assert_eq!(
        schema.to_string(),
        "table usage_rows does not fit this version: column status is UInt32, not UInt16"
    );
    world
        .supervisor
        .wait_ready(Duration::from_secs(1))
        .await
        .unwrap();
}

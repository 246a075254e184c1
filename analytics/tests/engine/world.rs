//! A child with an engine, a store that writes, and clients of the HTTP front.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use analytics::embedded::{self, EmbeddedOptions, Supervisor, SupervisorOptions};
use analytics::{Batch, CostRow, Names, Starts, Store, UsageRow};
use schemas::{
    AttoUsd, BudgetRefView, CacheKind, KeyHash, Meter, Meters, Micros, NanoUsd, Outcome, Partition,
    Pseq, RequestId, SourceId,
};

use crate::client::Ask;

pub const WRITER_PASSWORD: &str = "writer's \"password\"";
pub const ANALYST_PASSWORD: &str = "analyst-password";

const CHILD_DIR: &str = "ANALYTICS_TEST_CHILD_DIR";
const CHILD_ADDR: &str = "ANALYTICS_TEST_CHILD_ADDR";

pub fn library() -> PathBuf {
    std::env::var_os("TOLLGATE_LIBCHDB")
        .expect("TOLLGATE_LIBCHDB names no libchdb.so: run through ./tollgate test")
        .into()
}

pub fn options(data_dir: &Path, listen: SocketAddr) -> EmbeddedOptions {
    EmbeddedOptions {
        data_dir: data_dir.to_owned(),
        listen,
        lib: library(),
        writer_password: WRITER_PASSWORD.to_owned(),
        analyst_password: ANALYST_PASSWORD.to_owned(),
    }
}

pub fn serve_if_child() {
    let (Ok(dir), Ok(addr)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_ADDR)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let served = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate()).unwrap();
        let (ready, _ignored) = tokio::sync::oneshot::channel();
        let options = options(Path::new(&dir), addr.parse().unwrap());
        embedded::serve(options, ready, async move {
            term.recv().await;
        })
        .await
    });
    if let Err(error) = served {
        let mut said = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            said = format!("{said}: {error}");
            cause = error.source();
        }
        panic!("{said}");
    }
}

/// A port that was free a moment ago, below those that the kernel gives to outgoing connections: nobody
/// takes it by chance before the child does.
pub fn free_addr() -> SocketAddr {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(61);
    (0..1_000)
        .map(|_| {
            NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                .wrapping_add(first)
        })
        .map(|number| 10_000 + u16::try_from(number % 10_000).unwrap())
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|addr| std::net::TcpListener::bind(addr).is_ok())
        .unwrap()
}

pub fn child(data_dir: &Path, addr: SocketAddr) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "as_a_child_it_serves", "--nocapture"])
        .env(CHILD_DIR, data_dir)
        .env(CHILD_ADDR, addr.to_string())
        .stdout(std::process::Stdio::null());
    command
}

pub struct World {
    pub supervisor: Supervisor,
    pub addr: SocketAddr,
    pub store: Store,
    pub dir: tempfile::TempDir,
}

impl World {
    pub async fn start() -> Self {
        library();
        let dir = tempfile::tempdir().unwrap();
        let addr = free_addr();
        let data_dir = dir.path().to_owned();
        let supervisor =
            Supervisor::start(SupervisorOptions::new(addr), move || child(&data_dir, addr))
                .unwrap();
        supervisor
            .wait_ready(Duration::from_secs(60))
            .await
            .unwrap();
        let store = Store::connect(&format!("http://{addr}"), "tollgate", WRITER_PASSWORD);
        store.migrate().await.unwrap();
        Self {
            supervisor,
            addr,
            store,
            dir,
        }
    }

    /// Answer of a statement as the writer, tab-separated.
    pub async fn ask(&self, sql: &str) -> String {
        let mut answer = self.store.sql(sql, "TSVRaw").await.unwrap();
        let mut text = Vec::new();
        while let Some(piece) = answer.next().await.unwrap() {
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).unwrap().trim_end().to_owned()
    }

    pub fn url(&self, query: &[(&str, &str)]) -> String {
        let encode = |text: &str| {
            text.bytes()
                .map(|byte| format!("%{byte:02X}"))
                .collect::<String>()
        };
        let pairs: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        format!("http://{}/?{}", self.addr, pairs.join("&"))
    }

    /// Status, exception code and text of a statement as the analyst.
    pub async fn analyst(&self, sql: &str, query: &[(&str, &str)]) -> (u16, Option<i32>, String) {
        let asked = Ask::post(&self.url(query)).login("analyst", ANALYST_PASSWORD);
        let reply = asked.body(sql).send().await;
        let code = reply.headers.get("x-clickhouse-exception-code");
        let code = code.map(|code| code.to_str().unwrap().parse().unwrap());
        (reply.status.as_u16(), code, reply.text())
    }
}

/// Now, to the second: rows must be younger than the TTL.
pub fn now() -> Micros {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Micros(i64::try_from(since.as_secs()).unwrap() * 1_000_000)
}

const TEAMS: [&str; 3] = ["team-0", "team-1", "team-2"];
const BUDGETS: [[BudgetRefView<'static>; 2]; 3] = [
    windows("team:team-0"),
    windows("team:team-1"),
    windows("team:team-2"),
];

const fn windows(team: &'static str) -> [BudgetRefView<'static>; 2] {
    let window_end = Micros(i64::MAX);
    [
        BudgetRefView {
            budget: "global",
            window_start: Micros(0),
            window_end,
        },
        BudgetRefView {
            budget: team,
            window_start: Micros(1_700_000_000_000_000),
            window_end,
        },
    ]
}

static METERS: LazyLock<Meters> = LazyLock::new(|| {
    let mut meters = Meters::default();
    meters.add(Meter::InputText, 10);
    meters.add(Meter::OutputText, 2);
    meters
});

/// One call that cost `pseq` nano-dollars, so that sums are easy to know.
pub fn call(source: u64, pseq: u64, ts: Micros) -> (UsageRow<'static>, CostRow<'static>) {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&source.to_be_bytes());
    id[8..].copy_from_slice(&pseq.to_be_bytes());
    let team = usize::try_from(pseq % 3).unwrap();
    let amount = NanoUsd(i64::try_from(pseq).unwrap_or(i64::MAX / 10));
    let usage = UsageRow {
        ts,
        ended_at: Micros(ts.0 + 250_000),
        source_id: SourceId(source),
        kpart: Partition(0),
        pseq: Pseq(pseq),
        request_id: RequestId(id),
        call_id: None,
        org: "default",
        team_id: Some(TEAMS[team]),
        user_id: Some("alice"),
        key_hash: Some(KeyHash([7; 32])),
        key_alias: Some("laptop"),
        end_user: None,
        tags: &["search"],
        model_requested: "fast",
        model: "tollgate/demo",
        provider: "tollgate",
        deployment_id: "demo-1",
        service_tier: None,
        attempt_no: 1,
        last: true,
        outcome: Outcome::Ok,
        estimated: false,
        mismatch: false,
        stream: false,
        status: 200,
        error_code: None,
        finish_reason: Some("stop"),
        catalog_version: 1,
        meters: &METERS,
        input_tokens: 10,
        cached_tokens: 0,
        output_tokens: 2,
        reasoning_tokens: 0,
        ttft_us: 1_000,
        duration_us: 250_000,
        cache_kind: CacheKind::None,
        cache_similarity: 0.0,
        saved: NanoUsd(0),
        hold: NanoUsd(1_000),
        priced: true,
        unpriced_reason: None,
        provider_usage: b"{}",
        auth_us: 1,
        route_us: 2,
        admit_us: 3,
        cache_us: 4,
        connect_us: 5,
        attempts: &[],
        compression: None,
        tokens_before: 0,
        tokens_after: 0,
        parent_id: None,
        metadata: None,
    };
    let cost = CostRow {
        ts,
        source_id: usage.source_id,
        kpart: usage.kpart,
        pseq: usage.pseq,
        rating_seq: 0,
        request_id: usage.request_id,
        org: usage.org,
        team_id: usage.team_id,
        user_id: usage.user_id,
        key_hash: usage.key_hash,
        key_alias: usage.key_alias,
        end_user: None,
        tags: usage.tags,
        model_requested: usage.model_requested,
        model: usage.model,
        provider: usage.provider,
        deployment_id: usage.deployment_id,
        outcome: usage.outcome,
        last: true,
        amount,
        exact: AttoUsd(i128::from(amount.0) * 1_000_000_000),
        priced: true,
        reason: None,
        catalog_version: 1,
        hold: usage.hold,
        saved: NanoUsd(0),
        input_tokens: 10,
        output_tokens: 2,
        budget_id: Names(&BUDGETS[team]),
        window_start: Starts(&BUDGETS[team]),
    };
    (usage, cost)
}

pub fn batch(source: u64, numbers: std::ops::RangeInclusive<u64>, ts: Micros) -> Batch {
    let mut batch = Batch::new();
    for pseq in numbers {
        let (usage, cost) = call(source, pseq, ts);
        batch.push(&usage, &cost);
    }
    batch
}

//! The fault proofs: Tollgate in many processes on a real broker, a real Redis and the engine, broken on
//! purpose, and its books compared with the provider's to the nano-dollar after each.
//!
//! A test binary of its own: the proofs run two at a time, since much of each is waiting for something to stay
//! away long enough, and what they found is a table, written to `docs/faults.md` when all of them ran. A word on the command line runs those
//! whose name has it. Everything random comes from one seed, which is printed; `TOLLGATE_SEED` repeats it.

mod books;
mod budget;
mod consumers;
mod generated;
mod kills;
mod load;
mod outages;
mod rebuild;
mod table;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use table::{Row, Table};
use tests::parts::Parts;
use tokio::runtime::Runtime;

/// Proofs that run beside each other.
const AT_ONCE: usize = 2;

/// What a proof is told, and what it tells.
type Proof = fn(StdRng) -> Pin<Box<dyn Future<Output = Row>>>;

macro_rules! proofs {
    ($($file:ident :: $name:ident),+ $(,)?) => {
        &[$((stringify!($name), |seed| Box::pin($file::$name(seed)))),+]
    };
}

const PROOFS: &[(&str, Proof)] = proofs![
    kills::ingress_before_dispatch,
    kills::ingress_mid_stream,
    kills::ingress_after_usage,
    kills::relay_between_send_and_ack,
    kills::billing_at_every_step,
    outages::broker_down,
    outages::journal_full,
    outages::redis_torn,
    outages::redis_flushed,
    outages::tables_down,
    consumers::zombie,
    consumers::rebalance_storm,
    consumers::duplicates,
    consumers::gap,
    consumers::garbage,
    budget::no_overshoot,
    generated::faults_from_the_seed,
    rebuild::from_the_topics,
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // As other test binaries are called: `--nocapture`, `--test-threads=2` and the like change nothing here.
    let filters: Vec<&String> = words
        .iter()
        .filter(|word| !word.starts_with("--"))
        .collect();
    let wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|word| name.contains(word.as_str()));
    if words.iter().any(|word| word == "--list") {
        PROOFS
            .iter()
            .for_each(|(name, _)| say(&format!("{name}: test")));
        return ExitCode::SUCCESS;
    }
    let seed = std::env::var("TOLLGATE_SEED").map_or_else(
        |_| rand::random(),
        |seed| seed.parse().expect("TOLLGATE_SEED: a number"),
    );
    say(&format!("\nrunning fault proofs with TOLLGATE_SEED={seed}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let started = Instant::now();
    let wanted: Vec<&(&str, Proof)> = PROOFS.iter().filter(|(name, _)| wanted(name)).collect();
    // Most worlds share one broker and one Redis, which live as long as this.
    let shared = runtime.block_on(Parts::shared());
    let next = AtomicUsize::new(0);
    let found: Vec<OnceLock<Option<Row>>> = wanted.iter().map(|_| OnceLock::new()).collect();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((name, proof)) = wanted.get(at) else {
                        return;
                    };
                    let row = prove(&runtime, name, *proof, seed);
                    let _ = found[at].set(row);
                }
            });
        }
    });
    drop(shared);
    let mut table = Table::default();
    let rows = found.iter().filter_map(|row| row.get().cloned().flatten());
    rows.for_each(|row| table.push(row));
    let failed = wanted.len() - table.clean();
    say(&format!("\n{}", table.text()));
    if failed == 0 && filters.is_empty() {
        table.write();
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let passed = table.clean();
    say(&format!(
        "test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; \
         finished in {:.2}s\n",
        PROOFS.len() - passed - failed,
        started.elapsed().as_secs_f32()
    ));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one; its row, unless it broke off.
fn prove(runtime: &Runtime, name: &str, proof: Proof, seed: u64) -> Option<Row> {
    let began = Instant::now();
    let run = || runtime.block_on(proof(StdRng::seed_from_u64(seed)));
    let row = std::panic::catch_unwind(AssertUnwindSafe(run)).ok();
    let took = began.elapsed().as_secs_f32();
    match &row {
        Some(row) if row.is_clean() => say(&format!("test {name} ... ok ({took:.1} s)")),
        broken => say(&format!(
            "test {name} ... FAILED ({took:.1} s), TOLLGATE_SEED={seed}\n{broken:?}"
        )),
    }
    row
}

/// A line of what the test command shows and counts.
fn say(text: &str) {
    use std::io::Write;
    // Nobody reads it: then nobody misses it.
    let _ = writeln!(std::io::stdout(), "{text}");
}

//! Prints how many reservations a second one thread makes in memory.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::time::{SystemTime, UNIX_EPOCH};

use budgets::{Budgets, Memory, measure};
use schemas::Micros;

const CALLS: u64 = 2_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    for scopes in [1, 4] {
        let memory = Memory::new();
        if let Err(error) = memory.open().await {
            println!("cannot open the state: {error}");
            return;
        }
        let measured = measure::admissions(&memory, scopes, CALLS, now).await;
        println!(
            "{scopes} scopes: {:.0} reserve+release a second",
            measured.per_second()
        );
    }
}

//! Prints how many events a second one core brings through each lane.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use billing_consumer::measure;

const EVENTS: u64 = 500_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    for measured in measure::lanes(dir.path(), EVENTS).await? {
        println!(
            "{}: {:.0} events a second and core",
            measured.lane,
            measured.per_second()
        );
    }
    Ok(())
}

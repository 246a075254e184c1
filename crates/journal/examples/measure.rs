//! Prints the journal's figures: `cargo run --release -p journal --example measure [dir] [seconds]`.
//! The directory should be on the disk that is meant; default: the system's temporary directory.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use journal::measure::{Load, measure, measure_appends};
use journal::{Error, Sync};

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let base = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().and_then(|s| s.parse().ok()).unwrap_or(2);
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| drop(writeln!(out, "{line}"));

    for bytes in [100, 300] {
        let (per_s, cpu) = in_new_dir(&base, |dir| measure_appends(dir, 500_000, bytes))?;
        say(format!(
            "appends of {bytes} bytes, one thread, no waits: {per_s:.0}/s, {} ns CPU each",
            cpu.as_nanos()
        ));
    }
    say("rounds of 2 records of 250 bytes and one wait".to_owned());
    say("sync    wait_us callers pause_ms work_us |  rounds/s  p50_us  p99_us  cpu_us/round  syncs/s  rounds/sync".to_owned());
    let mut rows = vec![
        (Sync::Os, 0, 64, 0, 0),
        (Sync::Always, 0, 1, 0, 0),
        (Sync::Group, 0, 1, 20, 0),
    ];
    for (callers, pause, work) in [
        (1, 0, 0),
        (8, 0, 0),
        (64, 0, 0),
        (64, 0, 20),
        (8, 0, 20),
        (64, 20, 20),
        (256, 0, 20),
    ] {
        rows.extend([0, 100, 200, 400].map(|wait| (Sync::Group, wait, callers, pause, work)));
    }
    for (sync, wait, callers, pause, work) in rows {
        let load = Load {
            sync,
            group_wait: Duration::from_micros(wait),
            callers,
            records_per_wait: 2,
            body_bytes: 250,
            lasts: Duration::from_secs(seconds),
            pause: Duration::from_millis(pause),
            work: Duration::from_micros(work),
        };
        let f = in_new_dir(&base, |dir| measure(dir, &load))?;
        say(format!(
            "{:<7} {wait:>7} {callers:>7} {pause:>8} {work:>7} | {:>9.0} {:>7} {:>7} {:>13.1} {:>8.0} {:>12.1}",
            format!("{sync:?}"),
            f.rounds_per_s,
            f.p50.as_micros(),
            f.p99.as_micros(),
            f.cpu_per_round.as_nanos() as f64 / 1000.0,
            f.syncs_per_s,
            f.group,
        ));
    }
    Ok(())
}

fn in_new_dir<T>(base: &Path, run: impl FnOnce(&Path) -> Result<T, Error>) -> Result<T, Error> {
    let dir = base.join(format!("tollgate-journal-measure-{}", std::process::id()));
    let result = run(&dir);
    // Ours alone; what is left of it is only disk space.
    let _ = std::fs::remove_dir_all(&dir);
    result
}

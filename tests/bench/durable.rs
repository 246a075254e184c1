//! `bench journal`: records a second, and how long a caller waits until its record is durable, by sync
//! mode. On the disk that holds this executable.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use journal::Sync;
use journal::measure::{Load, measure, measure_appends};

use crate::arguments::Plan;
use crate::contender;
use crate::report::{Table, number};

/// Of one record, bytes: a usage event of a chat.
const BODY_BYTES: usize = 300;

pub fn section(plan: &Plan) -> Result<()> {
    eprintln!("journal: {BODY_BYTES} bytes a record");
    let folder = contender::folder()?;
    let mut table = Table::new(
        "Journal: a call appends 2 records and waits once until they are durable",
        &[
            "",
            "calls/s",
            "wait p50 µs",
            "wait p99 µs",
            "CPU µs/call",
            "syncs/s",
            "calls/sync",
        ],
    );
    for (name, sync, callers) in [
        ("os (page cache), 64 callers", Sync::Os, 64),
        ("always, 1 caller", Sync::Always, 1),
        ("group, 1 caller", Sync::Group, 1),
        ("group, 8 callers", Sync::Group, 8),
        ("group, 64 callers", Sync::Group, 64),
        ("group, 512 callers", Sync::Group, 512),
    ] {
        let load = Load {
            sync,
            group_wait: journal::Options::default().group_wait,
            callers,
            records_per_wait: 2,
            body_bytes: BODY_BYTES,
            lasts: Duration::from_millis(if plan.quick { 300 } else { 1_500 }),
            pause: Duration::ZERO,
            work: Duration::ZERO,
        };
        let figures = in_new(folder.path(), |dir| Ok(measure(dir, &load)?))?;
        table.row([
            name.to_owned(),
            number(figures.rounds_per_s, 0),
            figures.p50.as_micros().to_string(),
            figures.p99.as_micros().to_string(),
            number(figures.cpu_per_round.as_nanos() as f64 / 1e3, 1),
            number(figures.syncs_per_s, 0),
            number(figures.group, 1),
        ]);
    }
    let records = if plan.quick { 100_000 } else { 500_000 };
    let (per_s, cpu) = in_new(folder.path(), |dir| {
        Ok(measure_appends(dir, records, BODY_BYTES)?)
    })?;
    table.note(format!(
        "appends alone, one thread: {per_s:.0} records/s, {} ns of CPU each",
        cpu.as_nanos()
    ));
    table.print(&[], &[])
}

fn in_new<T>(base: &Path, run: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let folder = tempfile::tempdir_in(base)?;
    run(folder.path())
}

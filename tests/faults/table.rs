//! What the proofs found, as the table in `docs/faults.md`.

use std::fmt::Write;
use std::path::Path;

use schemas::NanoUsd;

/// One fault.
#[derive(Debug, Clone)]
pub struct Row {
    pub fault: &'static str,
    /// How often it was done.
    pub runs: u32,
    /// Calls that were recorded while it was done, at least: what was planned, so that the table of two good
    /// runs is the same.
    pub planned: u64,
    /// Calls that were recorded.
    pub events: u64,
    /// Calls of the provider's books that are not in ours.
    pub lost: u64,
    /// Calls that are in ours twice, or at another price.
    pub doubled: u64,
    /// What was spent beyond a limit.
    pub overshoot: NanoUsd,
}

impl Row {
    pub const fn of(fault: &'static str, planned: u64) -> Self {
        Self {
            fault,
            runs: 0,
            planned,
            events: 0,
            lost: 0,
            doubled: 0,
            overshoot: NanoUsd::ZERO,
        }
    }

    /// Nothing lost, nothing doubled, nothing overspent, and enough was done to mean it.
    pub fn is_clean(&self) -> bool {
        (self.lost, self.doubled, self.overshoot) == (0, 0, NanoUsd::ZERO)
            && self.events >= self.planned
            && self.runs > 0
    }
}

#[derive(Default)]
pub struct Table(Vec<Row>);

const HEAD: &str = "# What was broken, and what it cost

Written by `./tollgate test`, which runs these on a real broker, a real Redis and the ClickHouse engine: three
ingresses, two billing processes, and a provider that keeps its own books. After each, `tollgate audit` is
clean and the provider's books equal ours. Events are calls recorded while it went on, at least so many.

";

impl Table {
    pub fn push(&mut self, row: Row) {
        self.0.push(row);
    }

    /// How many rows show nothing wrong.
    pub fn clean(&self) -> usize {
        self.0.iter().filter(|row| row.is_clean()).count()
    }

    pub fn text(&self) -> String {
        let mut text =
            String::from("| fault | runs | events | lost | doubled | overshoot, USD |\n");
        text.push_str("| --- | ---: | ---: | ---: | ---: | ---: |\n");
        for row in &self.0 {
            let Row {
                fault,
                runs,
                planned,
                lost,
                doubled,
                overshoot,
                ..
            } = row;
            // Writing to a text cannot fail.
            let _ = writeln!(
                text,
                "| {fault} | {runs} | {planned} | {lost} | {doubled} | {overshoot} |"
            );
        }
        text
    }

    /// Writes the file where it would change.
    pub fn write(&self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/faults.md");
        let text = format!("{HEAD}{}", self.text());
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return;
        }
        std::fs::create_dir_all(path.parent().expect("docs")).expect("docs");
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

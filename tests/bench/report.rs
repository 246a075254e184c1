//! What is printed: tables, who is missing and why, and whether each gate was passed.

use std::io::Write;

use anyhow::Result;

use crate::arguments::Plan;

/// Figures by contender, columns aligned.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

/// A figure that must not be above a bound, or below it.
pub struct Gate(String);

/// A figure's place beside its bound.
fn verdict(figure: f64, holds: bool) -> &'static str {
    match figure {
        figure if figure.is_nan() => "NOT MEASURED",
        _ if holds => "pass",
        _ => "MISS",
    }
}

impl Gate {
    pub fn new(who: &str, what: &str, figure: f64, most: f64, unit: &str) -> Self {
        let verdict = verdict(figure, figure <= most);
        let figure = number(figure, 2);
        Self(format!(
            "gate {verdict}: {who}: {what} {figure} {unit}, at most {most} {unit}"
        ))
    }

    /// The other way round.
    pub fn least(who: &str, what: &str, figure: f64, least: f64) -> Self {
        let verdict = verdict(figure, figure >= least);
        let (figure, ratio) = (number(figure, 0), number(figure / least, 2));
        Self(format!(
            "gate {verdict}: {who}: {what} {figure}, at least {least}: {ratio} of it"
        ))
    }
}

impl Table {
    pub fn new(title: &str, columns: &[&str]) -> Self {
        let head = columns.iter().map(ToString::to_string).collect();
        Self {
            title: title.to_owned(),
            rows: vec![head],
            notes: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub fn print(&self, absent: &[(String, String)], gates: &[Gate]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{}", self.title)?;
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let width = widths[at];
                line.push_str(&if at == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("  {cell:>width$}")
                });
            }
            writeln!(out, "  {}", line.trim_end())?;
        }
        for note in &self.notes {
            writeln!(out, "  {note}")?;
        }
        for (who, why) in absent {
            writeln!(out, "  not measured: {who}: {why}")?;
        }
        for Gate(text) in gates {
            writeln!(out, "  {text}")?;
        }
        Ok(())
    }
}

/// A figure, or a dash where there is none.
pub fn number(value: f64, digits: usize) -> String {
    if value.is_nan() {
        "-".to_owned()
    } else {
        format!("{value:.digits$}")
    }
}

/// What it runs on.
pub fn machine(plan: &Plan) -> Result<()> {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unnamed processor", |(_, name)| name);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    writeln!(
        std::io::stdout(),
        "{model}, Linux {}; one core serves, another makes the load and plays the provider; medians of {} rounds",
        kernel.trim(),
        plan.rounds
    )?;
    Ok(())
}

//! `tollgate prices`: the catalog of a stopped gateway, shown and added to. A running gateway holds the
//! catalog's lock, and is named.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use schemas::{CatalogEvent, Micros};

use crate::catalog;
use crate::cli::PricesCommand;
use metering::import::{Import, Report, import_litellm};

pub fn run(command: &PricesCommand) -> Result<()> {
    match command {
        PricesCommand::Import {
            file,
            approve_jumps,
            dry_run,
            instance,
        } => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let log = catalog::open(&instance.data_dir)?;
            let source = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            import(&log, &text, &source, *approve_jumps, *dry_run)
        }
        PricesCommand::List { instance } => list(&catalog::open(&instance.data_dir)?),
    }
}

fn import(
    log: &catalog::Log,
    text: &str,
    source: &str,
    approve_jumps: bool,
    dry_run: bool,
) -> Result<()> {
    let now = jiff::Timestamp::now();
    let today = now.strftime("%Y-%m-%d").to_string();
    let how = |approved| Import {
        source,
        source_date: &today,
        effective_from: Micros(now.as_microsecond()),
        approved,
    };
    let (mut entries, mut report) = import_litellm(text, &log.catalog, &how(&[]))?;
    let jumps: Vec<String> = report
        .changes
        .iter()
        .filter(|change| change.is_jump())
        .map(|change| format!("{}/{}", change.provider, change.model))
        .collect();
    if approve_jumps && !jumps.is_empty() {
        let approved: Vec<&str> = jumps.iter().map(String::as_str).collect();
        (entries, report) = import_litellm(text, &log.catalog, &how(&approved))?;
    }
    show(&report)?;
    if dry_run || entries.is_empty() {
        return Ok(());
    }
    let version = log.append(CatalogEvent {
        event_time: Micros(now.as_microsecond()),
        actor: "import".into(),
        entries,
    })?;
    Ok(writeln!(
        std::io::stdout(),
        "the catalog is now at version {version}"
    )?)
}

fn show(report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} models: {} new, {} changed, {} unchanged, {} under a second name, {} without a price, {} refused",
        report.models,
        report.added,
        report.changed,
        report.unchanged,
        report.duplicates,
        report.without_price.len(),
        report.refused.len()
    )?;
    for change in &report.changes {
        let price = |price: Option<schemas::AttoUsd>| {
            price.map_or_else(|| "none".to_owned(), |price| price.to_string())
        };
        writeln!(
            out,
            "  {}/{} {}: {} -> {} USD",
            change.provider,
            change.model,
            change.meter.name(),
            price(change.old),
            price(change.new)
        )?;
    }
    for refused in &report.refused {
        writeln!(out, "  refused {}: {}", refused.name, refused.reason)?;
    }
    for (field, count) in &report.not_mapped {
        writeln!(out, "  not mapped: {field} of {count} models")?;
    }
    Ok(())
}

fn list(log: &catalog::Log) -> Result<()> {
    let mut entries: Vec<_> = log.catalog.entries().collect();
    ensure!(
        !entries.is_empty(),
        "the catalog is empty: a first `tollgate up` fills it"
    );
    entries
        .sort_by(|a, b| (&a.provider, &a.model, &a.scope).cmp(&(&b.provider, &b.model, &b.scope)));
    let mut out = std::io::stdout().lock();
    for entry in entries {
        let rates: Vec<String> = entry
            .rates
            .iter()
            .map(|rate| {
                let tier = rate
                    .service_tier
                    .as_deref()
                    .map_or_else(String::new, |tier| format!(" {tier}"));
                let above = if rate.context_above > 0 {
                    format!(" above {}", rate.context_above)
                } else {
                    String::new()
                };
                format!("{}{tier}{above} {}", rate.meter.name(), rate.price)
            })
            .collect();
        writeln!(
            out,
            "{}/{}\t{}\t{}\t{} {}",
            entry.provider,
            entry.model,
            entry.scope,
            rates.join(", "),
            entry.source,
            entry.source_date
        )?;
    }
    Ok(())
}

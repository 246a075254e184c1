//! `tollgate prices`: the catalog of a gateway, or that on Kafka, shown; and added to, where the gateway is
//! stopped.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use journal::{EventLog, Follower};
use schemas::{CatalogEvent, Micros};

use super::block_on;
use crate::catalog::{self, Followed};
use crate::cli::{CatalogFlags, PricesCommand};
use crate::parts::log;
use crate::settings;
use ingress::prices::Book;
use metering::Catalog;
use metering::import::{Import, Report, import_litellm};

/// How long the present prices may take to be read.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

pub fn run(command: &PricesCommand) -> Result<()> {
    match command {
        PricesCommand::Import {
            file,
            approve_jumps,
            dry_run,
            catalog,
        } => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let source = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            block_on(async {
                let purpose = if *dry_run { For::Reading } else { For::Adding };
                let followed = follow(log_of(catalog, purpose)?).await?;
                import(&followed.book(), &text, &source, *approve_jumps, *dry_run).await
            })
        }
        PricesCommand::List { catalog } => block_on(async {
            let followed = follow(log_of(catalog, For::Reading)?).await?;
            list(&followed.catalog.load())
        }),
    }
}

/// The catalog as its log has it now.
async fn follow(log: Arc<dyn EventLog>) -> Result<Followed> {
    let followed = catalog::follow(log, None);
    let watch = followed.watch();
    if !watch.caught_up(KNOWN_WITHIN).await {
        let problem = watch.state().problem.unwrap_or_default();
        bail!("the price catalog cannot be read: {problem}");
    }
    Ok(followed)
}

/// What the log is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Reading,
    /// It has one writer: a gateway that runs is named.
    Adding,
}

/// The topic where the configuration names Kafka, else the log in the data directory.
fn log_of(flags: &CatalogFlags, purpose: For) -> Result<Arc<dyn EventLog>> {
    let config = match &flags.config {
        Some(path) => Some(settings::read(path)?.config),
        None => None,
    };
    if let Some(kafka) = config.as_ref().and_then(|config| config.kafka.as_ref()) {
        return Ok(Arc::new(kafka::Log::new(log::broker(kafka))?));
    }
    let of_file = config.and_then(|config| config.data_dir);
    let beside = flags.config.as_deref().and_then(Path::parent);
    let dir = match (&flags.data_dir, of_file) {
        (Some(dir), _) => dir.clone(),
        (None, Some(dir)) => beside.unwrap_or(Path::new("")).join(dir),
        (None, None) => beside.unwrap_or(Path::new("")).join(settings::DATA_DIR),
    };
    let here = dir.join("catalog");
    if purpose == For::Reading {
        // Nothing is made by a look.
        ensure!(
            here.is_dir(),
            "there is no price catalog in {}: a first `tollgate up` makes it",
            dir.display()
        );
        return Ok(Arc::new(Follower::new(&here)));
    }
    let adding = || "prices are added while the gateway is stopped";
    Ok(Arc::new(log::catalog(&dir).with_context(adding)?))
}

async fn import(
    book: &Book,
    text: &str,
    source: &str,
    approve_jumps: bool,
    dry_run: bool,
) -> Result<()> {
    let now = jiff::Timestamp::now();
    let today = now.strftime("%Y-%m-%d").to_string();
    let known = book.catalog().load_full();
    let how = |approved| Import {
        source,
        source_date: &today,
        effective_from: Micros(now.as_microsecond()),
        approved,
    };
    let (mut entries, mut report) = import_litellm(text, &known, &how(&[]))?;
    let jumps: Vec<String> = report
        .changes
        .iter()
        .filter(|change| change.is_jump())
        .map(|change| format!("{}/{}", change.provider, change.model))
        .collect();
    if approve_jumps && !jumps.is_empty() {
        let approved: Vec<&str> = jumps.iter().map(String::as_str).collect();
        (entries, report) = import_litellm(text, &known, &how(&approved))?;
    }
    show(&report)?;
    if dry_run || entries.is_empty() {
        return Ok(());
    }
    let version = book
        .append(&CatalogEvent {
            event_time: Micros(now.as_microsecond()),
            actor: "import".into(),
            entries,
        })
        .await?;
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

fn list(catalog: &Catalog) -> Result<()> {
    let mut entries: Vec<_> = catalog.entries().collect();
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

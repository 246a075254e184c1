//! `bench cache`: the embedding model and look-ups in the answer cache.

use anyhow::{Context, Result};
use cache_service::embed::Embedder;
use cache_service::measure::{self, Times};
use cache_service::{CacheConfig, Error};

use crate::arguments::Plan;
use crate::report::Table;

pub fn section(plan: &Plan) -> Result<()> {
    let mut table = Table::new("Answer cache, one thread", &["", "p50 µs", "p99 µs"]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    let absent = match runtime.block_on(times(plan, &mut table)) {
        Ok(()) => Vec::new(),
        Err(error) => vec![("the rest".to_owned(), error.to_string())],
    };
    table.print(&absent, &[])
}

async fn times(plan: &Plan, table: &mut Table) -> Result<(), Error> {
    let (entries, count) = if plan.quick {
        (1_000, 100)
    } else {
        (10_000, 500)
    };
    eprintln!("cache: look-ups among {entries} answers");
    for (vectors, flat_max, kind) in [(8_192, 8_192, "flat"), (20_000, 8_192, "graph")] {
        if plan.quick && vectors > flat_max {
            continue;
        }
        let times = measure::index_search(vectors, flat_max, count);
        row(table, &format!("index of {vectors} vectors, {kind}"), times);
    }
    let config = CacheConfig {
        embed_threads: 1,
        ..CacheConfig::default()
    };
    let embedder = Embedder::open(&config)?;
    for pieces in [10, 50] {
        let times = measure::embedding(&embedder, pieces, count).await?;
        row(table, &format!("embedding of {pieces} word pieces"), times);
    }
    drop(embedder);
    let times = measure::lookups(config, entries, count).await?;
    row(table, "look-up, exact hit", times.exact);
    row(table, "look-up, exact miss", times.miss);
    if let Some(times) = times.semantic {
        row(table, "look-up, semantic, 50 word pieces", times);
    }
    Ok(())
}

fn row(table: &mut Table, name: &str, times: Times) {
    let [p50, p99] = [times.p50, times.p99].map(|time| time.as_micros().to_string());
    table.row([name.to_owned(), p50, p99]);
}

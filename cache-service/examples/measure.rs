//! Prints the figures of [`cache_service::measure`]: `measure times`, or
//! `measure quality FILE [PAIRS]` on labelled pairs.
#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

use std::path::Path;
use std::process::ExitCode;

use cache_service::eligibility::Reason;
use cache_service::embed::Embedder;
use cache_service::guards::{Features, refuse};
use cache_service::{CacheConfig, Error, measure};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["times"] => times().await,
        ["quality", file] => quality(file, usize::MAX).await,
        ["quality", file, count] => quality(file, count.parse().unwrap_or(usize::MAX)).await,
        _ => Err(Error::Request(
            "measure times | measure quality FILE [PAIRS]".to_owned(),
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("{e}");
            ExitCode::FAILURE
        }
    }
}

async fn times() -> Result<(), Error> {
    let config = CacheConfig {
        embed_threads: 1,
        ..CacheConfig::default()
    };
    let embedder = Embedder::open(&config)?;
    for pieces in [10, 50] {
        let t = measure::embedding(&embedder, pieces, 300).await?;
        println!(
            "embedding, {pieces} word pieces      p50 {:?}  p99 {:?}",
            t.p50, t.p99
        );
    }
    drop(embedder);
    let t = measure::lookups(config, 10_000, 1_000).await?;
    println!(
        "look-up, exact hit            p50 {:?}  p99 {:?}",
        t.exact.p50, t.exact.p99
    );
    println!(
        "look-up, exact miss           p50 {:?}  p99 {:?}",
        t.miss.p50, t.miss.p99
    );
    if let Some(t) = t.semantic {
        println!(
            "look-up, semantic, 50 pieces  p50 {:?}  p99 {:?}",
            t.p50, t.p99
        );
    }
    for (vectors, flat_max, kind) in [
        (1_000, 8_192, "flat"),
        (8_192, 8_192, "flat"),
        (20_000, 8_192, "graph"),
    ] {
        let t = measure::index_search(vectors, flat_max, 500);
        println!(
            "index of {vectors}, {kind}  p50 {:?}  p99 {:?}",
            t.p50, t.p99
        );
    }
    Ok(())
}

async fn quality(file: &str, count: usize) -> Result<(), Error> {
    let embedder = Embedder::open(&CacheConfig {
        embed_threads: 1,
        ..CacheConfig::default()
    })?;
    let mut pairs = measure::pairs(Path::new(file))?;
    pairs.truncate(count);
    let pairs = measure::similarities(&embedder, pairs).await;
    for threshold in [0.85, 0.90, 0.95] {
        let q = measure::quality(&pairs, threshold);
        let precision = q.precision();
        println!(
            "{threshold:.2}: {} same, {} different; plain {:.1}% / {:.1}%, precision {:.1}%; guards {:.1}% / {:.1}%, precision {:.1}%",
            q.pairs.0,
            q.pairs.1,
            q.plain.0 * 100.0,
            q.plain.1 * 100.0,
            precision.0 * 100.0,
            q.guarded.0 * 100.0,
            q.guarded.1 * 100.0,
            precision.1 * 100.0,
        );
    }
    let mut by_guard: Vec<(Reason, [usize; 2])> = Vec::new();
    for (pair, _) in pairs.iter().filter(|(_, s)| *s >= 0.90) {
        if let Some(guard) = refuse(&Features::of(&pair.a), &Features::of(&pair.b)) {
            if !by_guard.iter().any(|(g, _)| *g == guard) {
                by_guard.push((guard, [0; 2]));
            }
            for (_, counts) in by_guard.iter_mut().filter(|(g, _)| *g == guard) {
                counts[usize::from(!pair.same)] += 1;
            }
        }
    }
    for (guard, [same, different]) in by_guard {
        println!(
            "{}: refused first {same} same, {different} different",
            guard.as_str()
        );
    }
    if std::env::var_os("MEASURE_SHOW").is_some() {
        for (pair, similarity) in pairs.iter().filter(|(_, s)| *s >= 0.90) {
            let verdict = refuse(&Features::of(&pair.a), &Features::of(&pair.b))
                .map_or("served", Reason::as_str);
            println!(
                "{}\t{verdict}\t{similarity:.3}\t{}\t{}",
                u8::from(pair.same),
                pair.a,
                pair.b
            );
        }
    }
    Ok(())
}

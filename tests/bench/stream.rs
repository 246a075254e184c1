//! `bench stream`: what a streamed chunk costs, and how long it is held up: in bursts, as a provider
//! sends that produces faster than it flushes, and paced, a chunk at a time.

use std::time::Duration;

use anyhow::Result;

use crate::arguments::Plan;
use crate::bodies::Model;
use crate::closed::{self, Until};
use crate::contender::{Contender, Lineup};
use crate::cores::Cores;
use crate::cpu::{self, Busy};
use crate::load::quantile;
use crate::mock::Provider;
use crate::report::{Gate, Table, number};
use crate::rounds::Rounds;
use crate::tollgate::Sync;

/// Streams open at a time.
const BURST_STREAMS: usize = 32;
const PACED_STREAMS: usize = 256;
/// CPU per chunk, in terms of nginx's.
const CPU_MOST: f64 = 1.5;

struct Turn {
    cpu_us: f64,
    first_p50: f64,
    delay_p50: f64,
    delay_p99: f64,
    /// Share of the time.
    others_on_core: f64,
}

pub fn section(plan: &Plan) -> Result<()> {
    let cores = Cores::pick()?;
    cores.at_load(|| {
        let mut lineup = Lineup::start(cores, &[Sync::Group])?;
        for (model, streams, title) in [
            (
                Model::Burst,
                BURST_STREAMS,
                "Streams in bursts of 10 chunks, 32 open at a time",
            ),
            (
                Model::Paced,
                PACED_STREAMS,
                "Streams of a chunk each 15 ms, 256 open at a time",
            ),
        ] {
            eprintln!("stream: {title}");
            let until = match model {
                Model::Burst => {
                    Until::Elapsed(Duration::from_millis(if plan.quick { 500 } else { 1_200 }))
                }
                // Each connection carries several streams: the first one also opens the way upstream.
                _ => Until::Requests(streams as u64 * if plan.quick { 2 } else { 3 }),
            };
            let rounds = Rounds::take(plan, &mut lineup, |provider, contender| {
                turn(cores, provider, contender, model, streams, until)
            });
            report(&lineup, &rounds, title)?;
        }
        Ok(())
    })
}

fn turn(
    cores: Cores,
    provider: &mut Provider,
    contender: &Contender,
    model: Model,
    streams: usize,
    until: Until,
) -> Result<Turn> {
    cpu::until_idle(contender.pid());
    let (before, core) = (cpu::spent(contender.pid()), Busy::of(cores.gateway));
    let answered = closed::run(provider, &contender.target(model), streams, until)?;
    let core_busy = Busy::of(cores.gateway).since(core);
    let at_end = cpu::spent(contender.pid()).since(before);
    cpu::until_idle(contender.pid());
    let spent = cpu::spent(contender.pid()).since(before);
    Ok(Turn {
        cpu_us: spent.gateway / answered.events as f64,
        first_p50: quantile(&answered.first_event, 0.50),
        delay_p50: quantile(&answered.chunk_delay, 0.50),
        delay_p99: quantile(&answered.chunk_delay, 0.99),
        others_on_core: core_busy - (at_end.gateway + at_end.clickhouse) / 1e6 / answered.seconds,
    })
}

fn report(lineup: &Lineup, rounds: &Rounds<Turn>, title: &str) -> Result<()> {
    let mut table = Table::new(
        title,
        &[
            "",
            "CPU µs/chunk",
            "× nginx",
            "first chunk p50 µs",
            "chunk under way p50 µs",
            "p99 µs",
        ],
    );
    let mut gates = Vec::new();
    for (at, contender) in lineup.contenders.iter().enumerate() {
        let ratio = rounds.ratio(at, |turn| turn.cpu_us);
        table.row([
            contender.name.clone(),
            number(rounds.of(at, |turn| turn.cpu_us), 2),
            number(ratio, 2),
            number(rounds.of(at, |turn| turn.first_p50), 0),
            number(rounds.of(at, |turn| turn.delay_p50), 0),
            number(rounds.of(at, |turn| turn.delay_p99), 0),
        ]);
        if contender.name.starts_with("tollgate") {
            gates.push(Gate::new(
                &contender.name,
                "CPU per chunk",
                ratio,
                CPU_MOST,
                "× nginx",
            ));
        }
    }
    if let Some(warning) = cpu::disturbed(rounds.worst(|turn| turn.others_on_core)) {
        table.note(warning);
    }
    table.print(&lineup.absent, &gates)
}

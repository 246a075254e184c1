//! `bench gateway`: CPU and throughput with 64 busy connections, and the latency that a gateway adds
//! at 1,000 requests a second.

use std::time::Duration;

use anyhow::Result;

use crate::arguments::Plan;
use crate::bodies::Model;
use crate::closed::{self, Until};
use crate::contender::{Contender, Lineup};
use crate::cores::Cores;
use crate::cpu::{self, Busy};
use crate::mock::Provider;
use crate::open::{self, Latency};
use crate::report::{Gate, Table, number};
use crate::rounds::Rounds;
use crate::tollgate::Sync;

const CONNECTIONS: usize = 64;
/// CPU per request, in terms of nginx's.
pub const CPU_MOST: f64 = 2.0;

struct Turn {
    load: Load,
    added: Latency,
}

/// Busy connections.
pub struct Load {
    pub cpu_us: f64,
    pub clickhouse_us: f64,
    pub requests_per_s: f64,
    /// Shares of the time of the load.
    pub own_core: f64,
    pub others_on_core: f64,
}

pub fn section(plan: &Plan) -> Result<()> {
    let cores = Cores::pick()?;
    eprintln!("gateway: {CONNECTIONS} connections, then 1,000 requests a second");
    cores.at_load(|| {
        let mut lineup = Lineup::start(cores, &[Sync::Group, Sync::Os])?;
        let direct = lineup.direct.clone();
        let mut alone = Vec::new();
        let rounds = Rounds::take(plan, &mut lineup, |provider, contender| {
            let direct = open::run(provider, &direct, lasts(plan))?;
            alone.push(direct);
            turn(plan, cores, provider, contender, direct)
        });
        report(&lineup, &rounds, &alone)
    })
}

fn lasts(plan: &Plan) -> Duration {
    Duration::from_millis(if plan.quick { 500 } else { 1_200 })
}

fn turn(
    plan: &Plan,
    cores: Cores,
    provider: &mut Provider,
    contender: &Contender,
    direct: Latency,
) -> Result<Turn> {
    let load = Load::of(plan, cores, provider, contender)?;
    let through = open::run(provider, &contender.target(Model::Plain), lasts(plan))?;
    Ok(Turn {
        load,
        added: through.added_to(direct),
    })
}

impl Load {
    /// Puts a contender under load, once it is warm.
    pub fn of(
        plan: &Plan,
        cores: Cores,
        provider: &mut Provider,
        contender: &Contender,
    ) -> Result<Self> {
        let target = &contender.target(Model::Plain);
        closed::run(
            provider,
            target,
            CONNECTIONS,
            Until::Elapsed(Duration::from_millis(300)),
        )?;
        cpu::until_idle(contender.pid());
        let (before, core) = (cpu::spent(contender.pid()), Busy::of(cores.gateway));
        let answered = closed::run(provider, target, CONNECTIONS, Until::Elapsed(lasts(plan)))?;
        let core_busy = Busy::of(cores.gateway).since(core);
        let at_end = cpu::spent(contender.pid()).since(before);
        // What a request leaves to be done later is part of its cost.
        cpu::until_idle(contender.pid());
        let spent = cpu::spent(contender.pid()).since(before);
        let own_core = at_end.gateway / 1e6 / answered.seconds;
        let requests = answered.requests as f64;
        Ok(Self {
            cpu_us: spent.gateway / requests,
            clickhouse_us: spent.clickhouse / requests,
            requests_per_s: requests / answered.seconds,
            own_core,
            others_on_core: core_busy - own_core - at_end.clickhouse / 1e6 / answered.seconds,
        })
    }
}

fn report(lineup: &Lineup, rounds: &Rounds<Turn>, alone: &[Latency]) -> Result<()> {
    let mut table = Table::new(
        "One call: 64 connections; latency at 1,000 requests a second",
        &[
            "",
            "CPU µs/request",
            "× nginx",
            "requests/s",
            "its core %",
            "added p50 µs",
            "added p99 µs",
        ],
    );
    let mut gates = Vec::new();
    for (at, contender) in lineup.contenders.iter().enumerate() {
        let ratio = rounds.ratio(at, |turn| turn.load.cpu_us);
        table.row([
            contender.name.clone(),
            number(rounds.of(at, |turn| turn.load.cpu_us), 1),
            number(ratio, 2),
            number(rounds.of(at, |turn| turn.load.requests_per_s), 0),
            number(rounds.of(at, |turn| turn.load.own_core * 100.0), 0),
            number(rounds.of(at, |turn| turn.added.p50), 0),
            number(rounds.of(at, |turn| turn.added.p99), 0),
        ]);
        let clickhouse = rounds.of(at, |turn| turn.load.clickhouse_us);
        if clickhouse > 0.0 {
            table.note(format!(
                "{}: and {clickhouse:.1} µs a request in the ClickHouse child",
                contender.name
            ));
        }
        if contender.name.starts_with("tollgate") {
            gates.push(Gate::new(
                &contender.name,
                "CPU per request",
                ratio,
                CPU_MOST,
                "× nginx",
            ));
        }
    }
    if let Some(warning) = cpu::disturbed(rounds.worst(|turn| turn.load.others_on_core)) {
        table.note(warning);
    }
    let middle = |figure: fn(&Latency) -> f64| crate::load::median(alone.iter().map(figure));
    table.note(format!(
        "without a gateway: p50 {:.0} µs, p99 {:.0} µs",
        middle(|latency| latency.p50),
        middle(|latency| latency.p99)
    ));
    table.print(&lineup.absent, &gates)
}

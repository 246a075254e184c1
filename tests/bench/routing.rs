//! `bench routing`: what it costs to choose among 1, 10 and 1,000 deployments behind one name: the choice
//! alone, by strategy, and a whole call through the gateway, beside nginx.

use anyhow::Result;
use config::Strategy;
use routing::measure::choices;

use crate::arguments::Plan;
use crate::contender::Lineup;
use crate::cores::Cores;
use crate::cpu;
use crate::gateway::{CPU_MOST, Load};
use crate::report::{Gate, Table, number};
use crate::rounds::Rounds;
use crate::tollgate::{Setup, Sync};

const DEPLOYMENTS: [usize; 3] = [1, 10, 1_000];

/// By the names that files give them.
const STRATEGIES: [(&str, Strategy); 7] = [
    ("simple-shuffle", Strategy::SimpleShuffle),
    ("weighted_round_robin", Strategy::WeightedRoundRobin),
    ("least-busy", Strategy::LeastBusy),
    ("latency-based-routing", Strategy::Latency),
    ("usage-based-routing", Strategy::Usage),
    ("cost-based-routing", Strategy::Cost),
    ("capability-based", Strategy::Capability),
];

pub fn section(plan: &Plan) -> Result<()> {
    let cores = Cores::pick()?;
    eprintln!("routing: {DEPLOYMENTS:?} deployments behind one name");
    cores.at_load(|| {
        alone(plan)?;
        through_the_gateway(plan, cores)
    })
}

/// The plan of a call, its choice and what is counted about it, without anything around it.
fn alone(plan: &Plan) -> Result<()> {
    let mut table = Table::new(
        "Routing alone: one call planned, sent and answered, ns on one thread",
        &["", "1", "10", "1,000 deployments"],
    );
    let calls = if plan.quick { 50_000 } else { 200_000 };
    for (name, strategy) in STRATEGIES {
        let took = DEPLOYMENTS.map(|count| {
            let nanos = choices(count, strategy, calls).per_call().as_nanos();
            number(nanos as f64, 0)
        });
        table.row([name.to_owned()].into_iter().chain(took));
    }
    table.print(&[], &[])
}

fn through_the_gateway(plan: &Plan, cores: Cores) -> Result<()> {
    // The disk has no part in it, and would blur the difference.
    let plain = DEPLOYMENTS.map(|deployments| Setup {
        deployments,
        ..Setup::new(Sync::Os)
    });
    let searched = Setup {
        deployments: 1_000,
        strategy: Some("latency-based-routing"),
        ..Setup::new(Sync::Os)
    };
    let setups: Vec<_> = plain.into_iter().chain([searched]).collect();
    let mut lineup = Lineup::of(cores, &setups)?;
    let rounds = Rounds::take(plan, &mut lineup, |provider, contender| {
        Load::of(plan, cores, provider, contender)
    });
    let mut table = Table::new(
        "Routing in the gateway: one call, 64 connections, sync os",
        &["", "CPU µs/request", "× nginx", "requests/s"],
    );
    let mut gates = Vec::new();
    for (at, contender) in lineup.contenders.iter().enumerate() {
        let ratio = rounds.ratio(at, |load| load.cpu_us);
        table.row([
            contender.name.clone(),
            number(rounds.of(at, |load| load.cpu_us), 1),
            number(ratio, 2),
            number(rounds.of(at, |load| load.requests_per_s), 0),
        ]);
        if contender.name.starts_with("tollgate") {
            let name = &contender.name;
            gates.push(Gate::new(
                name,
                "CPU per request",
                ratio,
                CPU_MOST,
                "× nginx",
            ));
        }
    }
    if let Some(warning) = cpu::disturbed(rounds.worst(|load| load.others_on_core)) {
        table.note(warning);
    }
    table.print(&lineup.absent, &gates)
}

//! `./tollgate bench [what…]`: what the gateway costs, measured beside nginx in one run.
//!
//! One core serves, the other makes load and plays the provider; contenders take turns within each
//! round, and ratios are taken within a round. Reports, and never fails because of a figure.

mod answers;
mod arguments;
mod billing;
mod bodies;
mod call;
mod closed;
mod connection;
mod contender;
mod cores;
mod cpu;
mod durable;
mod forwarder;
mod gateway;
mod load;
mod memory;
mod mock;
mod nginx;
mod open;
mod report;
mod rounds;
mod routing;
mod start;
mod stream;
mod tollgate;

use std::process::ExitCode;

use arguments::{Arguments, Plan, What};
use mimalloc::MiMalloc;

/// As in the executable: the lanes are measured in this process.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let outcome = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Arguments::Measure(plan)) => measure(&plan),
        Ok(Arguments::Forward(provider)) => forwarder::serve(provider),
        Ok(Arguments::On(core, command)) => cores::become_pinned(core, &command),
        Err(usage) => Err(usage),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(plan: &Plan) -> anyhow::Result<()> {
    report::machine(plan)?;
    for what in &plan.what {
        match what {
            What::Gateway => gateway::section(plan)?,
            What::Stream => stream::section(plan)?,
            What::Memory => memory::section(plan)?,
            What::Journal => durable::section(plan)?,
            What::Billing => billing::section(plan)?,
            What::Start => start::section(plan)?,
            What::Cache => answers::section(plan)?,
            What::Routing => routing::section(plan)?,
        }
    }
    Ok(())
}

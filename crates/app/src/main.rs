//! The executable `tollgate`: every role and every command, a line each.

mod alerting;
mod banner;
mod cache;
mod catalog;
mod cli;
mod commands;
mod ground;
mod housekeeping;
mod instance;
mod log;
mod master_key;
mod observe;
mod parts;
mod reload;
mod roles;
mod serving;
mod settings;
mod stopping;
mod up;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use mimalloc::MiMalloc;

/// A call makes some fifty small allocations and a few large ones, after each of which glibc merges the
/// small ones that are free: a tenth of what a call costs.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up(flags) => up::run(&flags),
        Command::Ingress(flags) => roles::ingress(&flags),
        Command::Billing(flags) => roles::billing(&flags),
        Command::Cache(flags) => roles::cache(&flags),
        Command::Clickhouse(flags) => roles::clickhouse(&flags),
        Command::Sql(flags) => commands::sql::run(&flags),
        Command::Spend(flags) => commands::spend::run(&flags),
        Command::Audit(flags) => commands::audit::run(&flags),
        Command::Dlq(flags) => commands::dlq::run(&flags),
        Command::Gap(command) => commands::gap::run(&command),
        Command::Prices(command) => commands::prices::run(&command),
        Command::Topics(command) => commands::topics::run(&command),
        Command::Config(command) => commands::config::run(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read what was printed has had enough of it.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes, each on what it is about; none of them holds a secret.
            eprintln!("tollgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `tollgate … | head`: standard output was closed. A connection that broke is not meant: those of commands are
/// told of by their own errors.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let direct = error.downcast_ref::<std::io::Error>();
    direct.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

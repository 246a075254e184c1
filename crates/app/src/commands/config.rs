//! `tollgate config check FILE`: what a file will do, or everything that is wrong with it.

use std::io::Write;

use anyhow::Result;

use crate::cli::ConfigCommand;
use crate::settings;

pub fn run(command: &ConfigCommand) -> Result<()> {
    let ConfigCommand::Check { file } = command;
    let loaded = settings::read(file)?;
    Ok(writeln!(
        std::io::stdout(),
        "{}",
        config::check(&loaded).trim_end()
    )?)
}

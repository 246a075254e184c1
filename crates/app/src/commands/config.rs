//! `tollgate config check FILE`: what a file will do, or everything that is wrong with it.

use std::io::Write;

use anyhow::{Context, Result};

use crate::cli::ConfigCommand;

pub fn run(command: &ConfigCommand) -> Result<()> {
    let ConfigCommand::Check { file } = command;
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let loaded = config::parse(&text, &file.display().to_string(), &|name| {
        std::env::var(name).ok()
    })?;
    Ok(writeln!(
        std::io::stdout(),
        "{}",
        config::check(&loaded).trim_end()
    )?)
}

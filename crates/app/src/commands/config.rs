//! `tollgate config check FILE`: what a file will do, or everything that is wrong with it.

use std::io::Write;

use anyhow::Result;
use config::{Listed, ModelEntry};
use schemas::{Meter, PriceEntry};

use crate::cli::ConfigCommand;
use crate::settings;

pub fn run(command: &ConfigCommand) -> Result<()> {
    let ConfigCommand::Check { file } = command;
    let loaded = settings::read(file)?;
    let prices = metering::builtin();
    let told = config::check_with(&loaded, &|entry| listed(&prices, entry));
    Ok(writeln!(std::io::stdout(), "{}", told.trim_end())?)
}

/// What the built-in catalog says of a deployment's model.
fn listed(prices: &[PriceEntry], entry: &ModelEntry) -> Option<Listed> {
    let model = entry.base_model.as_deref();
    let model = model.unwrap_or(&entry.upstream_model);
    let of_model = |price: &&PriceEntry| {
        *price.provider == *entry.provider && *price.model == *model && price.effective_to.is_none()
    };
    let price = prices.iter().rev().find(of_model)?;
    let text = |meter: Meter, what: &str| {
        let rate = price.rates.iter().find(|rate| {
            rate.meter == meter && rate.service_tier.is_none() && rate.context_above == 0
        })?;
        // To be read, not to be billed by.
        let each: f64 = rate.price.parse().ok()?;
        Some(format!(
            "{} USD a million tokens {what}",
            (each * 1e12).round() / 1e6
        ))
    };
    let both = [text(Meter::InputText, "in"), text(Meter::OutputText, "out")];
    Some(Listed {
        window: price.max_input,
        output: price.max_output,
        prices: both.into_iter().flatten().collect::<Vec<_>>().join(", "),
    })
}

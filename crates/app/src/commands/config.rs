//! `tollgate config check FILE`: what a file will do, or everything that is wrong with it.

use std::io::Write;

use anyhow::Result;
use config::{Listed, Loaded, ModelEntry};
use schemas::{Meter, PriceEntry};

use crate::cli::ConfigCommand;
use crate::settings;

pub fn run(command: &ConfigCommand) -> Result<()> {
    let ConfigCommand::Check { file } = command;
    let prices = metering::builtin();
    let tell = |loaded: &Loaded| config::check_with(loaded, &|entry| listed(&prices, entry));
    let mut out = std::io::stdout();
    match settings::read(file) {
        Ok(loaded) => {
            ingress::reload::fits(&loaded.config).map_err(anyhow::Error::msg)?;
            Ok(writeln!(out, "{}", tell(&loaded).trim_end())?)
        }
        Err(error) => {
            // Where only variables are missing, as on a machine without the secrets, it is explained all the same.
            if let Some(loaded) = settings::read_without_secrets(file) {
                writeln!(
                    out,
                    "it does not start here, where variables are missing; with them it does this:\n\n{}\n",
                    tell(&loaded).trim_end()
                )?;
            }
            Err(error)
        }
    }
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

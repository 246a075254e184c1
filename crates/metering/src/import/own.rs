//! Prices that an operator states for a deployment, by LiteLLM's field names, each as written.

use schemas::Rate;

use super::field::{self, Field};
use super::{Rates, Report, read_price};

/// Rates of a deployment's own prices. Zero is a price: a model that costs nothing.
///
/// # Errors
/// A field that is not a price our meters know, or a text that is not a number, by name: what an operator
/// states is never dropped.
pub fn litellm_rates<'a>(
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Rate>, String> {
    let mut rates = Rates::default();
    for (name, text) in fields {
        let at = match field::read(name, field::STATED) {
            Field::Price(at) => at,
            Field::Searches => field::SEARCHES,
            Field::NotMoney | Field::Tiers | Field::NotMapped => {
                return Err(format!("{name}: not a price that can be charged here"));
            }
        };
        read_price(text).map_err(|why| format!("{name}: {why}"))?;
        let number =
            serde_json::from_str(text).map_err(|_| format!("{name}: {text:?} is not a number"))?;
        rates.add(name, at, &number, &mut Report::default())?;
    }
    Ok(rates.into_rates())
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::Meter;

    #[test]
    fn a_stated_price_is_read_as_written() {
        let rates = litellm_rates([
            ("input_cost_per_token", "3e-06"),
            ("output_cost_per_token", "0"),
        ])
        .unwrap();
        let read: Vec<_> = rates
            .iter()
            .map(|rate| (rate.meter, &*rate.price))
            .collect();
        assert_eq!(
            read,
            [(Meter::InputText, "0.000003"), (Meter::OutputText, "0.0")]
        );
        assert!(litellm_rates([("input_cost_per_tokn", "1")]).is_err());
    }
}

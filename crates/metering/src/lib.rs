//! The rules of money: what a call may cost, what it did cost, and when a budget's window turns.
//!
//! Row 2 of the ladder. Pure: does no IO, reads no clock, draws no random numbers; time and texts come
//! in as arguments. No float stands anywhere between a price and an amount.

pub mod budget;
mod builtin;
mod catalog;
mod cost;
mod error;
pub mod import;
mod price;
mod unpriced;
mod window;

pub use builtin::{builtin, read_prices};
pub use catalog::{Catalog, PriceKey};
pub use cost::{
    Bounds, Charge, Chargeable, Line, NotYet, Rated, affordable_output, affordable_output_within,
    charge, rate, worst_case, worst_case_within,
};
pub use error::Error;
pub use import::litellm_rates;
pub use price::{MeterSet, Price};
pub use unpriced::Unpriced;
pub use window::{Period, Window, Zone};

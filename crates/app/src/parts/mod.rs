//! The four parts that serve embedded or from outside, each chosen by whether the configuration names one:
//! the log, budget state, the usage tables, the answer cache (`cache.rs`).

pub mod budgets;
pub mod log;
pub mod tables;

//! The promises, each a story told through the public surface: HTTP, the command line, signals.

mod absent;
mod bad_input;
mod budgets;
mod cache;
mod cache_service;
mod crash;
mod demo;
mod foreign;
mod hangup;
mod https;
mod keys;
mod mend;
mod one_number;
mod prices;
mod providers;
mod record;
mod reference_configs;
mod reload;
mod restart;
mod roles;
mod sdk;
mod secured;
mod sql;
mod storm;
mod streaming;

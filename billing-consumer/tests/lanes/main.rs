//! The lanes over a real log, real budget state and the real engine; killed at every step; and the
//! protocol as a model.

mod audit;
mod broker;
mod budget;
mod engine;
mod gaps;
mod health;
mod kill;
mod model;
mod model_split;
mod processes;
mod retry;
mod store;
mod telling;
mod world;

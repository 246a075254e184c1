//! What the call path promises, told through HTTP.

mod aliases;
mod choosing;
mod endpoints;
mod failover;
mod headers;
mod health;
mod hedging;
mod limits;
mod management;
mod models;
mod odd;
mod operator;
mod params;
mod patience;
mod plain;
mod provider;
mod recovery;
mod reload;
mod shared;
mod shorten;
mod streams;
mod wire;
mod world;

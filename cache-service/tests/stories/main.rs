//! Stories of the cache, told through its public surface and with the real embedding model.

mod api;
mod exact;
mod flight;
mod remote;
mod restart;
mod semantic;
mod shared;
mod world;

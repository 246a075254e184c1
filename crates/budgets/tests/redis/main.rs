//! Budget state in Redis, against a real server: the suite that every backend passes, and what only
//! several processes and a dying server can show.

mod away;
mod crash;
mod flush;
mod over_tls;
mod processes;
mod random;
mod refused;
mod suite;
mod world;

//! What the log on a broker does when things go wrong, told on a real broker.

mod appends;
mod follow;
mod groups;
mod relays;
mod strays;
mod topics;
mod world;

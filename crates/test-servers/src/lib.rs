//! Real servers for tests, each on free loopback ports with a folder of its own: started, frozen,
//! killed, started again on the same data, and gone with the process that asked for them.
//!
//! Only for tests (a dev-dependency): panics where a server cannot be had, and says what is missing.

mod folder;
mod kafka;
mod port;
mod process;
pub mod redis;
pub mod secure;

pub use folder::Folder;
pub use kafka::Kafka;
pub use port::free_port;
pub use process::Process;
pub use redis::Redis;

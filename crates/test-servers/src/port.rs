//! Loopback ports that a server keeps over its restarts.

use std::net::{Ipv4Addr, TcpListener};

/// A free port below the range that the kernel gives to outgoing connections, so that nobody is given
/// it while the server is down.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let port = rand::random_range(15_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free loopback port")
}

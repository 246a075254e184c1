//! Loopback ports that a server keeps over its restarts.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// A free port below the range that the kernel gives to outgoing connections, so that nobody is given
/// it while the server is down; never the same again in this process, and hardly one that another process of
/// tests has just been given.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(61);
    let numbers = (0..1_000).map(|_| NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(first));
    // Those below are the gateways'.
    let mut ports = numbers.filter_map(|number| u16::try_from(20_000 + number % 12_000).ok());
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports
        .find(is_free)
        .unwrap_or_else(|| panic!("no free loopback port"))
}

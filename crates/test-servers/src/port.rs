//! Loopback ports that a server keeps over its restarts. No two servers of a test are given one, nor two tests that
//! run at the same time: a port is taken long before it is listened on.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use parking_lot::Mutex;

/// Below the ports that the kernel gives to outgoing connections.
const FIRST: u16 = 10_000;
const BLOCKS: u16 = 220;
/// Ports of a block. A process takes one block after the other.
const BLOCK: u16 = 100;

/// What this process has claimed. A claim is a lock on a file, which ends with the process.
static CLAIMED: Mutex<Claimed> = Mutex::new(Claimed {
    block: 0,
    used: BLOCK,
    locks: Vec::new(),
});

struct Claimed {
    block: u16,
    /// Ports of the block that were given away.
    used: u16,
    locks: Vec<File>,
}

/// A port that nobody listens on, and that this process gives nobody else.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let mut claimed = CLAIMED.lock();
    for _ in 0..BLOCKS * BLOCK {
        if claimed.used == BLOCK {
            claimed.next_block();
        }
        let port = FIRST + claimed.block * BLOCK + claimed.used;
        claimed.used += 1;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free loopback port")
}

impl Claimed {
    fn next_block(&mut self) {
        // Not all tests begin their search at one place.
        let from = rand::random_range(0..BLOCKS);
        let blocks = (0..BLOCKS).map(|at| (from + at) % BLOCKS);
        let claim = blocks
            .filter_map(|block| Some((block, lock(block)?)))
            .next();
        self.used = 0;
        match claim {
            Some((block, lock)) => {
                self.block = block;
                self.locks.push(lock);
            }
            // All are taken, or there is nowhere to say so: what is free is as good as can be had.
            None => self.block = from,
        }
    }
}

fn lock(block: u16) -> Option<File> {
    let folder = folder();
    std::fs::create_dir_all(&folder).ok()?;
    let file = File::create(folder.join(block.to_string())).ok()?;
    file.try_lock().ok().map(|()| file)
}

fn folder() -> PathBuf {
    std::env::temp_dir().join("tollgate-test-ports")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice_and_no_block_claimed_twice() {
        let ports: BTreeSet<u16> = (0..250).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 250);
        let claimed = CLAIMED.lock();
        if !claimed.locks.is_empty() {
            assert!(lock(claimed.block).is_none());
        }
    }
}

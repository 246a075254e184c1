//! The real engine in its child process: what the tables promise, and what the front refuses.
//!
//! The child is this test binary itself, since one process can hold one data directory only.

mod client;
mod front;
mod life;
mod tables;
mod world;

/// What the child runs; in a run of the tests it has nothing to do and passes.
#[test]
fn as_a_child_it_serves() {
    world::serve_if_child();
}

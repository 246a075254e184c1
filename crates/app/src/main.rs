//! The executable `tollgate`.
fn main() {}

//! Which deployment answers a call, and what is tried after it failed.

//! Which deployment answers a call, and what is tried after it failed.
//!
//! A [`Group`] is the deployments behind one name, and [`Group::choose`] takes one of them. [`Attempts`] is
//! the plan of one request: a state machine that is told how an attempt ended and says what comes next.
//! **One attempt budget and one deadline hold for the whole request; no combination of settings
//! multiplies attempts.**
//!
//! Does no IO, reads no clock and draws no random numbers: instants ([`Moment`]) and randomness are
//! arguments. State is a few atomics per deployment, so that every serving thread may share it.

mod ask;
mod attempts;
mod cooldown;
mod decayed;
mod deployment;
mod failure;
mod group;
pub mod measure;
mod moment;
mod rules;
mod schedule;
mod score;
mod tokens;

pub use ask::{Ask, Class, Member, Price, Window};
pub use attempts::{Attempts, GiveUp, Lookup, Place, Step, Try};
pub use deployment::{Deployment, Flight, Health, Probe, Spec, Status, Took};
pub use failure::Failure;
pub use group::{Group, NoChoice};
pub use moment::Moment;
pub use rules::{Overrides, Rules};
pub use tokens::{Encoding, count};

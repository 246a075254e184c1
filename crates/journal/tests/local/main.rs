//! Stories of the local journal: what survives which accident. Each file is one kind of accident.

mod consuming;
mod crash;
mod damage;
mod limits;
mod model;
mod support;

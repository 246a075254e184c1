//! The words behind `./tollgate bench`, and the hidden ones by which it starts its helpers.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: ./tollgate bench [gateway|stream|memory|journal|billing|start|cache|routing]… [--rounds N] [--quick]";

/// What this process is to be.
pub enum Arguments {
    Measure(Plan),
    /// `__forward ADDRESS`: the bare hyper forwarder in front of a provider.
    Forward(SocketAddr),
    /// `__on CORE PROGRAM …`: become that program, on that core.
    On(usize, Vec<String>),
}

/// What to measure, and for how long.
pub struct Plan {
    pub what: Vec<What>,
    /// Times that every contender gets its turn.
    pub rounds: usize,
    /// A look in under 40 seconds: shorter turns, fewer rounds.
    pub quick: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Gateway,
    Stream,
    Memory,
    Journal,
    Billing,
    Start,
    Cache,
    Routing,
}

impl What {
    const ALL: [Self; 8] = [
        Self::Gateway,
        Self::Stream,
        Self::Memory,
        Self::Journal,
        Self::Billing,
        Self::Start,
        Self::Cache,
        Self::Routing,
    ];

    fn named(word: &str) -> Result<Self> {
        Ok(match word {
            "gateway" => Self::Gateway,
            "stream" => Self::Stream,
            "memory" => Self::Memory,
            "journal" => Self::Journal,
            "billing" => Self::Billing,
            "start" => Self::Start,
            "cache" => Self::Cache,
            "routing" => Self::Routing,
            _ => bail!("unknown word {word:?}\n{USAGE}"),
        })
    }
}

impl Arguments {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut plan = Plan {
            what: Vec::new(),
            rounds: 0,
            quick: false,
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "__forward" => {
                    let to = words.next().context(USAGE)?;
                    return Ok(Self::Forward(to.parse().context(to)?));
                }
                "__on" => {
                    let core = words.next().context(USAGE)?;
                    return Ok(Self::On(core.parse().context(core)?, words.collect()));
                }
                "--quick" => plan.quick = true,
                "--rounds" => {
                    let rounds = words.next().context(USAGE)?;
                    plan.rounds = rounds.parse().ok().filter(|r| *r > 0).with_context(|| {
                        format!("--rounds wants a number above zero, not {rounds:?}")
                    })?;
                }
                "-h" | "--help" => bail!("{USAGE}"),
                word => plan.what.push(What::named(word)?),
            }
        }
        if plan.what.is_empty() {
            plan.what = What::ALL.to_vec();
        }
        if plan.rounds == 0 {
            plan.rounds = if plan.quick { 2 } else { 5 };
        }
        Ok(Self::Measure(plan))
    }
}

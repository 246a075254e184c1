//! The rules over all names.

use std::fmt::{Result, Write as _};

use crate::{Looks, Routing};

pub(super) fn write(out: &mut String, routing: &Routing) -> Result {
    write!(out, "routing\n  {}", routing.strategy.name())?;
    if let Some(then) = routing.then {
        write!(out, ", then {}", then.name())?;
    }
    writeln!(out)?;
    let cooldown = &routing.cooldown;
    if cooldown.disabled {
        writeln!(out, "  no cooldowns")?;
    } else {
        let rests = cooldown.time.as_secs_f64();
        match cooldown.allowed_fails {
            Some(fails) => writeln!(
                out,
                "  a deployment that fails more than {fails} times in a minute rests for {rests} s"
            )?,
            None => writeln!(
                out,
                "  a deployment that fails several times in a row, or half of a minute's calls, rests for {rests} s"
            )?,
        }
    }
    writeln!(
        out,
        "  a call ends within {} s, a streamed one within {} s, however many attempts it takes",
        routing.deadline.as_secs_f64(),
        routing.deadline_stream.as_secs_f64()
    )?;
    if !routing.weights.is_empty() {
        let shares: Vec<_> = routing
            .weights
            .iter()
            .map(|(name, weight)| format!("{name} {weight}"))
            .collect();
        writeln!(
            out,
            "  one pool for each of its names: {}",
            shares.join(", ")
        )?;
    }
    if let Some(usd) = routing.cost_threshold {
        writeln!(
            out,
            "  calls up to {usd} USD go to the cheapest deployment of any name"
        )?;
    }
    if let Some(tokens) = routing.context_threshold {
        writeln!(
            out,
            "  prompts over {tokens} tokens go to a long-context deployment of any name"
        )?;
    }
    if routing.pre_call_checks {
        writeln!(out, "  a prompt goes only where it fits")?;
    }
    if routing.tag_filtering {
        let how = if routing.tags_match_any {
            "one of"
        } else {
            "all of"
        };
        writeln!(out, "  only deployments with {how} the tags of a request")?;
    }
    if routing.sticky_by_prompt {
        writeln!(
            out,
            "  calls with the same system prompt stay at one deployment"
        )?;
    } else if routing.sticky_sessions {
        writeln!(out, "  a session stays at one deployment")?;
    }
    let every = routing.health.interval.as_secs_f64();
    match routing.health.looks {
        Looks::None => {}
        Looks::Free => writeln!(out, "  deployments are checked every {every} s, at no cost")?,
        Looks::All => writeln!(
            out,
            "  deployments are checked every {every} s, at no cost but where one asks for a call"
        )?,
    }
    Ok(())
}

//! Turns: within a round every contender is measured once, so that what the machine does meanwhile
//! touches all alike. Figures are medians over the rounds, ratios medians of ratios within a round.

use anyhow::Result;

use crate::arguments::Plan;
use crate::contender::{Contender, Lineup};
use crate::load::median;
use crate::mock::Provider;

/// What was measured: for each contender, in each round, if it held out.
pub struct Rounds<T> {
    turns: Vec<Vec<Option<T>>>,
}

impl<T> Rounds<T> {
    /// Gives every contender its turn in every round. Who fails is left out from then on.
    pub fn take(
        plan: &Plan,
        lineup: &mut Lineup,
        mut turn: impl FnMut(&mut Provider, &Contender) -> Result<T>,
    ) -> Self {
        let count = lineup.contenders.len();
        let mut turns: Vec<Vec<Option<T>>> = (0..count).map(|_| Vec::new()).collect();
        let mut out = vec![false; count];
        for round in 0..plan.rounds {
            eprintln!("  round {} of {}", round + 1, plan.rounds);
            for place in 0..count {
                // Another one begins each time.
                let at = (place + round) % count;
                let contender = &lineup.contenders[at];
                let outcome = if out[at] {
                    None
                } else {
                    Some(turn(&mut lineup.provider, contender))
                };
                turns[at].push(match outcome {
                    Some(Ok(figures)) => Some(figures),
                    Some(Err(error)) => {
                        out[at] = true;
                        let reason = format!("failed under load: {error:#}");
                        lineup.absent.push((contender.name.clone(), reason));
                        None
                    }
                    None => None,
                });
            }
        }
        Self { turns }
    }

    /// The median of a contender.
    pub fn of(&self, contender: usize, figure: impl Fn(&T) -> f64) -> f64 {
        median(self.turns[contender].iter().flatten().map(figure))
    }

    /// The largest of all.
    pub fn worst(&self, figure: impl Fn(&T) -> f64) -> f64 {
        self.turns
            .iter()
            .flatten()
            .flatten()
            .map(figure)
            .fold(0.0, f64::max)
    }

    /// The median of a contender in terms of the first one, nginx.
    pub fn ratio(&self, contender: usize, figure: impl Fn(&T) -> f64) -> f64 {
        let pairs = self.turns[contender].iter().zip(&self.turns[0]);
        median(
            pairs.filter_map(|(own, nginx)| Some(figure(own.as_ref()?) / figure(nginx.as_ref()?))),
        )
    }
}

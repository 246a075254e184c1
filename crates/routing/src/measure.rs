//! What a choice costs, for `tollgate bench`. Prints nothing itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Routing, Strategy};
use schemas::NanoUsd;

use crate::{Ask, Attempts, Deployment, Group, Member, Moment, Overrides, Rules, Spec, Step, Took};

/// One measurement: whole calls (plan, choice, begin, success) on one thread.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub deployments: usize,
    pub strategy: Strategy,
    pub calls: u64,
    pub took: Duration,
}

impl Measured {
    #[must_use]
    pub fn per_call(&self) -> Duration {
        self.took / u32::try_from(self.calls).unwrap_or(u32::MAX).max(1)
    }
}

/// Routes `calls` calls over as many healthy deployments as told. The clock is read for the result only.
#[must_use]
pub fn choices(deployments: usize, strategy: Strategy, calls: u64) -> Measured {
    let rules = Arc::new(Rules(Routing {
        strategy,
        ..Routing::default()
    }));
    let members = (0..deployments)
        .map(|at| Member {
            deployment: Arc::new(Deployment::new(Spec {
                id: format!("measured-{at}").into(),
                ..Spec::default()
            })),
            served: (),
        })
        .collect();
    let group = Arc::new(Group::new("measured".into(), members, &rules, None));
    let price = |(): &()| Some(NanoUsd(1_000));
    let ask = Ask {
        cost: Some(&price),
        ..Ask::default()
    };
    let began = Instant::now();
    for call in 0..calls {
        let now = Moment(1_000_000 + call);
        let mut plan = Attempts::new(
            rules.clone(),
            group.clone(),
            None,
            Overrides::default(),
            now.plus(Duration::from_secs(600)),
        );
        let random = call.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if let Step::Try(attempt) = plan.first(&ask, now, random, &|_| None)
            && let Some(member) = attempt.group.members().get(attempt.at)
        {
            let flight = member.deployment.begin(now);
            member.deployment.succeeded(Took::default(), now);
            drop(flight);
        }
    }
    Measured {
        deployments,
        strategy,
        calls,
        took: began.elapsed(),
    }
}

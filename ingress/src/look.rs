//! A call of our own to one deployment, to see whether it answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::FailureKind;
use routing::{Group, Member, Step};
use schemas::Stages;

use crate::Worker;
use crate::admit::{self, Admission, Origin};
use crate::call::InFlight;
use crate::directory::Principal;
use crate::exchange::{Exchange, Ready};
use crate::failover::Failed;
use crate::models::Served;
use crate::plan::{Event, Plan};
use crate::probe;
use crate::request::ModelRequest;

/// A call of ours to one deployment, to see whether it answers: admitted, recorded and billed like any other, to
/// the operator. None: it could not be made, so nothing is known.
pub async fn look(
    worker: &Arc<Worker>,
    request: &ModelRequest,
    served: Arc<Served>,
    timeout: Duration,
) -> Option<bool> {
    let gateway = &worker.gateway;
    let flight = InFlight::enter(gateway);
    let (now, started) = (gateway.now(), Instant::now());
    let models = gateway.models.load_full();
    let member = Member {
        deployment: served.deployment.state.clone(),
        served: served.clone(),
    };
    let name = served.shown.name.clone();
    let group = Group::new(name, vec![member], &models.rules, None);
    let deadline = gateway.moment_of(started).plus(timeout);
    let mut plan = Plan::alone(models, Arc::new(group), deadline);
    if let Step::GiveUp(_) = plan.step(gateway, &Event::Begun) {
        return None;
    }
    let origin = Origin {
        caller: &Principal::master(),
        id: None,
        call_id: None,
        end_user: None,
        tags: vec![probe::TAG.into()],
        metadata: None,
        now,
        started,
        timeout,
        budgets: &plan.config().budgets,
        stages: Stages::default(),
    };
    let admission = admit::admit(gateway, origin, request, &served).await;
    let Admission { call, cap } = admission.ok()?;
    let ready = Ready {
        call,
        cap,
        plan,
        served,
    };
    let times = (started, started, timeout);
    let mut exchange = Exchange::of(worker, request, ready, times, flight);
    if exchange.served.deployment.limits.is_some() {
        // Without room for it, it is busy: that is no illness.
        exchange.make_room(request).await.ok()?;
    }
    let failed = match exchange.attempt(request).await {
        Ok(_) => return Some(true),
        Err(failed) => *failed,
    };
    let Failed {
        error,
        reading,
        failure,
    } = failed;
    let failure = failure?;
    exchange.count_failure(failure.kind, error.status().as_u16());
    let (took, now) = (exchange.dispatched.elapsed(), gateway.moment());
    exchange.plan.attempts().broke(&failure, took, now);
    exchange.end(error, reading).await;
    Some(failure.kind == FailureKind::RateLimit || !failure.is_deployments())
}

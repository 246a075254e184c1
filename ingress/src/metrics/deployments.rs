//! What the metrics tell of each deployment: its calls, and how it does.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use routing::Status;

use super::DeploymentMetrics;
use super::text::{escape, head};
use crate::Gateway;
use crate::models::Deployment;

type Count = fn(&DeploymentMetrics) -> &AtomicU64;
/// None: nobody knows yet.
type Gauge = fn(&Status) -> Option<f64>;

const COUNTERS: [(&str, &str, Count); 5] = [
    (
        "litellm_deployment_total_requests",
        "Calls sent to a deployment.",
        |m| &m.requests,
    ),
    (
        "litellm_deployment_success_responses",
        "Answers of a deployment.",
        |m| &m.successes,
    ),
    (
        "litellm_deployment_failure_responses",
        "Calls that a deployment failed.",
        |m| &m.failures,
    ),
    (
        "litellm_deployment_successful_fallbacks",
        "Calls that a deployment answered in the place of another name.",
        |m| &m.fallbacks,
    ),
    (
        "litellm_deployment_failed_fallbacks",
        "Calls that ended with the failure of a deployment in the place of another name.",
        |m| &m.failed_fallbacks,
    ),
];

const GAUGES: [(&str, &str, Gauge); 6] = [
    (
        "litellm_deployment_state",
        "0: healthy, 1: some calls of this minute failed, 2: left alone or found down.",
        |s| Some(f64::from(s.health as u8)),
    ),
    (
        "tollgate_deployment_cooldown_seconds",
        "What is left of the time that a deployment is left alone.",
        |s| Some(s.cooled_for.map_or(0.0, |left| left.as_secs_f64())),
    ),
    (
        "tollgate_deployment_in_flight",
        "Calls that a deployment is busy with.",
        |s| Some(f64::from(s.in_flight)),
    ),
    (
        "tollgate_deployment_time_to_first_token_seconds",
        "Time to the first token, recent calls weighing more.",
        |s| s.first_token_s.map(f64::from),
    ),
    (
        "tollgate_deployment_seconds_per_output_token",
        "Seconds per token of output, recent calls weighing more.",
        |s| s.per_token_s.map(f64::from),
    ),
    (
        "tollgate_deployment_checked_seconds_ago",
        "Age of the last health check.",
        |s| s.checked.map(|ago| ago.as_secs_f64()),
    ),
];

/// All of it.
pub(super) fn write(out: &mut String, gateway: &Gateway) {
    let models = gateway.models.load();
    for (name, help, of) in COUNTERS {
        head(out, name, "counter", help);
        for (group, deployment) in models.deployments() {
            let count = of(&deployment.metrics).load(Relaxed);
            line(out, name, group, deployment, &count);
        }
    }
    let now = gateway.moment();
    let statuses: Vec<_> = models
        .deployments()
        .map(|(group, deployment)| (group, deployment, deployment.state.status(now)))
        .collect();
    let name = "litellm_deployment_cooled_down";
    head(
        out,
        name,
        "counter",
        "How often a deployment was left alone.",
    );
    for (group, deployment, status) in &statuses {
        line(out, name, group, deployment, &status.cooldowns);
    }
    for (name, help, of) in GAUGES {
        head(out, name, "gauge", help);
        for (group, deployment, status) in &statuses {
            if let Some(value) = of(status) {
                line(out, name, group, deployment, &value);
            }
        }
    }
}

fn line(
    out: &mut String,
    name: &str,
    group: &str,
    deployment: &Deployment,
    value: &dyn std::fmt::Display,
) {
    let _ = writeln!(
        out,
        "{name}{{model_group=\"{}\",model_id=\"{}\",api_provider=\"{}\"}} {value}",
        escape(group),
        escape(&deployment.id),
        escape(&deployment.provider),
    );
}

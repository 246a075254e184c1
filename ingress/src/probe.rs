//! The active look at deployments: each provider's list of models, which costs nothing, every so often.
//! Never a paid call.

use std::sync::Arc;
use std::time::Duration;

use config::Dialect;

use crate::Gateway;
use crate::models::Deployment;
use crate::upstream::trust::Clients;

/// One that has not told its models by then is down.
const PATIENCE: Duration = Duration::from_secs(10);
/// A large file does not set off a thousand calls at once.
const AT_ONCE: usize = 16;

/// Looks at all deployments again and again, until it is dropped.
pub async fn watch(gateway: Arc<Gateway>) {
    let interval = gateway.config.routing.health.interval;
    let mut due = tokio::time::interval(interval);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let clients = Clients::default();
    loop {
        due.tick().await;
        let models = gateway.models.load_full();
        let mut looks = tokio::task::JoinSet::new();
        for (_, deployment) in models.deployments() {
            if looks.len() >= AT_ONCE {
                let _ = looks.join_next().await;
            }
            let trust = &deployment.entry.shape.trust;
            let client = clients.get(trust, deployment.authorities.as_ref(), |builder| {
                builder.timeout(PATIENCE)
            });
            let client = match client {
                Ok(client) => client,
                Err(error) => {
                    tracing::error!(deployment = %deployment.id, "a deployment cannot be looked at: {error}");
                    continue;
                }
            };
            let deployment = deployment.clone();
            looks.spawn(async move { look(&client, &deployment).await });
        }
        while looks.join_next().await.is_some() {}
    }
}

async fn look(client: &reqwest::Client, deployment: &Deployment) {
    let entry = &deployment.entry;
    if !matches!(entry.dialect, Dialect::OpenAi | Dialect::Azure) {
        return;
    }
    let answer = client
        .get(format!("{}/models", entry.api_base))
        .headers(deployment.headers.clone())
        .send()
        .await;
    // A server without such a list says so, and is there.
    let up = answer.is_ok_and(|answer| {
        let status = answer.status();
        !status.is_server_error() && !matches!(status.as_u16(), 401 | 403)
    });
    let before = deployment.state.probe();
    deployment.state.probed(up);
    if !up && before != routing::Probe::Down {
        tracing::warn!(deployment = %deployment.id, "a deployment does not answer its health check");
    }
}

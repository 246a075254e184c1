//! The active look at deployments: each provider's list of models, which costs nothing, every so often, once for
//! all deployments that are at one place under one key. Where the file and a deployment ask for it, a call of
//! its own instead, admitted, recorded and billed like any other: to the operator, under the tag [`TAG`].
//!
//! Never a paid call that the file does not ask for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Dialect, Looks, PaidCheck};
use http::StatusCode;
use schemas::Text;
use serde_json::json;

use crate::endpoint::Endpoint;
use crate::models::{Deployment, Served};
use crate::request::ModelRequest;
use crate::upstream::trust::Clients;
use crate::{Worker, look};

/// One that has not answered by then is down.
const PATIENCE: Duration = Duration::from_secs(10);
/// By which paid looks are found in usage; LiteLLM's word.
pub const TAG: &str = "litellm-internal-health-check";

/// How soon a file that wants looks again is noticed.
const NOTICED: Duration = Duration::from_secs(1);

/// Looks at all deployments again and again while the file does not forbid it, until it is dropped.
pub async fn watch(worker: Arc<Worker>) {
    let gateway = worker.gateway.clone();
    let clients = Clients::default();
    let mut paid_at: Option<Instant> = None;
    let mut begun = false;
    loop {
        let models = gateway.models.load_full();
        let health = &models.config.routing.health;
        let next = tokio::time::Instant::now() + health.interval;
        let all = health.looks == Looks::All;
        if health.looks == Looks::None {
            tokio::time::sleep(NOTICED).await;
            continue;
        }
        if !std::mem::replace(&mut begun, true) && !all {
            // Nobody asked: a gateway that is tried out for a moment calls nobody.
            tokio::time::sleep_until(next).await;
            continue;
        }
        // Half a round early is on time.
        let pay = all
            && paid_at.is_none_or(|at| at.elapsed() + health.interval / 2 >= health.interval_paid);
        if pay {
            paid_at = Some(Instant::now());
        }
        let mut looks = tokio::task::JoinSet::new();
        let mut free: HashMap<Vec<u8>, Vec<Arc<Deployment>>> = HashMap::new();
        for (name, deployment) in models.deployments() {
            let check = &deployment.entry.hints.check;
            match &check.paid {
                _ if check.disabled => {}
                Some(_) if all && !pay => {}
                Some(paid) if all => {
                    make_room(&mut looks, health.at_once).await;
                    let (worker, name) = (worker.clone(), name.clone());
                    let (deployment, paid) = (deployment.clone(), paid.clone());
                    looks.spawn(async move {
                        let patience = patience(&deployment);
                        let found = self::pay(&worker, &name, &deployment, &paid, patience).await;
                        told(&worker, &[deployment], found);
                    });
                }
                _ => free
                    .entry(place(deployment))
                    .or_default()
                    .push(deployment.clone()),
            }
        }
        for same in free.into_values() {
            let Some(one) = same.first().cloned() else {
                continue;
            };
            let trust = &one.entry.shape.trust;
            let client = match clients.get(
                trust,
                one.authorities.as_ref(),
                one.entry.timeouts.connect,
            ) {
                Ok(client) => client,
                Err(error) => {
                    tracing::error!(deployment = %one.id, "a deployment cannot be looked at: {error}");
                    continue;
                }
            };
            make_room(&mut looks, health.at_once).await;
            let worker = worker.clone();
            looks.spawn(async move {
                let found = ask(&client, &one, patience(&one)).await;
                told(&worker, &same, found);
            });
        }
        while looks.join_next().await.is_some() {}
        tokio::time::sleep_until(next).await;
    }
}

/// Waits until one look more may be on its way.
async fn make_room(looks: &mut tokio::task::JoinSet<()>, at_once: usize) {
    if looks.len() >= at_once {
        let _ = looks.join_next().await;
    }
}

fn patience(deployment: &Deployment) -> Duration {
    deployment.entry.hints.check.timeout.unwrap_or(PATIENCE)
}

/// What a look depends on: deployments that share it are looked at once, however many they are.
fn place(deployment: &Deployment) -> Vec<u8> {
    let entry = &deployment.entry;
    let shape = format!("{:?} {:?}", entry.dialect, entry.shape.trust);
    let patience = patience(deployment).as_millis().to_le_bytes();
    let mut place = [entry.api_base.as_bytes(), shape.as_bytes(), &patience].join(&0);
    for (name, value) in &deployment.headers {
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            place.push(0);
            place.extend_from_slice(part);
        }
    }
    place
}

fn told(worker: &Worker, deployments: &[Arc<Deployment>], found: Option<bool>) {
    let Some(up) = found else { return };
    let now = worker.gateway.moment();
    for deployment in deployments {
        let before = deployment.state.probe();
        deployment.state.probed(up, now);
        if !up && before != routing::Probe::Down {
            tracing::warn!(deployment = %deployment.id, "a deployment does not answer its health check");
        }
    }
}

/// The list of models. None: there is nothing to ask, or a key that may call models may not list them.
async fn ask(
    client: &reqwest::Client,
    deployment: &Deployment,
    patience: Duration,
) -> Option<bool> {
    let entry = &deployment.entry;
    if !matches!(entry.dialect, Dialect::OpenAi | Dialect::Azure) {
        return None;
    }
    let answer = client
        .get(format!("{}/models", entry.api_base))
        .headers(deployment.headers.clone())
        .timeout(patience)
        .send()
        .await;
    let Ok(answer) = answer else {
        return Some(false);
    };
    match answer.status() {
        StatusCode::FORBIDDEN => None,
        StatusCode::UNAUTHORIZED => Some(false),
        // A server without such a list says so, and is there.
        status => Some(!status.is_server_error()),
    }
}

/// A call of its own. None: it could not be made, so nothing is known.
async fn pay(
    worker: &Arc<Worker>,
    name: &Text,
    deployment: &Arc<Deployment>,
    paid: &PaidCheck,
    patience: Duration,
) -> Option<bool> {
    let entry = &deployment.entry;
    let model = paid.model.as_deref().unwrap_or(&entry.upstream_model);
    // As LiteLLM has it: with the provider's prefix.
    let model = match model.split_once('/') {
        Some((provider, rest)) if provider == entry.provider => rest,
        _ => model,
    };
    if model.contains('*') {
        return None;
    }
    let body = json!({
        "model": &**name,
        "messages": [{ "role": "user", "content": "Hi" }],
        "max_tokens": paid.max_tokens,
    });
    let request = ModelRequest::parse(Endpoint::Chat, body.to_string().into(), None).ok()?;
    let served = Arc::new(Served::of(deployment.clone(), model, name).ok()?);
    look::look(worker, &request, served, patience).await
}

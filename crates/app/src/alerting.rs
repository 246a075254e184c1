//! Posts alerts where the configuration says. An alert that cannot be posted is logged like every other; no
//! call ever waits for one.

use std::time::Duration;

use anyhow::{Context, Result};
use config::{AlertPost, AlertShape};
use ingress::Gateway;
use ingress::alerts::Alert;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const TIMEOUT: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;
/// Before another try; doubled each time.
const AGAIN: Duration = Duration::from_secs(1);

/// The running desk.
pub struct Desk {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Starts it, where the configuration asks for alerts.
///
/// # Errors
/// No HTTP client can be made.
pub fn start(gateway: &Gateway) -> Result<Option<Desk>> {
    let Some(alerts) = &gateway.alerts else {
        return Ok(None);
    };
    let Some(mut inbox) = alerts.inbox() else {
        return Ok(None);
    };
    let posts = alerts.posts().to_vec();
    // The second time it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(TIMEOUT).build();
    let client = client.context("alerts cannot be posted")?;
    let (stop, mut stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        loop {
            let alert = tokio::select! {
                biased;
                alert = inbox.recv() => alert,
                _ = &mut stopped => None,
            };
            let Some(alert) = alert else { return };
            tracing::warn!(alert = alert.kind.name(), "{}", alert.message);
            for post in posts.iter().filter(|post| alert.goes_to(post)) {
                send(&client, post, &alert).await;
            }
        }
    });
    Ok(Some(Desk { stop, task }))
}

impl Desk {
    /// What has been raised is posted; then it ends.
    pub async fn close(self) {
        let _ = self.stop.send(());
        let longest = TIMEOUT.saturating_mul(2);
        if tokio::time::timeout(longest, self.task).await.is_err() {
            tracing::warn!("some alerts were not posted in time");
        }
    }
}

async fn send(client: &reqwest::Client, post: &AlertPost, alert: &Alert) {
    let body = match post.shape {
        AlertShape::Slack => {
            json!({ "text": format!("*{}*: {}", alert.kind.name(), alert.message) })
        }
        AlertShape::Webhook => alert.webhook(),
    };
    let mut wait = AGAIN;
    for attempt in 1..=TRIES {
        let sent = client.post(post.url.expose()).json(&body).send().await;
        let fault = match sent {
            Ok(answer) if answer.status().is_success() => return,
            Ok(answer) => format!("it was answered {}", answer.status()),
            // Without the URL, which is a key.
            Err(error) => error.without_url().to_string(),
        };
        if attempt == TRIES {
            tracing::warn!("an alert could not be posted: {fault}");
            return;
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
}

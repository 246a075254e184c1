//! Keys that the file brings along: put on the config log at start, where they differ from it.

use schemas::{ConfigEntity, KeyHash, Micros, Text};

use super::changes;
use crate::Gateway;
use crate::auth::shorten;
use crate::directory::KeyRecord;
use crate::error::Error;

/// Appends one event for each key of the file that is new or whose limits the file has changed. What
/// was set through the API on fields that the file does not have stays.
///
/// # Errors
/// When the config log cannot take an event.
pub async fn seed(gateway: &Gateway, keys: &[config::SeedKey], now: Micros) -> Result<(), Error> {
    let _one_at_a_time = gateway.directory.changes.lock().await;
    for seed in keys {
        let hash = KeyHash::of(seed.key.expose());
        let known = gateway.directory.key(&hash);
        let mut key = known.as_deref().cloned().unwrap_or_else(|| {
            let mut key = KeyRecord {
                key_name: shorten(seed.key.expose()).into(),
                created_at: now,
                updated_at: now,
                created_by: "file".into(),
                updated_by: "file".into(),
                ..KeyRecord::default()
            };
            key.quota.anchor = now;
            key.of(hash)
        });
        apply(&mut key, seed);
        if known.as_deref() != Some(&key) {
            key.updated_at = now;
            changes::put(
                gateway,
                ConfigEntity::Key,
                &hash.to_string(),
                &key,
                "file",
                now,
            )
            .await?;
        }
    }
    Ok(())
}

fn apply(key: &mut KeyRecord, seed: &config::SeedKey) {
    let text = |text: &Option<String>| text.as_deref().map(Text::from);
    key.key_alias = text(&seed.key_alias).or(key.key_alias.take());
    key.team_id = text(&seed.team_id).or(key.team_id.take());
    key.user_id = text(&seed.user_id).or(key.user_id.take());
    key.models = seed
        .models
        .iter()
        .map(|model| model.as_str().into())
        .collect();
    key.quota.max_budget = seed.max_budget;
    key.quota.budget_duration = seed
        .budget_period
        .map(|period| crate::directory::period_word(&period));
    key.quota.rpm_limit = seed.rpm_limit;
    key.quota.tpm_limit = seed.tpm_limit;
    key.quota.max_parallel_requests = seed.max_parallel_requests.map(u64::from);
}

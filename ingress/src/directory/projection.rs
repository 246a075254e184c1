//! The directory as what its topic makes: applied record by record, and frozen into a copy.

use std::sync::Arc;

use schemas::{ConfigEntity, ConfigEvent, ConfigOp, Event, Micros, Text, Topic};
use serde::Serialize;

use super::{Directory, Records};
use crate::follow::{Frozen, Projection};

impl Projection for Arc<Directory> {
    const TOPIC: Topic = Topic::Config;
    const NAME: &'static str = "config";
    const READS: u16 = 2;

    fn apply(&self, version: u64, body: &[u8]) -> Result<(), String> {
        let event = ConfigEvent::from_body(body).map_err(|error| error.to_string())?;
        Directory::apply(self, version, &event).map_err(|error| error.to_string())
    }

    fn clear(&self) {
        *self.records.write() = Records::default();
        self.version.store(0, std::sync::atomic::Ordering::Release);
        self.models.send_replace(0);
    }

    /// Only the pointers are taken under the lock: calls need it.
    fn freeze(&self) -> Frozen {
        let (keys, teams, users, models): (Vec<_>, Vec<_>, Vec<_>, Vec<_>) = {
            let records = self.records.read();
            (
                records.keys.values().cloned().collect(),
                records.teams.values().cloned().collect(),
                records.users.values().cloned().collect(),
                records.models.values().cloned().collect(),
            )
        };
        let version = self.version();
        Box::new(move |give| {
            let mut put = |entity, id: Text, body: Option<Text>| {
                if let Some(body) = body {
                    give(version, &event(entity, id, body).body());
                }
            };
            for team in teams {
                put(ConfigEntity::Team, team.team_id.clone(), json(&*team));
            }
            for user in users {
                put(ConfigEntity::User, user.user_id.clone(), json(&*user));
            }
            for model in models {
                let id = model.model_id.clone();
                put(ConfigEntity::Model, id, json(&*model));
            }
            for key in keys {
                put(ConfigEntity::Key, key.hash.to_string().into(), json(&*key));
            }
        })
    }
}

/// Records of strings, numbers and maps of JSON: this cannot fail.
fn json(record: &impl Serialize) -> Option<Text> {
    serde_json::to_string(record).ok().map(Into::into)
}

fn event(entity: ConfigEntity, id: Text, body: Text) -> ConfigEvent {
    ConfigEvent {
        event_time: Micros(0),
        entity,
        id,
        op: ConfigOp::Put,
        body,
        actor: "snapshot".into(),
    }
}

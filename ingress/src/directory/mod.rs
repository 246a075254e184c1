//! Who may call, and within what limits: the key table in memory, a projection of the config log.
//!
//! Deleting it costs nothing: [`Directory::apply`] over the log from its start makes it again. It never
//! holds the text of a key, and no request ever waits for a change to it.

mod principal;
mod projection;
mod quota;
mod records;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use metering::Zone;
use parking_lot::RwLock;
use schemas::{ConfigEntity, ConfigEvent, ConfigOp, KeyHash, Text};
use tokio::sync::watch;

pub use principal::{Principal, Role};
pub use quota::Quota;
pub(crate) use quota::period_word;
pub use records::{KeyRecord, Member, ModelRecord, TeamRecord, UserRecord};

/// Why an event of the config log was not understood. The event stays in the log; the state before
/// it stays in force.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("{entity} {id}: {reason}")]
    Unreadable {
        entity: &'static str,
        id: Text,
        reason: String,
    },
}

/// The records in force, shared by all threads.
pub struct Directory {
    records: RwLock<Records>,
    /// Sequence number of the last event applied.
    version: AtomicU64,
    /// One change at a time: a change reads, decides, appends, then applies.
    pub(crate) changes: tokio::sync::Mutex<()>,
    pub(crate) zone: Zone,
    /// The budget over everything, from the file.
    pub(crate) global: ArcSwap<Quota>,
    /// Budgets of those who have none of their own, from the file.
    pub(crate) defaults: ArcSwap<Defaults>,
    /// Sequence number of the last event about a model.
    models: watch::Sender<u64>,
}

/// What the file gives those who have no budget of their own.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Defaults {
    /// Each user that a key names.
    pub user: Option<Quota>,
    /// Each customer that a call names.
    pub end_user: Option<Quota>,
}

#[derive(Default)]
struct Records {
    keys: HashMap<KeyHash, Arc<KeyRecord>>,
    teams: HashMap<Text, Arc<TeamRecord>>,
    users: HashMap<Text, Arc<UserRecord>>,
    models: HashMap<Text, Arc<ModelRecord>>,
}

impl Directory {
    /// Empty, before the log is read. `zone` is where days, weeks and months begin.
    #[must_use]
    pub fn new(zone: Zone, global: Quota) -> Self {
        Self {
            records: RwLock::default(),
            version: AtomicU64::new(0),
            changes: tokio::sync::Mutex::default(),
            zone,
            global: ArcSwap::from_pointee(global),
            defaults: ArcSwap::default(),
            models: watch::Sender::new(0),
        }
    }

    /// Other budgets of the file. The same ones keep their windows.
    pub(crate) fn set_budgets(&self, budgets: &config::Budgets) {
        let global = Quota::global(budgets);
        if **self.global.load() != global {
            self.global.store(Arc::new(global));
        }
        let of = |usd: Option<_>, period| usd.map(|usd| Quota::budget(Some(usd), period));
        let defaults = Defaults {
            user: of(budgets.user_budget, budgets.user_period.as_ref()),
            end_user: of(budgets.end_user_budget, None),
        };
        if **self.defaults.load() != defaults {
            self.defaults.store(Arc::new(defaults));
        }
    }

    /// Puts one event of the log into force.
    ///
    /// # Errors
    /// When the event's body cannot be read; nothing changes then.
    pub fn apply(&self, version: u64, event: &ConfigEvent) -> Result<(), DirectoryError> {
        let unreadable = |reason: String| DirectoryError::Unreadable {
            entity: event.entity.name(),
            id: event.id.clone(),
            reason,
        };
        match event.entity {
            ConfigEntity::Key => {
                let hash = KeyHash::from_hex(&event.id)
                    .ok_or_else(|| unreadable("not a key hash".into()))?;
                match event.op {
                    ConfigOp::Delete => drop(self.records.write().keys.remove(&hash)),
                    ConfigOp::Put => {
                        let record = KeyRecord::read(hash, &event.body).map_err(unreadable)?;
                        self.records.write().keys.insert(hash, Arc::new(record));
                    }
                }
            }
            ConfigEntity::Team => match event.op {
                ConfigOp::Delete => drop(self.records.write().teams.remove(&event.id)),
                ConfigOp::Put => {
                    let record = TeamRecord::read(&event.id, &event.body).map_err(unreadable)?;
                    self.records
                        .write()
                        .teams
                        .insert(event.id.clone(), Arc::new(record));
                }
            },
            ConfigEntity::User => match event.op {
                ConfigOp::Delete => drop(self.records.write().users.remove(&event.id)),
                ConfigOp::Put => {
                    let record = UserRecord::read(&event.id, &event.body).map_err(unreadable)?;
                    self.records
                        .write()
                        .users
                        .insert(event.id.clone(), Arc::new(record));
                }
            },
            ConfigEntity::Model => {
                match event.op {
                    ConfigOp::Delete => drop(self.records.write().models.remove(&event.id)),
                    ConfigOp::Put => {
                        let record =
                            ModelRecord::read(&event.id, &event.body).map_err(unreadable)?;
                        self.records
                            .write()
                            .models
                            .insert(event.id.clone(), Arc::new(record));
                    }
                }
                self.models.send_replace(version);
            }
            // Entities of a later version: kept in the log, without effect here.
            ConfigEntity::Unknown
            | ConfigEntity::Organization
            | ConfigEntity::Budget
            | ConfigEntity::Setting => {}
        }
        self.version.fetch_max(version, Ordering::Release);
        Ok(())
    }

    /// Sequence number of the last event in force.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn key(&self, hash: &KeyHash) -> Option<Arc<KeyRecord>> {
        self.records.read().keys.get(hash).cloned()
    }

    #[must_use]
    pub fn team(&self, id: &str) -> Option<Arc<TeamRecord>> {
        self.records.read().teams.get(id).cloned()
    }

    #[must_use]
    pub fn user(&self, id: &str) -> Option<Arc<UserRecord>> {
        self.records.read().users.get(id).cloned()
    }

    #[must_use]
    pub fn model(&self, id: &str) -> Option<Arc<ModelRecord>> {
        self.records.read().models.get(id).cloned()
    }

    /// All models of the log, oldest first, and the version that made them so.
    #[must_use]
    pub fn models(&self) -> (Vec<Arc<ModelRecord>>, u64) {
        // First the version: what comes between is then put into force once more.
        let version = self.models_version();
        let mut models: Vec<_> = self.records.read().models.values().cloned().collect();
        models.sort_by(|a, b| {
            let age = a.created_at.cmp(&b.created_at);
            age.then_with(|| a.model_id.cmp(&b.model_id))
        });
        (models, version)
    }

    /// Sequence number of the last event about a model in force.
    #[must_use]
    pub fn models_version(&self) -> u64 {
        *self.models.borrow()
    }

    /// Tells of each change of a model.
    #[must_use]
    pub fn models_changed(&self) -> watch::Receiver<u64> {
        self.models.subscribe()
    }

    /// The key of an alias. A scan: aliases are for management, never for calls.
    #[must_use]
    pub fn key_of_alias(&self, alias: &str) -> Option<Arc<KeyRecord>> {
        let records = self.records.read();
        records
            .keys
            .values()
            .find(|key| key.key_alias.as_deref() == Some(alias))
            .cloned()
    }

    /// All keys, newest first.
    #[must_use]
    pub fn keys(&self) -> Vec<Arc<KeyRecord>> {
        let mut keys: Vec<_> = self.records.read().keys.values().cloned().collect();
        keys.sort_by(|a, b| b.created_at.cmp(&a.created_at).then(a.hash.cmp(&b.hash)));
        keys
    }

    /// The caller behind a key that is known, with its team and user.
    #[must_use]
    pub fn principal(&self, hash: &KeyHash) -> Option<Principal> {
        let records = self.records.read();
        let key = records.keys.get(hash)?.clone();
        let team = key
            .team_id
            .as_ref()
            .and_then(|id| records.teams.get(id))
            .cloned();
        let user = key
            .user_id
            .as_ref()
            .and_then(|id| records.users.get(id))
            .cloned();
        Some(Principal {
            role: Role::Key,
            key: Some(key),
            team,
            user,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::Micros;

    fn event(op: ConfigOp, id: &str, body: &str) -> ConfigEvent {
        ConfigEvent {
            event_time: Micros(0),
            entity: ConfigEntity::Key,
            id: id.into(),
            op,
            body: body.into(),
            actor: "master".into(),
        }
    }

    fn directory() -> Directory {
        Directory::new("UTC".parse().unwrap(), Quota::default())
    }

    #[test]
    fn the_log_makes_the_table_and_can_make_it_again() {
        let hash = KeyHash::of("sk-a");
        let id = hash.to_string();
        let log = [
            event(
                ConfigOp::Put,
                &id,
                r#"{"key_alias":"a","quota":{"max_budget":1.5}}"#,
            ),
            event(ConfigOp::Put, &id, r#"{"key_alias":"b"}"#),
        ];
        for _ in 0..2 {
            let directory = directory();
            for (at, event) in log.iter().enumerate() {
                directory.apply(at as u64 + 1, event).unwrap();
            }
            assert_eq!(directory.version(), 2);
            assert_eq!(
                directory.key(&hash).unwrap().key_alias.as_deref(),
                Some("b")
            );
            assert!(directory.key_of_alias("a").is_none());
            directory
                .apply(3, &event(ConfigOp::Delete, &id, ""))
                .unwrap();
            assert!(directory.key(&hash).is_none());
        }
    }

    #[test]
    fn an_unreadable_event_changes_nothing() {
        let directory = directory();
        let error = directory
            .apply(1, &event(ConfigOp::Put, "nonsense", "{}"))
            .unwrap_err();
        assert_eq!(error.to_string(), "key nonsense: not a key hash");
        assert_eq!(directory.version(), 0);
    }
}

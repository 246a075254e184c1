//! The records of the config log: a key, a team, a user, a model. Stored as JSON inside their event; a field
//! added later has a default, so that old events stay readable.

use schemas::{KeyHash, Micros, Text};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Quota;

/// A virtual key. Its text is known to its holder alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyRecord {
    #[serde(skip, default = "no_hash")]
    pub hash: KeyHash,
    /// `key:<hash>`: the name of its budget.
    #[serde(skip, default = "no_text")]
    pub budget: Text,
    /// Short form for people: `sk-...ab12`.
    #[serde(skip_serializing_if = "is_default")]
    pub key_name: Text,
    #[serde(skip_serializing_if = "is_default")]
    pub key_alias: Option<Text>,
    #[serde(skip_serializing_if = "is_default")]
    pub team_id: Option<Text>,
    #[serde(skip_serializing_if = "is_default")]
    pub user_id: Option<Text>,
    #[serde(skip_serializing_if = "is_default")]
    pub organization_id: Option<Text>,
    /// Names and patterns it may use; empty: all that its team may.
    #[serde(skip_serializing_if = "is_default")]
    pub models: Vec<Text>,
    /// Routes, and names of several, that it may call; empty: all.
    #[serde(skip_serializing_if = "is_default")]
    pub allowed_routes: Vec<Text>,
    #[serde(skip_serializing_if = "is_default")]
    pub quota: Quota,
    #[serde(skip_serializing_if = "is_default")]
    pub expires: Option<Micros>,
    #[serde(skip_serializing_if = "is_default")]
    pub blocked: bool,
    /// Tags on each of its calls.
    #[serde(skip_serializing_if = "is_default")]
    pub tags: Vec<Text>,
    #[serde(skip_serializing_if = "is_default")]
    pub metadata: Map<String, Value>,
    /// Fields kept for their owner and given back as they came.
    #[serde(skip_serializing_if = "is_default")]
    pub kept: Map<String, Value>,
    #[serde(skip_serializing_if = "is_default")]
    pub created_at: Micros,
    #[serde(skip_serializing_if = "is_default")]
    pub updated_at: Micros,
    #[serde(skip_serializing_if = "is_default")]
    pub created_by: Text,
    #[serde(skip_serializing_if = "is_default")]
    pub updated_by: Text,
}

/// A team: limits and models that its keys share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TeamRecord {
    #[serde(skip, default = "no_text")]
    pub team_id: Text,
    /// `team:<id>`: the name of its budget.
    #[serde(skip, default = "no_text")]
    pub budget: Text,
    pub team_alias: Option<Text>,
    pub organization_id: Option<Text>,
    pub models: Vec<Text>,
    pub quota: Quota,
    pub blocked: bool,
    pub tags: Vec<Text>,
    pub metadata: Map<String, Value>,
    pub members: Vec<Member>,
    pub kept: Map<String, Value>,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// A model that came over the API: a deployment beside those of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelRecord {
    /// `model_info.id`.
    #[serde(skip, default = "no_text")]
    pub model_id: Text,
    /// In the shape of an entry of `model_list`. Its secrets are names of variables, or sealed.
    pub entry: Map<String, Value>,
    /// It is priced by this version of the catalog, or a later one.
    pub prices_version: u64,
    pub created_at: Micros,
    pub updated_at: Micros,
    pub created_by: Text,
    pub updated_by: Text,
}

/// One member of a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub user_id: Text,
    /// `admin` or `user`.
    pub role: Text,
}

/// A user: limits over all keys of one person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserRecord {
    #[serde(skip, default = "no_text")]
    pub user_id: Text,
    /// `user:<id>`: the name of its budget.
    #[serde(skip, default = "no_text")]
    pub budget: Text,
    pub quota: Quota,
    pub created_at: Micros,
}

/// What is as it would be read anyway is not written: a gateway starts as fast as it reads its keys.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Shared by all: made without an allocation.
fn no_text() -> Text {
    Text::default()
}

const fn no_hash() -> KeyHash {
    KeyHash([0; 32])
}

impl Default for KeyRecord {
    fn default() -> Self {
        Self {
            hash: no_hash(),
            budget: no_text(),
            key_name: no_text(),
            key_alias: None,
            team_id: None,
            user_id: None,
            organization_id: None,
            models: Vec::new(),
            allowed_routes: Vec::new(),
            quota: Quota::default(),
            expires: None,
            blocked: false,
            tags: Vec::new(),
            metadata: Map::new(),
            kept: Map::new(),
            created_at: Micros(0),
            updated_at: Micros(0),
            created_by: no_text(),
            updated_by: no_text(),
        }
    }
}

impl Default for TeamRecord {
    fn default() -> Self {
        Self {
            team_id: no_text(),
            budget: no_text(),
            team_alias: None,
            organization_id: None,
            models: Vec::new(),
            quota: Quota::default(),
            blocked: false,
            tags: Vec::new(),
            metadata: Map::new(),
            members: Vec::new(),
            kept: Map::new(),
            created_at: Micros(0),
            updated_at: Micros(0),
        }
    }
}

impl Default for ModelRecord {
    fn default() -> Self {
        Self {
            model_id: no_text(),
            entry: Map::new(),
            prices_version: 0,
            created_at: Micros(0),
            updated_at: Micros(0),
            created_by: no_text(),
            updated_by: no_text(),
        }
    }
}

impl Default for UserRecord {
    fn default() -> Self {
        Self {
            user_id: no_text(),
            budget: no_text(),
            quota: Quota::default(),
            created_at: Micros(0),
        }
    }
}

impl KeyRecord {
    /// The record in an event's body.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(hash: KeyHash, body: &str) -> Result<Self, String> {
        serde_json::from_str::<Self>(body)
            .map(|key| key.of(hash))
            .map_err(|e| e.to_string())
    }

    /// The same record, of this key.
    #[must_use]
    pub fn of(mut self, hash: KeyHash) -> Self {
        self.hash = hash;
        self.budget = format!("key:{hash}").into();
        self
    }

    /// What a person may read: alias, or the short form.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.key_alias.as_deref().unwrap_or(&self.key_name)
    }
}

impl TeamRecord {
    /// The record in an event's body.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(id: &Text, body: &str) -> Result<Self, String> {
        serde_json::from_str::<Self>(body)
            .map(|team| team.of(id))
            .map_err(|e| e.to_string())
    }

    /// The same record, of this team.
    #[must_use]
    pub fn of(mut self, id: &Text) -> Self {
        self.team_id = id.clone();
        self.budget = format!("team:{id}").into();
        self
    }
}

impl UserRecord {
    /// The record in an event's body.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(id: &Text, body: &str) -> Result<Self, String> {
        let mut user: Self = serde_json::from_str(body).map_err(|e| e.to_string())?;
        user.user_id = id.clone();
        user.budget = format!("user:{id}").into();
        Ok(user)
    }
}

impl ModelRecord {
    /// The record in an event's body.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(id: &Text, body: &str) -> Result<Self, String> {
        let mut model: Self = serde_json::from_str(body).map_err(|e| e.to_string())?;
        model.model_id = id.clone();
        Ok(model)
    }
}

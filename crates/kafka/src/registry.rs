//! Which schema a message was written with: our fixed ids, or those of a schema registry.
//!
//! A registry is asked once per schema. What it answered is kept in memory only: ids of a registry that
//! was set up anew would otherwise be another one's.

use std::collections::HashMap;

use parking_lot::RwLock;
use reqwest::StatusCode;
use schemas::{Topic, registry};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::{Error, Settings, framing};

/// The two directions.
#[derive(Default)]
struct Known {
    ids: HashMap<u64, u32>,
    fingerprints: HashMap<u32, u64>,
}

/// Schema ids of one cluster.
pub struct Ids {
    known: RwLock<Known>,
    remote: Option<Remote>,
}

struct Remote {
    http: reqwest::Client,
    url: String,
    /// Subject and text of every released schema.
    subjects: Vec<(String, &'static str)>,
    registered: Mutex<bool>,
}

#[derive(Serialize)]
struct Register {
    schema: &'static str,
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Found {
    schema: String,
}

impl Ids {
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let ids = Self {
            known: RwLock::default(),
            remote: settings
                .schema_registry_url
                .as_deref()
                .map(|url| Remote::new(settings, url))
                .transpose()?,
        };
        if ids.remote.is_none() {
            for (fingerprint, id) in framing::fixed_ids() {
                ids.remember(fingerprint, id);
            }
        }
        Ok(ids)
    }

    /// The id to write a schema's records with.
    pub fn id(&self, fingerprint: u64) -> Option<u32> {
        self.known.read().ids.get(&fingerprint).copied()
    }

    /// The schema that a record was written with, as far as it is known here.
    pub fn fingerprint(&self, id: u32) -> Option<u64> {
        self.known.read().fingerprints.get(&id).copied()
    }

    /// Registers all released schemas, so that every one of them has an id. Nothing without a registry,
    /// and at once when it is done.
    pub async fn ready(&self) -> Result<(), Error> {
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        let mut registered = remote.registered.lock().await;
        if *registered {
            return Ok(());
        }
        for (subject, schema) in &remote.subjects {
            let id = remote.register(subject, schema).await?;
            if let Some(fingerprint) = registry::fingerprint_of_text(schema) {
                self.remember(fingerprint, id);
            }
        }
        *registered = true;
        Ok(())
    }

    /// Asks for a schema that is not known. `None`: nobody knows it, so that its records never will be
    /// read. An error: nobody could be asked, so that nothing is known about them yet.
    pub async fn look_up(&self, id: u32) -> Result<Option<u64>, Error> {
        if let Some(fingerprint) = self.fingerprint(id) {
            return Ok(Some(fingerprint));
        }
        let Some(remote) = &self.remote else {
            return Ok(None);
        };
        let Some(schema) = remote.schema(id).await? else {
            return Ok(None);
        };
        let fingerprint = registry::fingerprint_of_text(&schema);
        if let Some(fingerprint) = fingerprint {
            // Only the way back: a foreign subject may know our schema by another id.
            let mut known = self.known.write();
            known.fingerprints.insert(id, fingerprint);
        }
        Ok(fingerprint)
    }

    fn remember(&self, fingerprint: u64, id: u32) {
        let mut known = self.known.write();
        known.ids.insert(fingerprint, id);
        known.fingerprints.insert(id, fingerprint);
    }
}

impl Remote {
    fn new(settings: &Settings, url: &str) -> Result<Self, Error> {
        // Fails where one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(settings.timeout)
            .build()
            .map_err(|error| Error::Registry(error.without_url().to_string()))?;
        let subject = |topic: Topic| {
            let schema = registry::RELEASED
                .iter()
                .filter(move |(name, _)| *name == event_of(topic));
            let subject = format!("{}-value", settings.name(topic));
            schema.map(move |(_, text)| (subject.clone(), *text))
        };
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            subjects: Topic::ALL
                .into_iter()
                .filter(|topic| *topic != Topic::Progress)
                .flat_map(subject)
                .collect(),
            registered: Mutex::new(false),
        })
    }

    async fn register(&self, subject: &str, schema: &'static str) -> Result<u32, Error> {
        let failed = |error: reqwest::Error| Error::Registry(error.without_url().to_string());
        let answer = self
            .http
            .post(format!("{}/subjects/{subject}/versions", self.url))
            .header("content-type", "application/vnd.schemaregistry.v1+json")
            .body(serde_json::to_vec(&Register { schema }).unwrap_or_default())
            .send()
            .await
            .map_err(failed)?;
        if !answer.status().is_success() {
            let status = answer.status();
            return Err(Error::Registry(format!(
                "subject {subject} was answered with {status}"
            )));
        }
        let registered: Registered = answer.json().await.map_err(failed)?;
        Ok(registered.id)
    }

    /// `None`: there is no such schema.
    async fn schema(&self, id: u32) -> Result<Option<String>, Error> {
        let failed = |error: reqwest::Error| Error::Registry(error.without_url().to_string());
        let url = format!("{}/schemas/ids/{id}", self.url);
        let answer = self.http.get(url).send().await.map_err(failed)?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let found: Found = answer.json().await.map_err(failed)?;
                Ok(Some(found.schema))
            }
            status => Err(Error::Registry(format!(
                "schema {id} was answered with {status}"
            ))),
        }
    }
}

/// The full name of a topic's Avro record.
const fn event_of(topic: Topic) -> &'static str {
    match topic {
        Topic::Requests => "tollgate.Admitted",
        Topic::Progress => "tollgate.Progress",
        Topic::Usage => "tollgate.Usage",
        Topic::Config => "tollgate.Config",
        Topic::Catalog => "tollgate.Catalog",
        Topic::Cost => "tollgate.Cost",
        Topic::Audit => "tollgate.Audit",
        Topic::Dlq => "tollgate.DeadLetter",
    }
}

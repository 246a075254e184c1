//! How a change becomes an event: appended, acknowledged, read back and put into force, then answered.

use std::time::Duration;

use schemas::{ConfigEntity, ConfigEvent, ConfigOp, Event, Micros, Partition, Text, Topic};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::Gateway;
use crate::error::Error;

/// A change is in force by then, or its caller is told that it is not known to be.
const WITHIN: Duration = Duration::from_secs(10);

/// Appends one change and puts it into force. The caller holds `directory.changes`, so that what it
/// read is what it replaces.
///
/// # Errors
/// 503 naming what happened, when the log did not take it or it is not known to be in force.
pub async fn put<R: Serialize>(
    gateway: &Gateway,
    entity: ConfigEntity,
    id: &str,
    record: &R,
    actor: &str,
    now: Micros,
) -> Result<(), Error> {
    let body = serde_json::to_string(record).map_err(Error::internal)?;
    append(gateway, entity, id, ConfigOp::Put, body.into(), actor, now).await
}

/// Appends one deletion.
///
/// # Errors
/// As [`put`].
pub async fn delete(
    gateway: &Gateway,
    entity: ConfigEntity,
    id: &str,
    actor: &str,
    now: Micros,
) -> Result<(), Error> {
    append(gateway, entity, id, ConfigOp::Delete, "".into(), actor, now).await
}

async fn append(
    gateway: &Gateway,
    entity: ConfigEntity,
    id: &str,
    op: ConfigOp,
    body: Text,
    actor: &str,
    now: Micros,
) -> Result<(), Error> {
    let event = ConfigEvent {
        event_time: now,
        entity,
        id: id.into(),
        op,
        body,
        actor: actor.into(),
    };
    let until = Instant::now() + WITHIN;
    if let Some(problem) = gateway.config_follow.state().problem {
        return Err(Error::Change(format!(
            "nothing was changed: the log of changes is out of reach ({problem})"
        )));
    }
    let appending = gateway
        .config_log
        .append(Topic::Config, Partition(0), event.body().into());
    let appended = match timeout_at(until, appending).await {
        Ok(Ok(appended)) => appended,
        Ok(Err(error)) => {
            return Err(Error::Change(format!(
                "the log of changes did not take it ({error}): it may still come into force"
            )));
        }
        Err(_) => {
            return Err(Error::Change(format!(
                "the log of changes did not acknowledge it within {} s: it may still come into force",
                WITHIN.as_secs()
            )));
        }
    };
    // As every other ingress: in force is what was read from the log.
    if gateway.config_follow.applied(appended.version, until).await {
        return Ok(());
    }
    Err(Error::Change(format!(
        "the change is on the log as version {}, and not in force here after {} s: it comes into force as \
         soon as the log can be read",
        appended.version,
        WITHIN.as_secs()
    )))
}

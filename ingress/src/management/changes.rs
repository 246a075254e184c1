//! How a change becomes an event: appended, durable, in force, then answered.

use schemas::{ConfigEntity, ConfigEvent, ConfigOp, Event, Micros, Partition, Text, Topic};
use serde::Serialize;

use crate::Gateway;
use crate::error::Error;

/// Appends one change and puts it into force. The caller holds `directory.changes`, so that what it
/// read is what it replaces.
///
/// # Errors
/// 503 when the log cannot take it; nothing has changed then.
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
    let appended = gateway
        .config_log
        .append(Topic::Config, Partition(0), &event.body())?;
    gateway.config_log.durable(appended.position).await?;
    gateway
        .directory
        .apply(appended.version, &event)
        .map_err(Error::internal)
}

//! Every schema ever released, and how an older one is read today.
//!
//! A published file is never edited. Compatibility is full and transitive: each released version of an
//! event can be read by every other, which a test checks for each pair.

use std::collections::HashMap;
use std::sync::LazyLock;

use apache_avro::rabin::Rabin;
use apache_avro::{Schema, from_avro_datum, to_avro_datum};

use crate::codec::{Datum, DecodeError};
use crate::ids::{Identity, Partition, Pseq, SourceId};

/// Released schemas: event name and text, oldest first. A new version is added at the end.
pub const RELEASED: &[(&str, &str)] = &[
    (
        "tollgate.Admitted",
        include_str!("../avro/request_event.v1.avsc"),
    ),
    (
        "tollgate.Progress",
        include_str!("../avro/progress_event.v1.avsc"),
    ),
    (
        "tollgate.Usage",
        include_str!("../avro/usage_event.v1.avsc"),
    ),
    ("tollgate.Cost", include_str!("../avro/cost_event.v1.avsc")),
    (
        "tollgate.Config",
        include_str!("../avro/config_event.v1.avsc"),
    ),
    (
        "tollgate.Catalog",
        include_str!("../avro/catalog_event.v1.avsc"),
    ),
    (
        "tollgate.Audit",
        include_str!("../avro/audit_event.v1.avsc"),
    ),
    (
        "tollgate.DeadLetter",
        include_str!("../avro/dead_letter.v1.avsc"),
    ),
    (
        "tollgate.Audit",
        include_str!("../avro/audit_event.v2.avsc"),
    ),
    (
        "tollgate.Usage",
        include_str!("../avro/usage_event.v2.avsc"),
    ),
    (
        "tollgate.Progress",
        include_str!("../avro/progress_event.v2.avsc"),
    ),
];

static BY_FINGERPRINT: LazyLock<HashMap<u64, (&'static str, Schema)>> = LazyLock::new(|| {
    RELEASED
        .iter()
        .filter_map(|(name, text)| {
            let schema = Schema::parse_str(text).ok()?;
            Some((fingerprint(&schema), (*name, schema)))
        })
        .collect()
});

/// The newest of each name: parsing one takes longer than reading a hundred records with it.
static NEWEST: LazyLock<HashMap<&'static str, Schema>> = LazyLock::new(|| {
    RELEASED
        .iter()
        .filter_map(|(name, text)| Some((*name, Schema::parse_str(text).ok()?)))
        .collect()
});

/// CRC-64-AVRO of the parsing canonical form.
#[must_use]
pub fn fingerprint(schema: &Schema) -> u64 {
    let bytes = schema.fingerprint::<Rabin>().bytes;
    bytes
        .first_chunk::<8>()
        .map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// The fingerprint of each released schema, in their order.
pub fn fingerprints() -> impl Iterator<Item = Option<u64>> {
    RELEASED
        .iter()
        .map(|(_, text)| Schema::parse_str(text).ok().as_ref().map(fingerprint))
}

/// The fingerprint of any schema's text; none if it is not a schema.
#[must_use]
pub fn fingerprint_of_text(text: &str) -> Option<u64> {
    Schema::parse_str(text).ok().as_ref().map(fingerprint)
}

/// Turns the fields of a record written with another released schema into those of the newest one.
///
/// # Errors
/// [`DecodeError::UnknownSchema`] for a fingerprint that is not of a released version of `name`.
pub fn resolve(written_with: u64, name: &str, fields: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let writer = BY_FINGERPRINT
        .get(&written_with)
        .filter(|(of, _)| *of == name)
        .map(|(_, schema)| schema)
        .ok_or(DecodeError::UnknownSchema(written_with))?;
    // Whatever has a released version has a newest one.
    let reader = NEWEST
        .get(name)
        .ok_or(DecodeError::UnknownSchema(written_with))?;
    resolve_with(writer, reader, fields).map_err(|e| DecodeError::Unresolvable(e.to_string()))
}

fn resolve_with(
    writer: &Schema,
    reader: &Schema,
    fields: &[u8],
) -> Result<Vec<u8>, apache_avro::Error> {
    // The identity leads every datum; a placeholder stands in for it and is cut off again.
    let mut datum = Vec::with_capacity(fields.len() + PLACEHOLDER_LEN);
    placeholder().encode(&mut datum);
    datum.extend_from_slice(fields);
    let value = from_avro_datum(writer, &mut datum.as_slice(), Some(reader))?;
    let resolved = to_avro_datum(reader, value)?;
    Ok(resolved[PLACEHOLDER_LEN..].to_vec())
}

const PLACEHOLDER_LEN: usize = 3;

fn placeholder() -> Identity {
    Identity {
        source_id: SourceId(0),
        partition: Partition(0),
        pseq: Pseq(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader of today reads a record that lacks a field added since, with that field's default.
    #[test]
    fn a_field_added_later_reads_as_its_default() {
        let old = r#"{"type":"record","name":"T","fields":[
            {"name":"source_id","type":"long"},{"name":"partition","type":"int"},{"name":"pseq","type":"long"},
            {"name":"a","type":"long"}]}"#;
        let new = r#"{"type":"record","name":"T","fields":[
            {"name":"source_id","type":"long"},{"name":"partition","type":"int"},{"name":"pseq","type":"long"},
            {"name":"b","type":"string","default":"x"},{"name":"a","type":"long"}]}"#;
        let mut fields = Vec::new();
        7_i64.encode(&mut fields);
        let [old, new] = [old, new].map(|text| Schema::parse_str(text).unwrap());
        let resolved = resolve_with(&old, &new, &fields).unwrap();
        assert_eq!(resolved, [2, b'x', 14]);
    }

    #[test]
    fn an_unknown_schema_is_told_apart() {
        let unknown = resolve(42, "tollgate.Usage", &[]);
        assert_eq!(unknown, Err(DecodeError::UnknownSchema(42)));
    }
}

//! The fields of `/team/new`, one line each.

use schemas::{Micros, Text};
use serde_json::{Map, Value};

use super::fields::Field;
use super::key_fields::apply_quota;
use crate::directory::{Member, TeamRecord};
use crate::error::Error;

/// Puts the fields of a request onto a record.
///
/// # Errors
/// 400 naming the first field that is unknown, malformed, or would be taken without effect.
pub fn apply(
    team: &mut TeamRecord,
    request: &Map<String, Value>,
    now: Micros,
) -> Result<(), Error> {
    for (name, value) in request {
        let field = Field { name, value };
        if apply_quota(&mut team.quota, field, now)? {
            continue;
        }
        match name.as_str() {
            // Read by the handler itself.
            "team_id" => {}
            "team_alias" => team.team_alias = field.text()?,
            "organization_id" => team.organization_id = field.text()?,
            "models" => team.models = field.texts()?,
            "tags" => team.tags = field.texts()?,
            "metadata" => team.metadata = field.object()?,
            "blocked" => team.blocked = field.flag()?,
            "admins" => join(team, &field.texts()?, "admin"),
            "members" => join(team, &field.texts()?, "user"),
            "members_with_roles" => {
                for member in with_roles(field)? {
                    join(team, &[member.user_id], &member.role);
                }
            }
            "model_aliases"
            | "guardrails"
            | "model_rpm_limit"
            | "model_tpm_limit"
            | "team_member_budget"
            | "team_member_budget_duration"
            | "team_member_rpm_limit"
            | "team_member_tpm_limit"
            | "team_member_key_duration"
            | "router_settings" => {
                field.nothing_asked()?;
            }
            _ => return Err(field.refuse("unknown field")),
        }
    }
    Ok(())
}

/// Adds members; one who is there already changes role.
fn join(team: &mut TeamRecord, users: &[Text], role: &str) {
    for user_id in users {
        team.members.retain(|member| member.user_id != *user_id);
        team.members.push(Member {
            user_id: user_id.clone(),
            role: role.into(),
        });
    }
}

fn with_roles(field: Field<'_>) -> Result<Vec<Member>, Error> {
    if field.value.is_null() {
        return Ok(Vec::new());
    }
    let members: Vec<Member> = serde_json::from_value(field.value.clone())
        .map_err(|e| field.refuse(format_args!("expected [{{\"role\", \"user_id\"}}]: {e}")))?;
    match members
        .iter()
        .find(|member| !matches!(&*member.role, "admin" | "user"))
    {
        Some(odd) => Err(field.refuse(format_args!(
            "role {:?} is neither admin nor user",
            odd.role
        ))),
        None => Ok(members),
    }
}

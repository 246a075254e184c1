//! The master key, and the key that seals secrets: from the file, else from the environment.

use crate::Secret;
use crate::expand::Env;
use crate::view::View;

/// A key that others could guess would seal nothing.
pub(crate) const SECRET_KEY_MIN: usize = 16;

pub(super) fn secret_key(root: &View<'_>) -> Option<Secret> {
    let own = root.get("tollgate.secret_key");
    if let Some(key) = own.secret() {
        if key.expose().len() < SECRET_KEY_MIN {
            own.error(format!("must have {SECRET_KEY_MIN} characters or more"));
        }
        return Some(key);
    }
    let (name, key) = secret_key_from(root.context().env)?;
    if key.expose().len() < SECRET_KEY_MIN {
        own.warn(format!(
            "{name} is not used: it must have {SECRET_KEY_MIN} characters or more"
        ));
        return None;
    }
    Some(key)
}

/// The key of the environment that seals secrets, with the name of its variable.
pub(crate) fn secret_key_from(env: Env<'_>) -> Option<(&'static str, Secret)> {
    let names = ["TOLLGATE_SECRET_KEY", "LITELLM_SALT_KEY"];
    let found = names.map(|name| (name, env(name).unwrap_or_default()));
    found
        .into_iter()
        .find(|(_, key)| !key.trim().is_empty())
        .map(|(name, key)| (name, Secret::new(key.trim())))
}

/// The master key of the environment.
pub(crate) fn master_from(env: Env<'_>) -> Option<Secret> {
    let first = ["TOLLGATE_MASTER_KEY", "LITELLM_MASTER_KEY"]
        .into_iter()
        .find_map(|name| env(name).filter(|key| !key.trim().is_empty()));
    first.map(|key| Secret::new(key.trim()))
}

/// A key that no client can send is none.
pub(super) fn must_fit_a_header(place: &View<'_>, key: &Secret) {
    if !key
        .expose()
        .bytes()
        .all(|byte| (b'!'..=b'~').contains(&byte))
    {
        place.error("holds a space or another character that a header cannot carry");
    }
}

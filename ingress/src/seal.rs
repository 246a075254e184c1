//! Secrets of models that come over the API, sealed for the log: only a process with the same
//! `tollgate.secret_key` can use them. Never seals for another place than the one it is opened for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::Secret;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

/// Begins every sealed text; another way to seal would begin otherwise.
const SEALED: &str = "tollgate.sealed.v1:";
/// Parts this use of the key from any other.
const PURPOSE: &[u8] = b"tollgate model secrets v1";

/// Why a text cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it is sealed, and there is no tollgate.secret_key to open it")]
    NoKey,
    #[error("it was sealed with another tollgate.secret_key, or for another place")]
    Foreign,
    #[error("the system gives no random bytes")]
    Random,
}

/// Whether a text is a sealed one.
#[must_use]
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(SEALED)
}

/// The text in a form that only [`open`] with the same key and place reads. `place` names where it stands:
/// it opens nowhere else.
///
/// # Errors
/// No random bytes.
pub fn seal(key: &Secret, place: &str, text: &str) -> Result<String, SealError> {
    // 96 random bits a message: NIST SP 800-38D allows 2³² messages a key, and these are keys of providers.
    let nonce: [u8; NONCE_LEN] = ring::rand::generate(&ring::rand::SystemRandom::new())
        .map_err(|_| SealError::Random)?
        .expose();
    let mut sealed = text.as_bytes().to_vec();
    cipher(key)
        .and_then(|cipher| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            cipher.seal_in_place_append_tag(nonce, Aad::from(place.as_bytes()), &mut sealed)
        })
        .map_err(|_| SealError::Foreign)?;
    let mut whole = nonce.to_vec();
    whole.append(&mut sealed);
    Ok(format!("{SEALED}{}", URL_SAFE_NO_PAD.encode(whole)))
}

/// What was sealed.
///
/// # Errors
/// There is no key, or it is not the one, or the text was moved or damaged.
pub fn open(key: Option<&Secret>, place: &str, sealed: &str) -> Result<String, SealError> {
    let key = key.ok_or(SealError::NoKey)?;
    let opened = || {
        let whole = URL_SAFE_NO_PAD.decode(sealed.strip_prefix(SEALED)?).ok()?;
        let (nonce, rest) = whole.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut rest = rest.to_vec();
        let text = cipher(key)
            .ok()?
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut rest)
            .ok()?;
        String::from_utf8(text.to_vec()).ok()
    };
    opened().ok_or(SealError::Foreign)
}

fn cipher(key: &Secret) -> Result<LessSafeKey, ring::error::Unspecified> {
    let derived = Salt::new(HKDF_SHA256, PURPOSE).extract(key.expose().as_bytes());
    let okm = derived.expand(&[PURPOSE], &AES_256_GCM)?;
    Ok(LessSafeKey::new(UnboundKey::from(okm)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_with_its_key_at_its_place_only() {
        let (key, other) = (
            Secret::new("sixteen characters"),
            Secret::new("another of sixteen"),
        );
        let sealed = seal(&key, "m1 litellm_params.api_key", "sk-provider").unwrap();
        assert!(is_sealed(&sealed) && !sealed.contains("provider"));
        let open = |key, place| super::open(key, place, &sealed);
        let place = "m1 litellm_params.api_key";
        assert_eq!(open(Some(&key), place).as_deref(), Ok("sk-provider"));
        assert_eq!(open(Some(&other), place), Err(SealError::Foreign));
        assert_eq!(
            open(Some(&key), "m2 litellm_params.api_key"),
            Err(SealError::Foreign)
        );
        assert_eq!(open(None, place), Err(SealError::NoKey));
        assert_eq!(
            super::open(Some(&key), place, SEALED),
            Err(SealError::Foreign)
        );
        assert_ne!(sealed, seal(&key, place, "sk-provider").unwrap());
    }
}

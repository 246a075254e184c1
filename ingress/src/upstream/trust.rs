//! Whose certificates are believed, and one HTTPS client for each answer to that.

use std::sync::Arc;

use config::Trust;
use parking_lot::Mutex;

/// Certificates of authorities, as a deployment's file holds them.
pub type Authorities = Arc<Vec<reqwest::Certificate>>;

/// Reads the file that a deployment names. None where it names none.
///
/// # Errors
/// It cannot be read, or holds no certificate.
pub fn authorities(trust: &Trust) -> Result<Option<Authorities>, String> {
    let Trust::File(path) = trust else {
        return Ok(None);
    };
    let told = |why: String| format!("ssl_verify: {path}: {why}");
    let pem = std::fs::read(path).map_err(|error| told(error.to_string()))?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(Some(Arc::new(found))),
        _ => Err(told("holds no certificate in PEM".to_owned())),
    }
}

/// Clients that were made, each with what it believes.
#[derive(Debug, Default)]
pub struct Clients(Mutex<Vec<(Trust, Option<Authorities>, reqwest::Client)>>);

impl Clients {
    /// The client for what is believed; `settle` sets up a new one.
    ///
    /// # Errors
    /// None can be made.
    pub fn get(
        &self,
        trust: &Trust,
        authorities: Option<&Authorities>,
        settle: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let mut made = self.0.lock();
        // The file may hold something else since a configuration was read again.
        let same = |known: &Option<Authorities>| match (known, authorities) {
            (Some(known), Some(asked)) => Arc::ptr_eq(known, asked),
            (known, asked) => known.is_none() && asked.is_none(),
        };
        if let Some((.., client)) = made.iter().find(|(of, by, _)| of == trust && same(by)) {
            return Ok(client.clone());
        }
        // Whoever installed one before us chose well enough.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let builder = match (trust, authorities) {
            (Trust::Anyone, _) => builder.tls_danger_accept_invalid_certs(true),
            (Trust::File(_), Some(authorities)) => {
                builder.tls_certs_only(authorities.iter().cloned())
            }
            // `SSL_CERT_FILE` and `SSL_CERT_DIR` are looked at there.
            (Trust::System | Trust::File(_), _) => builder,
        };
        let client = settle(builder).build()?;
        // Those of an earlier configuration go, once nothing uses them.
        made.retain(|(.., known, _)| {
            known
                .as_ref()
                .is_none_or(|known| Arc::strong_count(known) > 1)
        });
        made.push((trust.clone(), authorities.cloned(), client.clone()));
        Ok(client)
    }
}

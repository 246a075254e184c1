//! Whose certificates are believed, and one HTTPS client for each answer to that.

use std::sync::Arc;
use std::time::Duration;

use config::Trust;
use parking_lot::Mutex;

use super::pool::IDLE_MAX;

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
pub struct Clients(Mutex<Vec<Made>>);

#[derive(Debug)]
struct Made {
    trust: Trust,
    authorities: Option<Authorities>,
    connect: Duration,
    client: reqwest::Client,
}

impl Clients {
    /// The client for what is believed, which gives a connection up after `connect`.
    ///
    /// # Errors
    /// None can be made.
    pub fn get(
        &self,
        trust: &Trust,
        authorities: Option<&Authorities>,
        connect: Duration,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let mut made = self.0.lock();
        // The file may hold something else since a configuration was read again.
        let same = |known: &Option<Authorities>| match (known, authorities) {
            (Some(known), Some(asked)) => Arc::ptr_eq(known, asked),
            (known, asked) => known.is_none() && asked.is_none(),
        };
        let known = made.iter().find(|made| {
            made.trust == *trust && made.connect == connect && same(&made.authorities)
        });
        if let Some(known) = known {
            return Ok(known.client.clone());
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
        let client = builder
            .connect_timeout(connect)
            .tcp_nodelay(true)
            .http1_only()
            .pool_idle_timeout(IDLE_MAX)
            .build()?;
        // Those of an earlier configuration go, once nothing uses them.
        made.retain(|made| {
            let known = made.authorities.as_ref();
            known.is_none_or(|known| Arc::strong_count(known) > 1)
        });
        made.push(Made {
            trust: trust.clone(),
            authorities: authorities.cloned(),
            connect,
            client: client.clone(),
        });
        Ok(client)
    }
}

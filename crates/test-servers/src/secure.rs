//! A broker's listeners for strangers: TLS, and TLS with a user and a password.

use std::path::Path;

use crate::free_port;

/// Who the broker is, and whom it knows.
#[derive(Debug, Clone, Copy)]
pub struct Secured<'a> {
    /// Its certificate and its private key (PKCS #8), PEM.
    pub certificate: &'a str,
    pub user: &'a str,
    pub password: &'a str,
}

/// The listeners, for `bootstrap.servers`.
#[derive(Debug, Clone)]
pub struct Secure {
    /// `security.protocol=SSL`.
    pub tls: String,
    /// `security.protocol=SASL_SSL`, with `PLAIN` or `SCRAM-SHA-256`.
    pub sasl: String,
    scram: String,
}

impl Secure {
    pub(crate) fn new(secured: &Secured<'_>) -> Self {
        let address = || format!("127.0.0.1:{}", free_port());
        Self {
            tls: address(),
            sasl: address(),
            scram: format!(
                "SCRAM-SHA-256=[name={},password={}]",
                secured.user, secured.password
            ),
        }
    }

    /// Lines that win over those of a plain broker.
    pub(crate) fn properties(
        &self,
        secured: &Secured<'_>,
        folder: &Path,
        port: u16,
        controller: u16,
    ) -> String {
        let store = folder.join("server.pem");
        std::fs::write(&store, secured.certificate)
            .unwrap_or_else(|error| panic!("{}: {error}", store.display()));
        let Self { tls, sasl, .. } = self;
        let outside = format!("PLAINTEXT://127.0.0.1:{port},SSL://{tls},SASL_SSL://{sasl}");
        let modules = "org.apache.kafka.common.security";
        format!(
            "listeners={outside},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={outside},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={}
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
listener.name.sasl_ssl.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_{}=\"{}\";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={modules}.scram.ScramLoginModule required;
",
            store.display(),
            secured.user,
            secured.password
        )
    }

    /// Formats the storage with the user's password.
    pub(crate) fn scram(&self) -> Vec<String> {
        vec!["--add-scram".to_owned(), self.scram.clone()]
    }
}

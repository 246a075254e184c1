//! HTTPS in front of anything that speaks plain HTTP, with certificates of an authority that nobody else knows.
//!
//! Made once with openssl, good for a hundred years: `tls/authority.pem` signed `localhost` (also for
//! 127.0.0.1) and `elsewhere.test`; the authority's own key was thrown away.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Which certificate a server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// For `localhost` and 127.0.0.1.
    Localhost,
    /// For a host that it is not.
    Elsewhere,
}

/// The file with the authority's certificate.
#[must_use]
pub fn authority() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/tls/authority.pem"
    ))
}

/// What a server that shows a certificate needs.
#[must_use]
pub fn server(certificate: Certificate) -> Arc<rustls::ServerConfig> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (chain, key): (&[u8], &[u8]) = match certificate {
        Certificate::Localhost => (
            include_bytes!("tls/localhost.pem"),
            include_bytes!("tls/localhost.key.pem"),
        ),
        Certificate::Elsewhere => (
            include_bytes!("tls/elsewhere.pem"),
            include_bytes!("tls/elsewhere.key.pem"),
        ),
    };
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(chain).unwrap()],
            PrivateKeyDer::from_pem_slice(key).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}

/// Takes HTTPS and passes what is inside on. Stops when dropped.
pub struct Front {
    pub address: SocketAddr,
    shaken: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    /// In front of `behind`.
    pub async fn start(certificate: Certificate, behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(server(certificate));
        let shaken = Arc::new(AtomicUsize::new(0));
        let count = shaken.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count) = (acceptor.clone(), count.clone());
                connections.spawn(async move {
                    let Ok(mut client) = acceptor.accept(stream).await else {
                        return;
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    let mut server = TcpStream::connect(behind).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            shaken,
            task,
        }
    }

    /// Where a deployment's `api_base` points.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("https://127.0.0.1:{}/v1", self.address.port())
    }

    /// Clients that believed the certificate.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.shaken.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

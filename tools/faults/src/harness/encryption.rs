//! TLS with a server whose certificate lies in a file: pages, whole connections, and a hello that was
//! recorded once.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cubesync_harness::http::{self, Answer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An answer that has not begun after this long does not come.
const PATIENCE: Duration = Duration::from_secs(10);
/// The name in the server's certificate.
const NAME: &str = "few.test";

/// How to speak TLS with the server.
#[derive(Debug, Clone)]
pub(crate) struct Encryption {
    config: Arc<ClientConfig>,
    /// The first bytes of a handshake.
    pub(crate) hello: Arc<[u8]>,
}

impl Encryption {
    /// Trusts the certificate in a PEM file.
    pub(crate) fn trusting(certificate: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(certificate)?;
        roots.add(certificate).context("the server's certificate")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        let mut connection = ClientConnection::new(Arc::clone(&config), name())?;
        let mut hello = Vec::new();
        connection.write_tls(&mut hello)?;
        Ok(Self {
            config,
            hello: hello.into(),
        })
    }

    /// Requests the page at `path`.
    pub(crate) fn get(&self, address: SocketAddr, path: &str) -> Result<Answer> {
        let connection = ClientConnection::new(Arc::clone(&self.config), name())?;
        let stream = http::connect(address, PATIENCE)?;
        Ok(http::ask(
            StreamOwned::new(connection, stream),
            address,
            path,
        ))
    }

    /// Completes a handshake.
    pub(crate) async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        Ok(connector.connect(name(), stream).await?)
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("it is a name")
}

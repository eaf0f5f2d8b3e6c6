//! TLS for everything but the text protocol: the certificate, and the beginning of connections.

mod accept;
mod certificate;
mod handshakes;
mod self_signed;
mod socket;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Unit;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use tracing::{error, info, warn};

pub(crate) use self::accept::{Acceptor, Arrival};
pub(crate) use self::certificate::day;
pub use self::certificate::{Certificate, CertificateError, Fingerprint, KeyKind};
use self::handshakes::Handshakes;
#[cfg(test)]
pub(crate) use self::self_signed::read_or_make;
pub(crate) use self::self_signed::{host_name, missing_names};
use crate::blocking;
use crate::config::Config;
use crate::metrics::{Reload, ServerMetrics};
use cubesync_relay::metrics::{MetricSet, Metrics};

/// The only protocol that is offered to browsers (ALPN). They would prefer HTTP/2 otherwise.
const HTTP_1: &[u8] = b"http/1.1";

/// Tickets for a browser, which uses each once and opens several connections.
const TICKETS_FOR_BROWSERS: usize = 4;

/// The server's side of TLS.
pub(crate) struct Tls {
    /// Accepts connections of the TCP port.
    pub(crate) players: Acceptor,
    /// Accepts connections for pages and WebSockets.
    pub(crate) pages: Acceptor,
    current: Arc<Current>,
    /// The files of the certificate and the key; `None` for a pair that was made for this run only.
    files: Option<(PathBuf, PathBuf)>,
    is_self_signed: bool,
}

impl Tls {
    /// Sets TLS up as configured. Returns `None` if the configuration has no encryption.
    ///
    /// # Errors
    /// The certificate or its key cannot be read or made, or the system cannot start a thread.
    pub(crate) async fn new(
        config: &Config,
        metrics: &Metrics,
    ) -> Result<Option<Self>, CertificateError> {
        let files = config.tls_cert.clone().zip(config.tls_key.clone());
        let certificate = match (files.clone(), config.tls_self_signed) {
            (Some(files), is_self_signed) => {
                let read = match is_self_signed {
                    true => self_signed::read_or_make,
                    false => Certificate::read,
                };
                read_with(read, files)
                    .await
                    .map_err(CertificateError::Thread)??
            }
            (None, true) => self_signed::make()?.parse()?,
            (None, false) => return Ok(None),
        };
        // This is no error: clients that do not verify can connect, and the clock may be wrong.
        if let Some(problem) = certificate.problem_at(SystemTime::now()) {
            warn!("the certificate {problem}: clients that verify it will refuse to connect");
        }
        info!(
            names = certificate.names().join(" "),
            expires = %certificate::day(certificate.ends()),
            sha256 = %certificate.fingerprint(),
            key = %certificate.key_kind(),
            "serving with TLS"
        );
        let current = Arc::new(Current(RwLock::new(certificate)));
        let mut players = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("ring knows both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        // A ticket, which only this process can read, spares a signature when its bearer comes back, and
        // costs no memory here. Data in a client's first flight (0-RTT) stays off, as is the default.
        players.session_storage = Arc::new(NoServerSessionStorage {});
        players.ticketer = Ticketer::new().map_err(|_| CertificateError::Random)?;
        players.send_tls13_tickets = 1;
        let mut pages = players.clone();
        pages.send_tls13_tickets = TICKETS_FOR_BROWSERS;
        pages.alpn_protocols = vec![HTTP_1.to_vec()];
        let handshakes = Arc::new(Handshakes::start(metrics).map_err(CertificateError::Thread)?);
        let counts = metrics.set.counters_by(
            "cubesync_tls_handshakes",
            "TLS handshakes that peers began, by outcome",
        );
        Ok(Some(Self {
            players: Acceptor::new(players, config.max_bytes, &handshakes, &counts),
            pages: Acceptor::new(pages, config.max_bytes, &handshakes, &counts),
            current,
            files,
            is_self_signed: config.tls_self_signed,
        }))
    }

    /// Returns the fingerprint of the current certificate.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.current.read().fingerprint()
    }

    /// Registers the time at which the certificate expires.
    pub(crate) fn register_metrics(&self, set: &MetricSet) {
        let current = Arc::clone(&self.current);
        set.read_gauge(
            "cubesync_certificate_expiry_timestamp",
            "When the certificate that is served expires, in Unix time",
            Some(Unit::Seconds),
            move || {
                let since = current.read().ends().duration_since(UNIX_EPOCH);
                let seconds = since.unwrap_or_default().as_secs();
                Some(i64::try_from(seconds).unwrap_or(i64::MAX))
            },
        );
    }

    /// Reads the files again, for new connections. If the new certificate cannot be used or is not
    /// valid now, the old one stays. Nobody else waits while their storage does not answer.
    pub(crate) async fn reload(&self, metrics: &ServerMetrics) {
        let Some(files) = &self.files else {
            return info!("the certificate was made for this run: there is nothing to read again");
        };
        let read = match read_with(Certificate::read, files.clone()).await {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let read = read.and_then(|new| match new.problem_at(SystemTime::now()) {
            None => Ok(new),
            Some(problem) => Err(format!(
                "the certificate in {} {problem}",
                files.0.display()
            )),
        });
        let outcome = match read {
            Ok(_) => Reload::Good,
            Err(_) => Reload::Failed,
        };
        metrics.certificate_reloads.count(outcome);
        match read {
            Ok(new) => {
                if self.is_self_signed {
                    self_signed::warn_of_missing_names(&new);
                }
                let expires = certificate::day(new.ends());
                info!(%expires, sha256 = %new.fingerprint(), "new connections get a new certificate");
                *self
                    .current
                    .0
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = new;
            }
            Err(problem) => error!("the certificate stays the old one: {problem}"),
        }
    }
}

/// Reads the files of a certificate and its key, on a thread that may wait for their storage.
///
/// # Errors
/// There is no thread.
async fn read_with(
    read: fn(&Path, &Path) -> Result<Certificate, CertificateError>,
    (certificate, key): (PathBuf, PathBuf),
) -> io::Result<Result<Certificate, CertificateError>> {
    let what = format!("{} and {}", certificate.display(), key.display());
    blocking::run(&what, move || read(&certificate, &key)).await
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// The certificate for new connections.
#[derive(Debug)]
struct Current(RwLock<Certificate>);

impl Current {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Certificate> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.read().key())
    }
}

//! The certificates that a client accepts from a server when it encrypts the connection.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    version,
};

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(ring::default_provider()));

/// The issuers that the system trusts, without the certificates that cannot be read.
static SYSTEM: LazyLock<RootCertStore> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
});

/// The servers that a client trusts when it encrypts the connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// Servers with a certificate for their name from an issuer that the system trusts.
    #[default]
    System,
    /// The same, and servers with one of these certificates or with one that these issued.
    Also(Vec<CertificateDer<'static>>),
    /// Any server: nothing is verified.
    Anybody,
}

impl Trust {
    /// Reads a PEM file of certificates to trust beside the system's issuers.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate; the text says so to a person.
    pub fn also(file: impl AsRef<Path>) -> Result<Self, String> {
        let text = std::fs::read(file).map_err(|error| format!("cannot read it: {error}"))?;
        // Some editors put the mark of UTF-8 in front.
        let text = text.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(&text);
        let certificates = CertificateDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("it is no PEM file: {error}"))?;
        let (good, bad) = RootCertStore::empty().add_parsable_certificates(certificates.clone());
        match (good, bad) {
            (1.., 0) => Ok(Self::Also(certificates)),
            (0, 0) => Err("there is no certificate in it".to_owned()),
            _ => Err("a certificate in it is damaged".to_owned()),
        }
    }

    /// Returns how to connect.
    ///
    /// # Errors
    /// No certificate could be verified; the text says why to a person.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let (mut roots, own) = match self {
            Self::System => (SYSTEM.clone(), Vec::new()),
            Self::Also(certificates) => (SYSTEM.clone(), certificates.clone()),
            Self::Anybody => (RootCertStore::empty(), Vec::new()),
        };
        roots.add_parsable_certificates(own.iter().cloned());
        let inner = match self {
            Self::Anybody => None,
            _ => Some(
                WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&PROVIDER))
                    .build()
                    .map_err(|_| {
                        "this machine trusts no issuer of certificates: install the package \
                         ca-certificates, or give the server's certificate with --ca"
                    })?,
            ),
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("ring knows both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { inner, own }))
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

#[derive(Debug)]
struct Verifier {
    /// `None` verifies nothing.
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that were given by hand.
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        match inner.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // A certificate of `openssl req -x509` calls itself an authority, which no server may be
            // (RFC 5280, 4.2.1.9). It is accepted if a person has given exactly this certificate by
            // hand. Its dates have been checked before.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.own.contains(certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

//! A certificate with its key: reading the files, and properties to show to people.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use ring::digest;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureAlgorithm, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

/// Longest file that is read. A chain has a few kilobytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A time after the end of every certificate.
const FAR_FUTURE: Duration = Duration::from_secs(1 << 40);

/// The reason why a certificate cannot be used, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {hint}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        hint: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: io::Error,
    },
    /// Only one of the two files exists.
    #[error(
        "{} is there and {} is not; --tls-self-signed makes both or none: delete the one or bring the other",
        found.display(), missing.display()
    )]
    Half {
        /// The existing file.
        found: PathBuf,
        /// The missing file.
        missing: PathBuf,
    },
    /// A file was read but cannot be used.
    #[error("{}: {hint}", path.display())]
    Unusable {
        /// The file; `memory` for a certificate that exists only there.
        path: PathBuf,
        /// The cause and the remedy.
        hint: String,
    },
    /// The key belongs to another certificate.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The system gives no random bytes for the key of tickets.
    #[error("the system gives no random bytes")]
    Random,
    /// The system cannot start a thread, or its work failed.
    #[error("a thread that TLS needs failed: {0}")]
    Thread(io::Error),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

/// A chain of certificates and the matching key of the first one.
#[derive(Debug, Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
    names: Vec<String>,
    begins: SystemTime,
    ends: SystemTime,
}

impl Certificate {
    /// Reads two files in PEM form: a chain, the server's own certificate first, and its key
    /// (PKCS#8, PKCS#1 or SEC1, without a passphrase).
    ///
    /// # Errors
    /// A file cannot be read or used, or the two do not belong together. An expired certificate is no
    /// error here; see [`problem_at`](Self::problem_at).
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let (certificate_pem, key_pem) = (read(certificate)?, read(key)?);
        Self::parse(&certificate_pem, certificate, &key_pem, key)
    }

    /// Parses the contents of the two files. The paths are for error messages.
    pub(super) fn parse(
        certificate_pem: &[u8],
        certificate: &Path,
        key_pem: &[u8],
        key: &Path,
    ) -> Result<Self, CertificateError> {
        let unusable = |path: &Path, hint: String| CertificateError::Unusable {
            path: path.to_owned(),
            hint,
        };
        let chain = CertificateDer::pem_slice_iter(certificate_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unusable(certificate, format!("this is no PEM file: {error}")))?;
        let Some(own) = chain.first().cloned() else {
            let hint = "there is no certificate in it; expected are PEM blocks that begin with \
                        -----BEGIN CERTIFICATE-----";
            return Err(unusable(certificate, hint.to_owned()));
        };
        let private = PrivateKeyDer::from_pem_slice(key_pem)
            .map_err(|error| unusable(key, key_hint(key_pem, &error)))?;
        let pair = CertifiedKey::from_der(chain, private, &default_provider());
        let pair = pair.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::Mismatch {
                    certificate: certificate.to_owned(),
                    key: key.to_owned(),
                }
            }
            rustls::Error::InvalidCertificate(error) => {
                unusable(certificate, format!("the certificate is damaged: {error}"))
            }
            // The library's message could reveal a part of the key, and it says no more than this.
            _ => unusable(
                key,
                "the key is damaged, or of a kind that TLS has no use for".into(),
            ),
        })?;
        let parsed = EndEntityCert::try_from(&own).map_err(|error| {
            unusable(certificate, format!("the certificate is damaged: {error}"))
        })?;
        let [begins, ends] = validity(&parsed)
            .ok_or_else(|| unusable(certificate, "it cannot serve as a server's".to_owned()))?;
        Ok(Self {
            fingerprint: Fingerprint::of(&own),
            names: parsed.valid_dns_names().map(str::to_owned).collect(),
            key: Arc::new(pair),
            begins,
            ends,
        })
    }

    /// Returns the DNS names that the certificate is for, without addresses.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns whether the certificate is for an address.
    pub fn is_for(&self, address: IpAddr) -> bool {
        let own = self.key.end_entity_cert();
        let parsed = own.ok().and_then(|own| EndEntityCert::try_from(own).ok());
        let name = ServerName::IpAddress(address.into());
        parsed.is_some_and(|own| own.verify_is_valid_for_subject_name(&name).is_ok())
    }

    /// Returns the last moment at which the certificate is valid.
    pub fn ends(&self) -> SystemTime {
        self.ends
    }

    /// Returns the certificate's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns why verifying clients refuse the certificate at a time, as the predicate of a sentence.
    pub fn problem_at(&self, now: SystemTime) -> Option<String> {
        if now > self.ends {
            Some(format!("expired on {}", day(self.ends)))
        } else if now < self.begins {
            Some(format!("is not valid before {}", day(self.begins)))
        } else {
            None
        }
    }

    /// Returns the kind of the key, on which depends what a handshake costs.
    pub fn key_kind(&self) -> KeyKind {
        let key = &self.key.key;
        match key.algorithm() {
            SignatureAlgorithm::RSA => {
                let offered = [SignatureScheme::RSA_PSS_SHA256];
                let signature = key.choose_scheme(&offered).and_then(|it| it.sign(b"").ok());
                // A signature is as long as the modulus.
                KeyKind::Rsa {
                    bits: 8 * signature.map_or(0, |it| it.len()),
                }
            }
            _ => KeyKind::EllipticCurve,
        }
    }

    /// Returns the chain and the key in the form that rustls uses.
    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}

/// The kind of a certificate's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA or Ed25519, whose signatures take a twentieth of a millisecond.
    EllipticCurve,
    /// RSA, whose signatures take eight times as long when the key is twice as long.
    Rsa {
        /// The length of the modulus.
        bits: usize,
    },
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EllipticCurve => f.write_str("elliptic curve"),
            Self::Rsa { bits } => write!(f, "RSA {bits}"),
        }
    }
}

/// The SHA-256 of a certificate, as browsers and `openssl x509 -fingerprint` show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        let digest = digest::digest(&digest::SHA256, certificate);
        let bytes = digest.as_ref().try_into();
        Self(bytes.expect("a SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02X}"))
    }
}

/// Returns the day of a moment in ISO 8601 form.
pub(crate) fn day(time: SystemTime) -> String {
    let stamp = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    stamp.strftime("%Y-%m-%d").to_string()
}

/// Returns the first and the last moment at which a certificate is valid. The library has no function
/// for that, but its errors name the dates, which it checks first.
fn validity(certificate: &EndEntityCert<'_>) -> Option<[SystemTime; 2]> {
    let refusal = |time| {
        let at = UnixTime::since_unix_epoch(time);
        let usage = KeyUsage::server_auth();
        certificate
            .verify_for_usage(&[], &[], &[], at, usage, None, None)
            .err()
    };
    let webpki::Error::CertNotValidYet { not_before, .. } = refusal(Duration::ZERO)? else {
        return None;
    };
    let webpki::Error::CertExpired { not_after, .. } = refusal(FAR_FUTURE)? else {
        return None;
    };
    let moment = |time: UnixTime| UNIX_EPOCH + Duration::from_secs(time.as_secs());
    Some([moment(not_before), moment(not_after)])
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |hint: String| CertificateError::Read {
        path: path.to_owned(),
        hint,
    };
    let read_error = |error: io::Error| {
        failed(match error.kind() {
            io::ErrorKind::NotFound => {
                "there is no such file; with --tls-self-signed one is made there".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "no permission; the server's user must be able to read it".to_owned()
            }
            _ => error.to_string(),
        })
    };
    let mut pem = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut pem))
        .map_err(read_error)?;
    if pem.len() as u64 > MAX_FILE_BYTES {
        return Err(failed(
            "it is too long for a certificate or a key".to_owned(),
        ));
    }
    if [[0xFF, 0xFE], [0xFE, 0xFF]]
        .iter()
        .any(|mark| pem.starts_with(mark))
    {
        return Err(failed("it is text in UTF-16; save it as UTF-8".to_owned()));
    }
    // Some editors put the mark of UTF-8 in front.
    if pem.starts_with("\u{FEFF}".as_bytes()) {
        pem.drain(.."\u{FEFF}".len());
    }
    Ok(pem)
}

/// Returns why no key was found, without revealing a part of the file.
fn key_hint(text: &[u8], error: &pem::Error) -> String {
    let has = |wanted: &str| {
        text.windows(wanted.len())
            .any(|part| part == wanted.as_bytes())
    };
    if has("ENCRYPTED") {
        "the key has a passphrase, which nobody could type at a restart; \
         `openssl pkey -in FILE -out NEW-FILE` writes it without"
            .to_owned()
    } else if matches!(error, pem::Error::NoItemsFound) {
        "there is no key in it; expected is a PEM block such as -----BEGIN PRIVATE KEY-----"
            .to_owned()
    } else {
        "the key is damaged".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn pair() -> (String, String) {
        let names = vec!["game.example".to_owned(), "192.0.2.7".to_owned()];
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 2);
        parameters.not_after = rcgen::date_time_ymd(2026, 3, 4);
        let certificate = parameters.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn parse(certificate: &str, key: &str) -> Result<Certificate, String> {
        let paths = ["cert.pem", "key.pem"].map(Path::new);
        Certificate::parse(certificate.as_bytes(), paths[0], key.as_bytes(), paths[1])
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_certificate_has_names_and_a_time_of_validity() {
        let (certificate, key) = pair();
        let certificate = parse(&certificate, &key).unwrap();
        assert_eq!(certificate.names(), ["game.example"]);
        assert!(certificate.is_for([192, 0, 2, 7].into()));
        assert!(!certificate.is_for([192, 0, 2, 8].into()));
        let days = |days: u64| certificate.ends() + Duration::from_secs(days * 24 * 60 * 60);
        let problem = certificate.problem_at(days(1)).unwrap();
        assert_eq!(problem, "expired on 2026-03-04");
        assert_eq!(certificate.problem_at(certificate.ends()), None);
        let problem = certificate.problem_at(UNIX_EPOCH).unwrap();
        assert_eq!(problem, "is not valid before 2026-01-02");
    }

    #[test]
    fn the_fingerprint_is_the_sha_256_of_the_certificate() {
        // `openssl dgst -sha256` of three bytes.
        let expected = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        let certificate = CertificateDer::from(&b"abc"[..]);
        assert_eq!(Fingerprint::of(&certificate).to_string(), expected);
    }

    #[test]
    fn files_as_editors_of_windows_write_them_are_read() {
        let (certificate, key) = pair();
        let folder = std::env::temp_dir().join(format!("cubesync-pem-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let paths = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        let windows = |pem: &str| format!("\u{FEFF}{}", pem.replace('\n', "\r\n"));
        fs::write(&paths[0], windows(&certificate)).unwrap();
        fs::write(&paths[1], windows(&key)).unwrap();
        assert!(Certificate::read(&paths[0], &paths[1]).is_ok());
        let utf_16 = certificate.encode_utf16().flat_map(u16::to_le_bytes);
        let utf_16: Vec<u8> = [0xFF, 0xFE].into_iter().chain(utf_16).collect();
        fs::write(&paths[0], utf_16).unwrap();
        let error = Certificate::read(&paths[0], &paths[1])
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("it is text in UTF-16; save it as UTF-8"),
            "{error}"
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn errors_name_the_file_and_reveal_nothing_of_the_key() {
        let ((certificate, key), (other, _)) = (pair(), pair());
        let damaged = |pem: &str| pem.replacen("MI", "MM", 1);
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        for (certificate, key, expected) in [
            (
                &*other,
                &*key,
                "key.pem does not belong to the certificate in cert.pem",
            ),
            (&key, &key, "cert.pem: there is no certificate in it"),
            (&certificate, &certificate, "key.pem: there is no key in it"),
            ("", &key, "cert.pem: there is no certificate in it"),
            (
                &certificate,
                &encrypted,
                "key.pem: the key has a passphrase",
            ),
            (
                &damaged(&certificate),
                &key,
                "cert.pem: the certificate is damaged",
            ),
            (&certificate, &damaged(&key), "key.pem: the key is damaged"),
            (&certificate, &key[..80], "key.pem: the key is damaged"),
        ] {
            let error = parse(certificate, key).unwrap_err();
            assert!(error.contains(expected), "{error}");
            let secret = &key[40..60.min(key.len())];
            assert!(!error.contains(secret), "{error}");
        }
    }
}

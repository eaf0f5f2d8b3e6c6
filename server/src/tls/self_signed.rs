//! A certificate of our own, for a LAN, where nobody gives out one.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType,
};
use tracing::{info, warn};

use super::certificate::{Certificate, CertificateError};
use crate::network::all_addresses;

/// How long it is valid: two years, below the 825 days above which Apple's systems refuse one.
const VALID_FOR: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);
/// From when: clocks of a LAN may be off.
const VALID_BEFORE: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate and its key in PEM form.
pub(super) struct Pair {
    certificate: String,
    key: String,
}

/// The pair in two files; when both are missing, a new one is made and written there.
pub(crate) fn read_or_make(
    certificate: &Path,
    key: &Path,
) -> Result<Certificate, CertificateError> {
    match (certificate.exists(), key.exists()) {
        (true, true) => {
            let kept = Certificate::read(certificate, key)?;
            warn_of_new_addresses(&kept);
            return Ok(kept);
        }
        (false, false) => make()?.write(certificate, key)?,
        (has_certificate, _) => {
            let (found, missing) = if has_certificate {
                (certificate, key)
            } else {
                (key, certificate)
            };
            return Err(CertificateError::Half {
                found: found.to_owned(),
                missing: missing.to_owned(),
            });
        }
    }
    Certificate::read(certificate, key)
}

/// A router may have given this machine another address since. Those of IPv6 change every day, and
/// nobody types them.
fn warn_of_new_addresses(kept: &Certificate) {
    let unnamed = all_addresses()
        .into_iter()
        .filter(|address| address.is_ipv4() && !kept.is_for(*address));
    let unnamed: Vec<_> = unnamed.map(|address| address.to_string()).collect();
    if !unnamed.is_empty() {
        warn!(
            addresses = unnamed.join(" "),
            "the certificate does not name all addresses of this machine: players who use another \
             are refused; delete both files for a new one"
        );
    }
}

/// Makes a pair for every name and address this machine has.
pub(super) fn make() -> Result<Pair, CertificateError> {
    make_for(names(), all_addresses()).map_err(|error| CertificateError::Make(error.to_string()))
}

fn make_for(names: Vec<String>, addresses: Vec<IpAddr>) -> Result<Pair, rcgen::Error> {
    let mut parameters = CertificateParams::new(names)?;
    let addresses = addresses.into_iter().map(SanType::IpAddress);
    parameters.subject_alt_names.extend(addresses);
    parameters.distinguished_name = DistinguishedName::new();
    let name = "cubesync, self-signed";
    parameters.distinguished_name.push(DnType::CommonName, name);
    // No certificate authority: whoever gets at the key can pretend to be this server, and nobody
    // else.
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now();
    parameters.not_before = (now - VALID_BEFORE).into();
    parameters.not_after = (now + VALID_FOR).into();
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

impl Pair {
    /// The pair, ready to serve with.
    pub(super) fn parse(&self) -> Result<Certificate, CertificateError> {
        let memory = Path::new("memory");
        Certificate::parse(
            self.certificate.as_bytes(),
            memory,
            self.key.as_bytes(),
            memory,
        )
    }

    fn write(&self, certificate: &Path, key: &Path) -> Result<(), CertificateError> {
        write_new(key, &self.key, true)?;
        if let Err(error) = write_new(certificate, &self.certificate, false) {
            // Half a pair would be in the way of the next start.
            let _ = fs::remove_file(key);
            return Err(error);
        }
        info!(
            certificate = %certificate.display(), key = %key.display(),
            "made a certificate; players give it to --ca"
        );
        Ok(())
    }
}

fn write_new(path: &Path, text: &str, is_secret: bool) -> Result<(), CertificateError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if is_secret {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = is_secret;
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|reason: io::Error| CertificateError::Write {
        path: path.to_owned(),
        reason,
    })
}

/// What this machine is called: by itself, and by others of its network (RFC 6762).
fn names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let is_name = |name: &str| {
        let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        !name.is_empty() && name.bytes().all(is_sign) && name != "localhost"
    };
    if let Some(name) = host_name().filter(|name| is_name(name)) {
        if !name.contains('.') {
            names.push(format!("{name}.local"));
        }
        names.push(name);
    }
    names
}

#[cfg(unix)]
fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

#[cfg(not(unix))]
fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_this_machine_and_is_valid_for_two_years() {
        let certificate = make().unwrap().parse().unwrap();
        assert!(certificate.names().contains(&"localhost".to_owned()));
        let now = SystemTime::now();
        assert_eq!(certificate.problem_at(now), None);
        assert!(certificate.problem_at(now + 2 * VALID_FOR).is_some());
        assert!(all_addresses().contains(&IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn half_a_pair_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("cubesync-half-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        fs::write(&key, "a key that somebody still wants").unwrap();
        let error = read_or_make(&certificate, &key).unwrap_err().to_string();
        assert!(error.contains("makes both or none"), "{error}");
        assert!(!certificate.exists());
        let kept = fs::read_to_string(&key).unwrap();
        assert_eq!(kept, "a key that somebody still wants");
        fs::remove_dir_all(&folder).unwrap();
    }
}

//! Self-signed certificates, for a LAN without a certificate authority.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType,
};
use tracing::{info, warn};

use super::certificate::{Certificate, CertificateError};
use cubesync_network::{Network, all_addresses};

/// Time of validity: two years, less than the 825 days that Apple's systems accept at most.
const VALID_FOR: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);
/// Time by which the validity begins in the past, because clocks of a LAN may be wrong.
const BACKDATED_BY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate and its key in PEM form.
pub(super) struct Pair {
    certificate: String,
    key: String,
}

/// Reads a certificate and its key from two files. If both are missing, makes and writes them.
pub(crate) fn read_or_make(
    certificate: &Path,
    key: &Path,
) -> Result<Certificate, CertificateError> {
    match (certificate.exists(), key.exists()) {
        (true, true) => {
            let kept = Certificate::read(certificate, key)?;
            warn_of_missing_names(&kept);
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

/// Warns if the certificate lacks a name or an address at which people reach this machine now.
pub(super) fn warn_of_missing_names(kept: &Certificate) {
    let missing = missing_names(kept, &Network::now());
    if !missing.is_empty() {
        warn!(
            missing = missing.join(" "),
            "the certificate does not name all addresses of this machine: players who use another \
             are refused; delete both files for a new one"
        );
    }
}

/// Returns the names and addresses at which people reach this machine and which the certificate lacks. A
/// router may have given the machine another address since it was made.
pub(crate) fn missing_names(kept: &Certificate, network: &Network) -> Vec<String> {
    let known = |name: &String| kept.names().iter().any(|it| it.eq_ignore_ascii_case(name));
    let others = network.for_others(Ipv6Addr::UNSPECIFIED.into());
    let addresses = others.into_iter().flatten().map(|own| own.ip);
    let addresses = addresses.filter(|ip| !kept.is_for(*ip));
    let names = names().into_iter().filter(|name| !known(name));
    names.chain(addresses.map(|ip| ip.to_string())).collect()
}

/// Makes a certificate for every name and address of this machine.
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
    // The certificate is no certificate authority, so a stolen key can only impersonate this server.
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now();
    parameters.not_before = (now - BACKDATED_BY).into();
    parameters.not_after = (now + VALID_FOR).into();
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

impl Pair {
    /// Parses the pair for use by this server.
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
            // With only one of the files, the next start would fail.
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
    let written = options.open(path).and_then(|mut file| {
        // Half a file, on a full disk, would let each later start fail.
        file.write_all(text.as_bytes())
            .inspect_err(|_| _ = fs::remove_file(path))
    });
    written.map_err(|reason: io::Error| CertificateError::Write {
        path: path.to_owned(),
        reason,
    })
}

/// Returns this machine's names: its own one, and the one for its network (RFC 6762).
fn names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let is_name = |name: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        !name.is_empty() && name.bytes().all(is_allowed) && name != "localhost"
    };
    if let Some(name) = host_name().filter(|name| is_name(name)) {
        if !name.contains('.') {
            names.push(format!("{name}.local"));
        }
        names.push(name);
    }
    names
}

/// Returns this machine's name, as the system knows it.
#[cfg(unix)]
pub(crate) fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

/// Returns this machine's name, as the system knows it.
#[cfg(not(unix))]
pub(crate) fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_certificate_names_this_machine_and_is_valid_for_two_years() {
        let certificate = make().unwrap().parse().unwrap();
        assert!(certificate.names().contains(&"localhost".to_owned()));
        let now = SystemTime::now();
        assert_eq!(certificate.problem_at(now), None);
        assert!(certificate.problem_at(now + 2 * VALID_FOR).is_some());
        assert!(all_addresses().contains(&IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn what_a_kept_certificate_lacks_is_noticed() {
        let addresses = vec!["192.168.1.5".parse().unwrap()];
        let kept = make_for(names(), addresses).unwrap().parse().unwrap();
        let missing = |addresses: &[&str]| missing_names(&kept, &Network::of(addresses));
        assert_eq!(missing(&["192.168.1.5"]), [""; 0]);
        assert_eq!(missing(&["192.168.1.77"]), ["192.168.1.77"]);
        assert_eq!(missing(&["2a00::5"]), ["2a00::5"]);
        let nameless = make_for(vec!["elsewhere".to_owned()], Vec::new()).unwrap();
        let missing = missing_names(&nameless.parse().unwrap(), &Network::default());
        assert_eq!(missing, names());
    }

    #[test]
    fn a_key_without_a_certificate_is_not_overwritten() {
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

//! The settings of the connection to NATS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::address::{BusAddress, Login};
use super::subject::inbox_prefix;

/// The maximum number of messages that are sent and not yet written: about those of 90 edges in the
/// time until a silent NATS is given up.
const MAX_UNSENT: usize = 8_192;

/// The maximum number of messages that are received but not yet in a queue, per subscription. Its
/// task does nothing else than to move them.
const MAX_UNREAD: usize = 1_024;

/// The silence of NATS after which it is asked whether it is there. The connection is given up
/// after two unanswered questions, so within three of these intervals.
const PING_AFTER: Duration = Duration::from_secs(1);

/// The maximum time of one attempt to connect, encryption and login included.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// The maximum time between two attempts, the first of which is made at once.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The settings of a connection to NATS.
#[derive(Debug, Clone)]
pub struct NatsSettings {
    /// The addresses of members of one NATS cluster; at least one.
    pub addresses: Vec<BusAddress>,
    /// The name that servers of one world have in common, where several worlds share one NATS.
    pub cluster_name: String,
    /// A file of credentials (.creds), or one with the seed of an NKey.
    pub credentials: Option<PathBuf>,
    /// The certificate of the authority that must have issued NATS's own.
    pub authority: Option<PathBuf>,
    /// This server's own certificate and its private key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl NatsSettings {
    /// Returns settings with one address, without encryption.
    #[cfg(test)]
    pub(super) fn of(address: BusAddress) -> Self {
        Self {
            addresses: vec![address],
            cluster_name: "cubesync".to_owned(),
            credentials: None,
            authority: None,
            certificate: None,
        }
    }
}

/// An error in the flags, because of which there is no bus. An unreachable NATS is no error.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// An invalid address.
    #[error("--bus: {0}")]
    Address(String),
    /// A file that cannot be read or used.
    #[error("{flag} {}: {reason}", path.display())]
    File {
        /// The flag that named the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason why it cannot be used.
        reason: String,
    },
}

/// Returns the addresses and the options for the NATS client.
pub(super) fn options(
    settings: &NatsSettings,
) -> Result<(Vec<ServerAddr>, ConnectOptions), BusError> {
    let parsed: Result<Vec<_>, _> = settings.addresses.iter().map(BusAddress::parse).collect();
    let (addresses, logins): (Vec<_>, Vec<_>) =
        parsed.map_err(BusError::Address)?.into_iter().unzip();
    let mut options = ConnectOptions::new()
        .name("cubesync-server")
        .custom_inbox_prefix(inbox_prefix(&settings.cluster_name))
        .no_echo()
        .ping_interval(PING_AFTER)
        .connection_timeout(CONNECT_WITHIN)
        .reconnect_delay_callback(retry_after)
        .client_capacity(MAX_UNSENT)
        .subscription_capacity(MAX_UNREAD);
    options = match logins.into_iter().flatten().next() {
        Some(Login::User(user, password)) => options.user_and_password(user, password),
        Some(Login::Token(token)) => options.token(token),
        None => options,
    };
    if let Some(path) = &settings.credentials {
        let problem = |reason: String| file("--bus-credentials", path, reason);
        let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        options = match text.contains("-----BEGIN") {
            true => options
                .credentials(&text)
                .map_err(|error| problem(error.to_string()))?,
            false => options.nkey(seed(&text).ok_or_else(|| {
                problem("neither credentials of NATS nor the seed of an NKey".to_owned())
            })?),
        };
    }
    if let Some(path) = &settings.authority {
        certificates(path).map_err(|reason| file("--bus-ca", path, reason))?;
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &settings.certificate {
        certificates(certificate).map_err(|reason| file("--bus-cert", certificate, reason))?;
        PrivateKeyDer::from_pem_file(key)
            .map_err(|error| file("--bus-key", key, error.to_string()))?;
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok((addresses, options))
}

fn file(flag: &'static str, path: &Path, reason: String) -> BusError {
    BusError::File {
        flag,
        path: path.to_owned(),
        reason,
    }
}

/// Checks that a file holds certificates, since the library checks only when it connects.
fn certificates(path: &Path) -> Result<(), String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let count = CertificateDer::pem_slice_iter(&pem)
        .filter(Result::is_ok)
        .count();
    match count {
        0 => Err("holds no certificate in PEM form".to_owned()),
        _ => Ok(()),
    }
}

/// Returns a user's NKey as `nk -gen user` writes it: one line that begins with SU.
fn seed(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    let is_seed = |line: &&str| line.starts_with("SU") && line.len() > 50;
    Some(lines.find(is_seed)?.to_owned())
}

/// Returns the delay before an attempt to connect, by the number of attempts in a row. The first is
/// made at once, the next after about 100 ms, and each further one after twice the time, up to
/// [`MAX_RETRY_AFTER`]. The delay is random, so that servers do not all come back at the same
/// moment.
fn retry_after(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(2)).unwrap_or(u32::MAX);
    let longest = match attempts {
        0 | 1 => Duration::ZERO,
        _ => Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(doublings)),
    };
    longest
        .min(MAX_RETRY_AFTER)
        .mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> NatsSettings {
        NatsSettings::of("h".into())
    }

    fn problem(settings: &NatsSettings) -> String {
        match options(settings) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn attempts_come_soon_and_at_random() {
        assert_eq!(retry_after(1), Duration::ZERO);
        for attempts in [2, 3, 10, usize::MAX] {
            let after = retry_after(attempts);
            assert!(after >= Duration::from_millis(50) && after <= MAX_RETRY_AFTER);
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_flag_and_name() {
        let nothing = NatsSettings {
            authority: Some("/nowhere/ca.pem".into()),
            ..settings()
        };
        assert!(problem(&nothing).starts_with("--bus-ca /nowhere/ca.pem: "));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let authority = NatsSettings {
            authority: Some(source.into()),
            ..settings()
        };
        let credentials = NatsSettings {
            credentials: Some(source.into()),
            ..settings()
        };
        for (flag, wrong) in [("--bus-ca", authority), ("--bus-credentials", credentials)] {
            let problem = problem(&wrong);
            assert!(
                problem.starts_with(&format!("{flag} {source}: ")),
                "{problem}"
            );
        }
        assert_eq!(problem(&settings()), "");
    }
}

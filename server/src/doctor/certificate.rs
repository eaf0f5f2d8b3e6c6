//! Encryption: whether it is on, and how long the certificate is valid.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Finding;
use super::files::can_write;
use super::reach::Reach;
use crate::config::Config;
use crate::tls::{Certificate, CertificateError, KeyKind, day, missing_names};
use cubesync_network::{Network, Scope};

const ABOUT: &str = "encryption";

/// Time before a certificate's end from which on it is worth a note. Automatic renewal happens a month
/// before the end.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Longest RSA key without a note. Its signature takes half a millisecond, and one of twice the length
/// eight times as long.
const QUICK_RSA_BITS: usize = 2_048;

pub(super) fn examine(config: &Config, reach: &Reach, now: SystemTime) -> Vec<Finding> {
    let (certificate, key) = match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => (certificate, key),
        _ if config.tls_self_signed => {
            return vec![Finding::note(
                ABOUT,
                "on, with a new certificate at each start",
                "--tls-cert and --tls-key say where it is kept, so that players' --ca stays good",
            )];
        }
        _ => {
            return vec![judge_none(reach, config.has_key())];
        }
    };
    if config.tls_self_signed && !certificate.exists() && !key.exists() {
        return vec![judge_new(
            certificate,
            can_write(certificate).and_then(|()| can_write(key)),
        )];
    }
    let read = Certificate::read(certificate, key);
    let missing = match &read {
        Ok(kept) if config.tls_self_signed => missing_names(kept, &Network::now()),
        _ => Vec::new(),
    };
    let slow = read.as_ref().ok().and_then(|it| judge_key(it.key_kind()));
    let mut findings = vec![judge(read, now)];
    findings.extend(slow);
    findings.extend(judge_missing(&missing));
    findings
}

/// Judges what a handshake with the key costs.
fn judge_key(kind: KeyKind) -> Option<Finding> {
    let KeyKind::Rsa { bits } = kind else {
        return None;
    };
    (bits > QUICK_RSA_BITS).then(|| {
        Finding::note(
            ABOUT,
            format!("the key is RSA with {bits} bits, and each handshake takes some milliseconds"),
            "one of an elliptic curve, as `certbot --key-type ecdsa` makes it, takes a thirtieth",
        )
    })
}

/// Judges the names and addresses of this machine that its own certificate lacks.
fn judge_missing(missing: &[String]) -> Option<Finding> {
    (!missing.is_empty()).then(|| {
        Finding::note(
            ABOUT,
            format!("the certificate does not name {}", missing.join(", ")),
            "players who come by these are refused: delete both files, so that the next start makes \
             a new pair, and give players the new certificate",
        )
    })
}

/// Judges that there is no encryption.
pub(super) fn judge_none(reach: &Reach, has_key: bool) -> Finding {
    let Some(address) = reach.public_address() else {
        return match reach.players() {
            Scope::Machine => Finding::ok(ABOUT, "none; nothing leaves this machine"),
            _ => Finding::ok(ABOUT, "none, which is for a network you trust"),
        };
    };
    let public = format!("nothing is encrypted, and {address} is a public address");
    let advice = format!(
        "--tls-cert and --tls-key turn encryption on, or --tls-self-signed; or let only this machine in, \
         with {}, behind a reverse proxy",
        reach.flags_that_close()
    );
    match has_key {
        true => Finding::problem(
            ABOUT,
            format!("{public}: the join key crosses the internet for everybody on the way to read"),
            advice,
        ),
        false => Finding::note(
            ABOUT,
            format!("{public}: whoever is on the way can read and change what is played"),
            advice,
        ),
    }
}

fn judge_new(certificate: &Path, can_write: std::io::Result<()>) -> Finding {
    match can_write {
        Ok(()) => Finding::ok(
            ABOUT,
            format!(
                "on; the first start writes a pair, {} for players' --ca",
                certificate.display()
            ),
        ),
        Err(error) => Finding::problem(
            ABOUT,
            format!(
                "the new pair cannot be written beside {}: {error}",
                certificate.display()
            ),
            "let the server's user write there, or choose other files with --tls-cert and --tls-key",
        ),
    }
}

fn judge(certificate: Result<Certificate, CertificateError>, now: SystemTime) -> Finding {
    let certificate = match certificate {
        Ok(certificate) => certificate,
        Err(error) => {
            let summary = format!("the server would not start: {error}");
            return Finding::problem(ABOUT, summary, "mend the files, or choose others");
        }
    };
    let renew = "renew it into the same files, then `systemctl reload cubesync`: nobody is dropped";
    if let Some(problem) = certificate.problem_at(now) {
        let summary = format!("the certificate {problem}: clients that verify it refuse");
        return Finding::problem(ABOUT, summary, renew);
    }
    let ends = certificate.ends();
    if ends < now + SOON {
        return Finding::note(
            ABOUT,
            format!("the certificate ends on {}", day(ends)),
            renew,
        );
    }
    match certificate.names() {
        [] => Finding::note(
            ABOUT,
            format!(
                "on until {}, with a certificate that names no host",
                day(ends)
            ),
            "players who come by a host's name will refuse it",
        ),
        names => Finding::ok(
            ABOUT,
            format!("on until {}, as {}", day(ends), names.join(", ")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn without_encryption_a_key_must_not_cross_the_internet() {
        let judged = |own: &[&str], has_key| {
            let config = Config::parse_from(["cubesync-server"]);
            judge_none(&Reach::of(&config, &Network::of(own)), has_key)
        };
        for (own, has_key, verdict) in [
            (&[][..], true, Verdict::Ok),
            (&["192.168.1.5"], true, Verdict::Ok),
            (&["192.168.1.5", "203.0.113.9"], false, Verdict::Note),
            (&["203.0.113.9"], true, Verdict::Problem),
        ] {
            let finding = judged(own, has_key);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
        }
    }

    #[test]
    fn a_certificate_is_judged_by_its_files_and_its_dates() {
        let folder = std::env::temp_dir().join(format!("doctor-tls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let paths = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        let [certificate, key] = paths.each_ref().map(|path| path.to_str().unwrap());
        let flags = [
            "cubesync-server",
            "--tls-cert",
            certificate,
            "--tls-key",
            key,
        ];
        let judged = |flags: &[&str], now| {
            let config = Config::parse_from(flags);
            let findings = examine(&config, &Reach::of(&config, &Network::default()), now);
            findings
                .into_iter()
                .map(|finding| (finding.verdict, finding.summary))
                .collect::<Vec<_>>()
        };
        let now = SystemTime::now();
        let [(Verdict::Problem, summary)] = &judged(&flags, now)[..] else {
            panic!("there are no files yet");
        };
        assert!(summary.contains("no such file"), "{summary}");
        let made = [&flags[..], &["--tls-self-signed"]].concat();
        assert_eq!(judged(&made, now)[0].0, Verdict::Ok);
        assert!(!paths[0].exists(), "the check makes none");

        crate::tls::read_or_make(&paths[0], &paths[1]).unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        let at = |now| judged(&flags, now)[0].clone();
        assert_eq!(at(now).0, Verdict::Ok);
        assert!(at(now).1.contains("localhost"), "{:?}", at(now));
        assert_eq!(at(now + 725 * day).0, Verdict::Note);
        assert_eq!(at(now + 731 * day).0, Verdict::Problem);
        assert_eq!(at(now - 2 * day).0, Verdict::Problem);
        std::fs::write(key, "no key").unwrap();
        assert_eq!(at(now).0, Verdict::Problem);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_key_that_makes_handshakes_slow_is_worth_a_note() {
        assert_eq!(judge_key(KeyKind::EllipticCurve), None);
        assert_eq!(judge_key(KeyKind::Rsa { bits: 2_048 }), None);
        let finding = judge_key(KeyKind::Rsa { bits: 4_096 }).unwrap();
        assert_eq!(finding.verdict, Verdict::Note);
        assert!(finding.summary.contains("4096 bits"), "{finding:?}");
    }

    #[test]
    fn a_name_that_the_certificate_lacks_is_worth_a_note() {
        assert_eq!(judge_missing(&[]), None);
        let finding = judge_missing(&["192.168.1.77".to_owned()]).unwrap();
        assert_eq!(finding.verdict, Verdict::Note);
        assert!(finding.summary.ends_with("192.168.1.77"), "{finding:?}");
    }

    #[test]
    fn a_new_pair_needs_a_writable_folder() {
        let path = Path::new("cert.pem");
        assert_eq!(judge_new(path, Ok(())).verdict, Verdict::Ok);
        let denied = Err(std::io::ErrorKind::PermissionDenied.into());
        assert_eq!(judge_new(path, denied).verdict, Verdict::Problem);
    }
}

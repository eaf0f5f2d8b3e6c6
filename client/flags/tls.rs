//! The flags about encryption.

use clap::Args;
use cubesync_client::ClientOptions;
use cubesync_client::Trust;

/// Whether to encrypt the connection, and which certificates to accept.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Encryption")]
pub(crate) struct TlsFlags {
    /// Encrypt the connection; tls:// in front of the server's address does the same
    #[arg(long, env = "CUBESYNC_TLS")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    tls: bool,
    /// File of certificates (PEM) to trust beside the system's: the server's own, or its issuer's
    #[arg(long, value_name = "FILE", env = "CUBESYNC_CA")]
    #[arg(value_parser = |file: &str| Trust::also(file))]
    ca: Option<Trust>,
    /// Accept any certificate; anybody on the way can then read and change the traffic
    #[arg(long, env = "CUBESYNC_INSECURE", conflicts_with = "ca")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    insecure: bool,
}

impl TlsFlags {
    /// Sets what the flags say in a client's options.
    pub(crate) fn apply(&self, options: &mut ClientOptions) {
        if self.tls && !options.server.starts_with(ClientOptions::TLS) {
            options.server.insert_str(0, ClientOptions::TLS);
        }
        options.trust = match &self.ca {
            _ if self.insecure => Trust::Anybody,
            Some(trust) => trust.clone(),
            None => Trust::System,
        };
    }

    /// Warns on standard error if the connection to a server is less safe than it seems.
    pub(crate) fn warn(&self, server: &str) {
        let is_encrypted = self.tls || server.starts_with(ClientOptions::TLS);
        if !is_encrypted && (self.insecure || self.ca.is_some()) {
            eprintln!(
                "warning: --ca and --insecure have no effect without --tls: the connection is not \
                 encrypted"
            );
        }
        if self.insecure {
            eprintln!(
                "warning: with --insecure no server is verified: on the way, anybody can read and \
                 change what is said"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        tls: TlsFlags,
    }

    fn options(server: &str, flags: &[&str]) -> ClientOptions {
        let program = Program::parse_from([&["program"], flags].concat());
        let mut options = ClientOptions::new(server, "Anna");
        program.tls.apply(&mut options);
        options
    }

    #[test]
    fn encryption_is_asked_for_once() {
        for server in ["host:1", "tls://host:1"] {
            assert_eq!(options(server, &["--tls"]).server, "tls://host:1");
        }
        assert_eq!(options("host:1", &[]).server, "host:1");
    }

    #[test]
    fn nobody_is_trusted_blindly_by_default() {
        assert_eq!(options("host:1", &["--tls"]).trust, Trust::System);
        assert_eq!(options("host:1", &["--insecure"]).trust, Trust::Anybody);
    }

    #[test]
    fn a_file_without_a_certificate_is_a_usage_error() {
        for (file, words) in [
            ("Cargo.toml", "no certificate"),
            ("no such file", "cannot read"),
        ] {
            let parsed = Program::try_parse_from(["program", "--ca", file]);
            let error = parsed.unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

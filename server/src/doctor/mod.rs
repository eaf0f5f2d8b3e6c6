//! `cubesync-server doctor`: a check of whether a server with these flags would work.
//!
//! Each check has a file, which separates looking from judging, so that every verdict can be tested.
//! The checks contact no other machine but the bus, and they change nothing but a lease of their own there.

mod access;
mod bundle;
#[cfg(feature = "cluster")]
mod bus;
mod certificate;
mod clock;
mod datagrams;
mod descriptors;
mod files;
mod finding;
mod flags;
mod log;
mod ports;
mod reach;
mod secrets;
mod variables;

use std::time::SystemTime;

pub use self::finding::{Finding, Report, Verdict};
pub use self::ports::is_serving;
use self::reach::Reach;
use crate::config::Config;
use cubesync_network::Network;

/// Runs all checks.
pub async fn examine(config: &Config) -> Report {
    let reach = Reach::of(config, &Network::now());
    let now = SystemTime::now();
    let findings = [
        ports::examine(config),
        datagrams::examine(config),
        reach.judge(config.tls_cert.is_some() || config.tls_self_signed),
        access::examine(config, &reach),
        #[cfg(feature = "cluster")]
        bus::examine(config).await,
        certificate::examine(config, &reach, now),
        bundle::examine(),
        files::examine(config),
        log::examine(config),
        clock::examine(now),
        examine_at_start(config),
    ];
    Report::new(findings.into_iter().flatten().collect())
}

/// Runs the checks of which a server that starts reports everything that is not in order: it would run,
/// but not as its operator meant.
pub fn examine_at_start(config: &Config) -> Vec<Finding> {
    let findings = [
        descriptors::examine(config),
        secrets::examine(config),
        flags::examine(config),
        variables::examine(),
        clock::examine_zone(),
    ];
    findings.into_iter().flatten().collect()
}

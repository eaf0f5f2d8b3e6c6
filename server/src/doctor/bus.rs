//! The bus: whether it can be reached, whether rooms get leases, and which other servers use it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cubesync_cluster::bus::{Bus, LeaseError, Nats, NatsSettings, ServerId, Topic};
use cubesync_cluster::{Presence, ServerProfile};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::Finding;
use crate::cluster::profile;
use crate::config::Config;
use cubesync_network::{Scope, scope};

/// Time of listening. Each server announces itself once a second.
const LISTEN_FOR: Duration = Duration::from_millis(1_500);

/// Time for a lease. A bucket that this makes gives none for the first second and a half.
const LEASE_WITHIN: Duration = Duration::from_secs(3);

/// Pause between two attempts to get a lease.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// The name of a room whose lease is tried. No room can have it.
const TRIED_ROOM: &str = "\0doctor";

/// Largest number of servers whose addresses are listed.
const MAX_NAMED: usize = 5;

const BUS: &str = "bus";
const LEASES: &str = "leases";
const CLUSTER: &str = "other servers";

/// Listens on the bus for a moment, and tries the lease of a room that nobody has.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let Some(settings) = config.cluster.nats() else {
        return Vec::new();
    };
    let mut findings = match connect(settings).await {
        Ok(nats) => {
            let (others, leases) = tokio::join!(listen(&nats), try_leases(&nats));
            let profile = profile(config, [config.listen, config.http]);
            let mut findings = vec![Finding::ok(BUS, "NATS answers"), judge_leases(leases)];
            findings.extend(judge(&profile, &others));
            findings
        }
        Err(reason) => vec![Finding::problem(
            BUS,
            format!("cannot be used: {reason}"),
            "the server starts all the same and is alone until it can. Is NATS running at that \
             address, does a firewall let this machine through, and does NATS know the user?",
        )],
    };
    findings.extend(config.cluster.bus().iter().filter_map(|address| {
        let (host, is_encrypted) = address.host()?;
        let is_public = host
            .parse()
            .is_ok_and(|ip: IpAddr| scope(ip) == Scope::Internet);
        (is_public && !is_encrypted).then(open_to_the_internet)
    }));
    findings
}

async fn connect(settings: NatsSettings) -> Result<Arc<Nats>, String> {
    Nats::try_once(&settings).await?;
    let nats = Nats::start(settings).await;
    nats.map_err(|error| error.to_string())
}

/// Acquires a lease, renews it and releases it.
async fn try_leases(nats: &Nats) -> Result<(), LeaseError> {
    let (leases, server) = (nats.leases(), ServerId(fastrand::u32(1..)));
    let until = Instant::now() + LEASE_WITHIN;
    let mut lease = leases.acquire(TRIED_ROOM, server).await;
    while lease.is_err() && Instant::now() < until {
        sleep(RETRY_EVERY).await;
        lease = leases.acquire(TRIED_ROOM, server).await;
    }
    let lease = leases.renew(TRIED_ROOM, lease?, server).await?;
    leases.release(TRIED_ROOM, lease).await
}

async fn listen(nats: &Nats) -> Vec<Presence> {
    let (sender, mut messages) = mpsc::channel(64);
    let _listening = nats.subscribe(&Topic::Servers, sender);
    let mut others = BTreeMap::new();
    let listening = async {
        while let Some(message) = messages.recv().await {
            if let Ok(presence) = Presence::decode(&message.payload) {
                others.insert(presence.id, presence);
            }
        }
    };
    // The subscription outlasts the time, so the timeout is the usual end.
    let _ = timeout(LISTEN_FOR, listening).await;
    others.into_values().collect()
}

fn judge_leases(tried: Result<(), LeaseError>) -> Finding {
    match tried {
        Ok(()) => Finding::ok(LEASES, "rooms can be shared: NATS gives leases of them"),
        Err(LeaseError::Unreachable(reason)) => Finding::problem(
            LEASES,
            reason,
            "until then every server is alone with its players, as without a bus",
        ),
        Err(LeaseError::Taken) => Finding::note(
            LEASES,
            "another program holds the one that was tried",
            "another doctor may be at work: try again",
        ),
    }
}

/// Judges the other servers' announcements.
fn judge(profile: &ServerProfile, others: &[Presence]) -> Vec<Finding> {
    let mut findings = vec![list(others)];
    let odd = others.iter().filter(|other| other.rules != profile.rules);
    findings.extend(odd.map(|other| {
        Finding::problem(
            CLUSTER,
            format!(
                "{} has another --tick or --view-distance, or another version",
                other.address.tcp
            ),
            "give all servers the same: until then that one does not share its rooms",
        )
    }));
    let is_local = |address: &str| address.starts_with("127.") || address.starts_with("[::1]");
    if is_local(&profile.address.tcp) || is_local(&profile.address.web) {
        findings.push(Finding::note(
            "public address",
            format!(
                "players elsewhere are told {} and {}",
                profile.address.tcp, profile.address.web
            ),
            "right if all servers and players are on this machine; else --public-address and \
             --public-http say how they reach this one",
        ));
    }
    findings
}

fn list(others: &[Presence]) -> Finding {
    let named: Vec<_> = others
        .iter()
        .take(MAX_NAMED)
        .map(|other| &*other.address.tcp)
        .collect();
    let more = match others.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    let summary = match others.len() {
        0 => "nobody else of this cluster is there now".to_owned(),
        _ => format!("{}{more}", named.join(", ")),
    };
    Finding::ok(CLUSTER, summary)
}

fn open_to_the_internet() -> Finding {
    Finding::problem(
        BUS,
        "crosses the internet without encryption: everybody on the way can read and change what servers send each other",
        "tls:// in --bus and a login, or a private network between the machines",
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Verdict;
    use super::*;
    use cubesync_cluster::testing::presence;

    fn own_profile() -> ServerProfile {
        let flags = [
            "--public-address",
            "a.example:1",
            "--public-http",
            "a.example:2",
        ];
        let config = Config::parse_from(["cubesync-server"].iter().chain(&flags));
        profile(&config, [config.listen, config.http])
    }

    fn verdicts(findings: &[Finding]) -> Vec<(&'static str, Verdict)> {
        findings
            .iter()
            .map(|finding| (finding.about, finding.verdict))
            .collect()
    }

    #[test]
    fn other_servers_are_listed_and_their_differences_reported() {
        let alone = judge(&own_profile(), &[]);
        assert_eq!(verdicts(&alone), [(CLUSTER, Verdict::Ok)]);
        assert!(alone[0].summary.contains("nobody else"));
        let mut other = presence(2);
        other.rules.tick_hz = 60;
        let findings = judge(&own_profile(), &[presence(1), other]);
        assert_eq!(
            findings[0].summary,
            "game.example:10001, game.example:10002"
        );
        assert_eq!(verdicts(&findings)[1..], [(CLUSTER, Verdict::Problem)]);
        assert!(findings[1].summary.contains("game.example:10002"));
        let many = judge(&own_profile(), &(0..9).map(presence).collect::<Vec<_>>());
        assert!(many[0].summary.ends_with(" and 4 more"));
    }

    #[test]
    fn an_address_of_this_machine_is_worth_a_note() {
        let mut profile = own_profile();
        profile.address.web = "127.0.0.1:8080".to_owned();
        let findings = judge(&profile, &[]);
        assert_eq!(verdicts(&findings)[1], ("public address", Verdict::Note));
    }

    #[test]
    fn a_reason_why_there_are_no_leases_is_a_problem() {
        assert_eq!(judge_leases(Ok(())).verdict, Verdict::Ok);
        let reason = LeaseError::Unreachable("no JetStream".to_owned());
        let finding = judge_leases(Err(reason));
        assert_eq!(finding.verdict, Verdict::Problem);
        assert_eq!(finding.summary, "no JetStream");
        assert_eq!(judge_leases(Err(LeaseError::Taken)).verdict, Verdict::Note);
    }

    #[tokio::test]
    async fn an_unreachable_bus_is_a_problem() {
        let config = Config::parse_from(["cubesync-server", "--bus", "nats://127.0.0.1:1"]);
        let findings = examine(&config).await;
        assert_eq!(verdicts(&findings), [(BUS, Verdict::Problem)]);
        let alone = Config::parse_from(["cubesync-server"]);
        assert!(examine(&alone).await.is_empty());
    }
}

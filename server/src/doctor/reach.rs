//! Who can reach the server, as far as that can be known without asking anybody outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::Finding;
use crate::config::Config;

/// From where an address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Only programs of this machine.
    Machine,
    /// Machines of the same network; others when a router passes them on.
    Network,
    /// Everybody, unless a firewall is in between.
    Internet,
}

/// From where each listener is reached.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    pub(super) clients: Scope,
    pub(super) http: Scope,
    pub(super) text: Option<Scope>,
    /// The widest way to clients or pages.
    address: Option<IpAddr>,
}

impl Reach {
    /// `own` are the machine's addresses.
    pub(super) fn of(config: &Config, own: &[IpAddr]) -> Self {
        let widest = |listener: SocketAddr| {
            let addresses = addresses(listener.ip(), own);
            addresses.max_by_key(|address| scope(*address))
        };
        let reach = |listener| widest(listener).map_or(Scope::Machine, scope);
        let both = [config.listen, config.http];
        let address = both.into_iter().filter_map(widest);
        Self {
            clients: reach(config.listen),
            http: reach(config.http),
            text: config.text.map(reach),
            address: address.max_by_key(|address| scope(*address)),
        }
    }

    /// From where players come in.
    pub(super) fn players(&self) -> Scope {
        self.clients.max(self.http)
    }

    pub(super) fn judge(&self, config: &Config) -> Vec<Finding> {
        const ABOUT: &str = "reach";
        let address = match self.address {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(address) => address.to_string(),
            None => "this machine".to_owned(),
        };
        let (clients, http) = (config.listen.port(), config.http.port());
        let is_encrypted = config.tls_cert.is_some() || config.tls_self_signed;
        // Which names the certificate has is another question.
        let (scheme, curl) = match is_encrypted {
            true => ("https", "curl -k"),
            false => ("http", "curl"),
        };
        vec![match self.players() {
            Scope::Machine => Finding::note(
                ABOUT,
                "only programs of this machine reach it",
                "right behind a reverse proxy; for others to join, --listen and --http with 0.0.0.0",
            ),
            Scope::Network => Finding::note(
                ABOUT,
                format!("your network reaches it at {address}, which is a private address"),
                format!(
                    "for players outside, let the router forward TCP ports {clients} and {http} to \
                     it. Then try from outside (a telephone without WLAN): open \
                     {scheme}://OUTSIDE:{http}/, where OUTSIDE is the address the router shows for \
                     itself. If that is in 100.64.0.0/10 or private as well, the provider shares it \
                     among customers and forwarding cannot work: rent a machine"
                ),
            ),
            Scope::Internet => Finding::note(
                ABOUT,
                format!("{address} is a public address: everybody reaches it, but for firewalls"),
                format!(
                    "try from outside: `{curl} {scheme}://{address}:{http}/healthz` says \"serving\", \
                     `nc -vz {address} {clients}` connects. If not, open both TCP ports in the \
                     firewall, the provider's too"
                ),
            ),
        }]
    }
}

/// Where somebody bound to `bound` is found.
fn addresses(bound: IpAddr, own: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let all: Vec<IpAddr> = match bound {
        IpAddr::V4(bound) if bound.is_unspecified() => {
            own.iter().copied().filter(IpAddr::is_ipv4).collect()
        }
        // It takes IPv4 as well.
        IpAddr::V6(bound) if bound.is_unspecified() => own.to_vec(),
        bound => vec![bound],
    };
    all.into_iter()
}

/// From where an address is reached.
fn scope(address: IpAddr) -> Scope {
    match address.to_canonical() {
        address if address.is_loopback() => Scope::Machine,
        IpAddr::V4(address) if is_local_v4(address) => Scope::Network,
        IpAddr::V6(address) if is_local_v6(address) => Scope::Network,
        _ => Scope::Internet,
    }
}

/// Private (RFC 1918), link-local, or shared by a provider's customers (RFC 6598).
fn is_local_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    address.is_private() || address.is_link_local() || is_shared
}

fn is_local_v6(address: Ipv6Addr) -> bool {
    address.is_unique_local() || address.is_unicast_link_local()
}

/// The addresses this machine has towards the outside. Connecting a UDP socket sends nothing; it
/// only asks the system for the route.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    // Of the blocks for documentation (RFC 5737, RFC 3849): outside, and nobody's.
    let ways: [(IpAddr, IpAddr); 2] = [
        (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        ),
        (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    ];
    let own = ways.into_iter().filter_map(|(from, to)| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    own.filter(|address| !address.is_unspecified()).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn reach(flags: &[&str], own: &[&str]) -> (Reach, Finding) {
        let config = Config::parse_from(["cubesync-server"].iter().chain(flags));
        let own: Vec<IpAddr> = own.iter().map(|address| address.parse().unwrap()).collect();
        let reach = Reach::of(&config, &own);
        let finding = reach.judge(&config).remove(0);
        (reach, finding)
    }

    #[test]
    fn addresses_are_of_the_machine_the_network_or_the_internet() {
        for (address, expected) in [
            ("127.0.0.1", Scope::Machine),
            ("::1", Scope::Machine),
            ("::ffff:127.0.0.1", Scope::Machine),
            ("192.168.1.5", Scope::Network),
            ("100.64.0.1", Scope::Network),
            ("169.254.3.4", Scope::Network),
            ("fd00::1", Scope::Network),
            ("fe80::1", Scope::Network),
            ("100.128.0.1", Scope::Internet),
            ("8.8.8.8", Scope::Internet),
            ("2a00::1", Scope::Internet),
        ] {
            assert_eq!(scope(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn who_reaches_it_follows_from_where_it_listens() {
        let (here, finding) = reach(
            &["--listen", "127.0.0.1:1", "--http", "[::1]:2"],
            &["8.8.8.8"],
        );
        assert_eq!(here.players(), Scope::Machine);
        assert!(finding.words.contains("only programs of this machine"));
        let (network, finding) = reach(&[], &["192.168.1.5", "2a00::1"]);
        assert_eq!(network.players(), Scope::Network);
        assert!(finding.words.contains("192.168.1.5"), "{finding:?}");
        assert!(finding.advice.contains("14900 and 8080"), "{finding:?}");
        let everything = ["--http", "[::]:8080"];
        let (internet, finding) = reach(&everything, &["192.168.1.5", "2a00::1"]);
        assert_eq!(internet.clients, Scope::Network);
        assert_eq!(internet.http, Scope::Internet);
        assert!(finding.advice.contains("http://[2a00::1]:8080/healthz"));
        let (alone, _) = reach(&["--text", "0.0.0.0:3"], &[]);
        assert_eq!(
            (alone.players(), alone.text),
            (Scope::Machine, Some(Scope::Machine))
        );
    }
}

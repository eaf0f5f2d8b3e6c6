//! Reachability, as far as it can be known without contacting another machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Finding;
use crate::config::Config;

/// The origin from which an address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Only programs of this machine.
    Machine,
    /// Machines of the same network, and others if a router forwards their connections.
    Network,
    /// Every machine, unless a firewall is in between.
    Internet,
}

/// The reachability of each listener.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    clients: Route,
    http: Route,
    /// The port for datagrams, if they are on.
    udp_port: Option<u16>,
    pub(super) text: Option<Scope>,
}

/// The address of a listener that the most machines can reach.
#[derive(Debug, Clone, Copy)]
struct Route {
    scope: Scope,
    address: SocketAddr,
}

impl Route {
    /// Finds the route to a listener on a machine with the addresses `own`.
    fn to(listener: SocketAddr, own: &[IpAddr]) -> Self {
        let widest = addresses(listener.ip(), own).max_by_key(|address| scope(*address));
        let address = widest.unwrap_or(Ipv4Addr::LOCALHOST.into());
        Self {
            scope: scope(address),
            address: SocketAddr::new(address, listener.port()),
        }
    }

    fn visitors(self) -> &'static str {
        match self.scope {
            Scope::Machine => "this machine",
            Scope::Network => "your network",
            Scope::Internet => "everybody",
        }
    }
}

impl Reach {
    /// Finds the reachability of a configuration's listeners on a machine with the addresses `own`.
    pub(super) fn of(config: &Config, own: &[IpAddr]) -> Self {
        Self {
            clients: Route::to(config.listen, own),
            http: Route::to(config.http, own),
            udp_port: config.udp_address().map(|address| address.port()),
            text: config.text.map(|text| Route::to(text, own).scope),
        }
    }

    /// Returns the widest scope from which players can join.
    pub(super) fn players(&self) -> Scope {
        self.clients.scope.max(self.http.scope)
    }

    pub(super) fn judge(&self, is_encrypted: bool) -> Vec<Finding> {
        let (clients, http) = (self.clients.address, self.http.address);
        let (page, client, curl) = match is_encrypted {
            // The certificate may not name this address, so curl must not verify it.
            true => ("https://", "tls://", "curl -k"),
            false => ("http://", "", "curl"),
        };
        let (forward, open) = match self.udp_port {
            Some(port) => (
                format!(" and UDP port {port}"),
                format!(", and UDP port {port} for smoothness"),
            ),
            None => (String::new(), String::new()),
        };
        let outside = match self.players() {
            Scope::Machine => Finding::note(
                "from outside",
                "only programs of this machine reach it",
                "right behind a reverse proxy; for others to join, --listen and --http with 0.0.0.0",
            ),
            Scope::Network => Finding::note(
                "from outside",
                "not yet: its addresses are private",
                format!(
                    "for players outside, let the router forward TCP ports {} and {}{forward} to \
                     it. Then \
                     try from outside (a telephone without WLAN): open {page}OUTSIDE:{}/, where \
                     OUTSIDE is the address the router shows for itself. If that is in \
                     100.64.0.0/10 or private as well, the provider shares it among customers and \
                     forwarding cannot work: rent a machine",
                    clients.port(),
                    http.port(),
                    http.port(),
                ),
            ),
            Scope::Internet => {
                let mut tests = Vec::new();
                if self.http.scope == Scope::Internet {
                    tests.push(format!("`{curl} {page}{http}/healthz` says \"serving\""));
                }
                if self.clients.scope == Scope::Internet {
                    let (ip, port) = (clients.ip(), clients.port());
                    tests.push(format!("`nc -vz {ip} {port}` connects"));
                }
                Finding::note(
                    "from outside",
                    "everybody, unless a firewall is in between",
                    format!(
                        "try from outside: {}. If not, open the TCP ports in the firewall, the \
                         provider's too{open}",
                        tests.join(", ")
                    ),
                )
            }
        };
        vec![
            Finding::ok(
                "pages",
                format!("{page}{http}/ for {}", self.http.visitors()),
            ),
            Finding::ok(
                "players",
                format!("{client}{clients} for {}", self.clients.visitors()),
            ),
            outside,
        ]
    }
}

/// Returns the addresses at which a listener at `bound` is reached.
fn addresses(bound: IpAddr, own: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let all: Vec<IpAddr> = match bound {
        IpAddr::V4(bound) if bound.is_unspecified() => {
            own.iter().copied().filter(IpAddr::is_ipv4).collect()
        }
        // Such a listener accepts IPv4 as well.
        IpAddr::V6(bound) if bound.is_unspecified() => own.to_vec(),
        bound => vec![bound],
    };
    all.into_iter()
}

/// Returns the scope from which an address can be reached.
pub(super) fn scope(address: IpAddr) -> Scope {
    match address.to_canonical() {
        address if address.is_loopback() => Scope::Machine,
        IpAddr::V4(address) if is_local_v4(address) => Scope::Network,
        IpAddr::V6(address) if is_local_v6(address) => Scope::Network,
        _ => Scope::Internet,
    }
}

/// Returns whether an address is private (RFC 1918), link-local, or shared by a provider's customers
/// (RFC 6598).
fn is_local_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    address.is_private() || address.is_link_local() || is_shared
}

fn is_local_v6(address: Ipv6Addr) -> bool {
    address.is_unique_local() || address.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Returns the reachability and the findings as text.
    fn reach(flags: &[&str], own: &[&str]) -> (Reach, String) {
        let config = Config::parse_from(["cubesync-server"].iter().chain(flags));
        let own: Vec<IpAddr> = own.iter().map(|address| address.parse().unwrap()).collect();
        let reach = Reach::of(&config, &own);
        let findings = reach.judge(false).into_iter();
        let words = findings.map(|finding| format!("{}; {}\n", finding.summary, finding.advice));
        let words = words.collect();
        (reach, words)
    }

    #[test]
    fn each_address_has_its_scope() {
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
    fn the_scope_follows_from_the_listening_addresses() {
        let local = ["--listen", "127.0.0.1:1", "--http", "[::1]:2"];
        let (here, words) = reach(&local, &["8.8.8.8"]);
        assert_eq!(here.players(), Scope::Machine);
        assert!(
            words.contains("http://[::1]:2/ for this machine"),
            "{words}"
        );
        let (network, words) = reach(&[], &["192.168.1.5", "2a00::1"]);
        assert_eq!(network.players(), Scope::Network);
        assert!(
            words.contains("192.168.1.5:14900 for your network"),
            "{words}"
        );
        assert!(
            words.contains("TCP ports 14900 and 8080 and UDP port 14900 to"),
            "{words}"
        );
        let (_, words) = reach(&["--udp", "off"], &["192.168.1.5"]);
        assert!(words.contains("14900 and 8080 to"), "{words}");
        let (alone, _) = reach(&["--text", "0.0.0.0:3"], &[]);
        assert_eq!(alone.players(), Scope::Machine);
        assert_eq!(alone.text, Some(Scope::Machine));
    }

    #[test]
    fn only_public_listeners_are_to_be_tried_from_outside() {
        let (internet, words) = reach(&["--http", "[::]:8080"], &["192.168.1.5", "2a00::1"]);
        assert_eq!(internet.clients.scope, Scope::Network);
        assert_eq!(internet.players(), Scope::Internet);
        assert!(
            words.contains("`curl http://[2a00::1]:8080/healthz`"),
            "{words}"
        );
        assert!(!words.contains("nc -vz"), "{words}");
        let (_, words) = reach(&["--http", "127.0.0.1:8080"], &["8.8.8.8"]);
        assert!(words.contains("`nc -vz 8.8.8.8 14900`"), "{words}");
        assert!(!words.contains("curl"), "{words}");
        assert!(
            words.ends_with("and UDP port 14900 for smoothness\n"),
            "{words}"
        );
    }
}

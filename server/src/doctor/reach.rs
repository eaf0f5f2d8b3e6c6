//! Reachability, as far as it can be known without contacting another machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Finding;
use crate::config::Config;
use cubesync_network::{Network, OwnAddress, Scope, Unreachable, scope};

/// The reachability of each listener.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    clients: Route,
    http: Route,
    /// The port for datagrams, if they are on.
    udp_port: Option<u16>,
    pub(super) text: Option<Scope>,
}

/// The addresses of a listener.
#[derive(Debug, Clone)]
struct Route {
    scope: Scope,
    /// The address that the most machines can reach.
    address: SocketAddr,
    /// The addresses that people are given.
    others: Result<Vec<OwnAddress>, Unreachable>,
}

impl Route {
    /// Finds the route to a listener.
    fn to(listener: SocketAddr, network: &Network) -> Self {
        let widest = network.widest(listener.ip());
        let address = widest.unwrap_or(Ipv4Addr::LOCALHOST.into());
        Self {
            scope: scope(address),
            address: SocketAddr::new(address, listener.port()),
            others: network.for_others(listener.ip()),
        }
    }

    /// Describes the addresses that people are given, as `written` writes them.
    fn describe(&self, written: impl Fn(SocketAddr) -> String) -> String {
        let port = self.address.port();
        match &self.others {
            Ok(others) => {
                let one =
                    |own: &OwnAddress| format!("{} {own}", written(SocketAddr::new(own.ip, port)));
                others.iter().map(one).collect::<Vec<_>>().join("; ")
            }
            Err(_) => format!("{} on this machine", written(self.address)),
        }
    }
}

impl Reach {
    /// Finds the reachability of a configuration's listeners.
    pub(super) fn of(config: &Config, network: &Network) -> Self {
        Self {
            clients: Route::to(config.listen, network),
            http: Route::to(config.http, network),
            udp_port: config.udp_address().map(|address| address.port()),
            text: config.text.map(|text| Route::to(text, network).scope),
        }
    }

    /// Returns the widest scope from which players can join.
    pub(super) fn players(&self) -> Scope {
        self.clients.scope.max(self.http.scope)
    }

    /// Returns the public address at which players can join, if there is one.
    pub(super) fn public_address(&self) -> Option<IpAddr> {
        self.public().next().map(|(_, route)| route.address.ip())
    }

    /// Returns the flags that keep the listeners with public addresses on this machine.
    pub(super) fn flags_that_close(&self) -> String {
        let flag = |(flag, route): (&str, &Route)| {
            let here = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), route.address.port());
            format!("{flag} {here}")
        };
        self.public().map(flag).collect::<Vec<_>>().join(" and ")
    }

    /// Returns players' listeners with public addresses, each with its flag.
    fn public(&self) -> impl Iterator<Item = (&'static str, &Route)> {
        let all = [("--listen", &self.clients), ("--http", &self.http)];
        let listeners = all.into_iter();
        listeners.filter(|(_, route)| route.scope == Scope::Internet)
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
            Scope::Machine => {
                let reasons = [&self.http, &self.clients].map(|route| route.others.as_ref().err());
                let reason = reasons.into_iter().flatten();
                let mut reason = reason.filter(|&&reason| reason != Unreachable::LoopbackOnly);
                let advice = match reason.next() {
                    Some(reason) => reason.to_string(),
                    None => {
                        "right behind a reverse proxy; for others to join, --listen and --http \
                             with 0.0.0.0"
                            .to_owned()
                    }
                };
                Finding::note(
                    "from outside",
                    "only programs of this machine reach it",
                    advice,
                )
            }
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
                self.http.describe(|address| format!("{page}{address}/")),
            ),
            Finding::ok(
                "players",
                self.clients
                    .describe(|address| format!("{client}{address}")),
            ),
            outside,
        ]
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Returns the reachability and the findings as text.
    fn reach(flags: &[&str], own: &[&str]) -> (Reach, String) {
        let config = Config::parse_from(["cubesync-server"].iter().chain(flags));
        let reach = Reach::of(&config, &Network::of(own));
        let findings = reach.judge(false).into_iter();
        let words = findings.map(|finding| format!("{}; {}\n", finding.summary, finding.advice));
        let words = words.collect();
        (reach, words)
    }

    #[test]
    fn the_scope_follows_from_the_listening_addresses() {
        let local = ["--listen", "127.0.0.1:1", "--http", "[::1]:2"];
        let (here, words) = reach(&local, &["8.8.8.8"]);
        assert_eq!(here.players(), Scope::Machine);
        assert!(words.contains("http://[::1]:2/ on this machine"), "{words}");
        let (network, words) = reach(&[], &["192.168.1.5", "2a00::1"]);
        assert_eq!(network.players(), Scope::Network);
        assert!(
            words.contains("192.168.1.5:14900 on your network, cable eth0"),
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

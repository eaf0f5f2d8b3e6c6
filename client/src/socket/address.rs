//! A server's address as a person writes it.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};

use crate::options::ClientOptions;

/// The port of a server, unless its operator chose another one.
const DEFAULT_PORT: u16 = 14_900;

/// A server's address: a name or an address of IPv4 or IPv6, a port, and whether to encrypt.
///
/// An IPv6 address may have a zone, the interface behind which it is: `[fe80::1%eth0]:14900`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Without brackets, with the zone.
    host: String,
    port: u16,
    is_encrypted: bool,
}

impl Address {
    /// Reads an address in full. An IPv6 address may stand alone: it is at the usual port then.
    ///
    /// # Errors
    /// The text is no address; says so to a person, with an example.
    pub(super) fn in_full(text: &str) -> Result<Self, String> {
        Self::read(text, None)
    }

    /// Reads an address that is at `usual_port` if it names none.
    fn read(text: &str, usual_port: Option<u16>) -> Result<Self, String> {
        let wrong = || {
            format!("\"{text}\" is no address; write it as host:port, for example localhost:14900")
        };
        let (scheme, rest) = match text.trim().split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => (String::new(), text.trim()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        match scheme.as_str() {
            "" | "tls" => {}
            "http" | "https" | "ws" | "wss" => return Err(of_the_pages(text, &scheme, rest)),
            _ => return Err(wrong()),
        }
        let (host, port) = split(rest).ok_or_else(wrong)?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|&port| port > 0),
            None if is_ipv6(host) => Some(DEFAULT_PORT),
            None => usual_port,
        };
        Ok(Self {
            host: host.to_owned(),
            port: port.ok_or_else(wrong)?,
            is_encrypted: !scheme.is_empty(),
        })
    }

    /// Whether the connection is to be encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Returns the host without its zone, which a certificate does not name.
    pub(super) fn certified_host(&self) -> &str {
        match self.host.split_once('%') {
            Some((host, _)) => host,
            None => &self.host,
        }
    }

    /// Asks the system for the addresses behind the name, which blocks. They come in the order that
    /// the system prefers (RFC 6724).
    ///
    /// # Errors
    /// There are none; says so to a person.
    pub(super) fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let Self { host, port, .. } = self;
        // The system's lookup knows the names of interfaces, the standard library's parser does not.
        let found = (host.as_str(), *port).to_socket_addrs();
        let addresses: Vec<_> = found.map_err(|error| self.not_found(&error))?.collect();
        match addresses.is_empty() {
            true => Err(format!("the name {host} has no address")),
            false => Ok(addresses),
        }
    }

    fn not_found(&self, error: &io::Error) -> String {
        match self.host.split_once('%') {
            Some((_, zone)) => format!(
                "this machine has no network interface \"{zone}\", which the address {} needs",
                self.host
            ),
            None => format!("the name {} was not found ({error})", self.host),
        }
    }
}

/// Writes `host:port`, with an IPv6 address in brackets.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(formatter, "[{}]:{}", self.host, self.port),
            false => write!(formatter, "{}:{}", self.host, self.port),
        }
    }
}

/// Returns a server's address in full, as [`ClientOptions::server`] has it: with the usual port if a person
/// wrote none, and an IPv6 address in brackets.
///
/// # Errors
/// The text is no address; says so to a person, with an example.
pub fn full_address(text: &str) -> Result<String, String> {
    let address = Address::read(text, Some(DEFAULT_PORT))?;
    let scheme = if address.is_encrypted {
        ClientOptions::TLS
    } else {
        ""
    };
    Ok(format!("{scheme}{address}"))
}

/// Returns why an address cannot be connected to, if it is one that only means something together
/// with an interface.
pub(super) fn lacks_zone(address: &SocketAddr) -> Option<String> {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let (ip, port) = (v6.ip(), v6.port());
            Some(format!(
                "the address {ip} is link-local, and needs the network interface behind which it \
                 is: for example [{ip}%eth0]:{port}"
            ))
        }
        _ => None,
    }
}

/// Takes a host and a port apart. The host must not be empty.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']')?;
        let port = match after {
            "" => None,
            after => Some(after.strip_prefix(':')?),
        };
        return is_ipv6(host).then_some((host, port));
    } else if is_ipv6(text) {
        (text, None)
    } else {
        match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let is_host = !host.is_empty() && !host.contains(['/', ':', '[', ']', '@', '%']);
    (is_ipv6(host) || is_host).then_some((host, port))
}

/// Whether a text is an IPv6 address, with or without a zone.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, zone),
        None => (text, "any"),
    };
    let is_zone = !zone.is_empty() && !zone.contains([':', '/', '[', ']', '%']);
    is_zone && address.parse::<Ipv6Addr>().is_ok()
}

/// Says that an address is one for browsers, and which one was probably meant.
fn of_the_pages(text: &str, scheme: &str, rest: &str) -> String {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = split(authority).map_or("host", |(host, _)| host);
    let address = Address {
        host: host.to_owned(),
        port: DEFAULT_PORT,
        is_encrypted: matches!(scheme, "https" | "wss"),
    };
    let scheme = if address.is_encrypted {
        ClientOptions::TLS
    } else {
        ""
    };
    format!(
        "\"{text}\" is the address of a page, to be opened in a browser; this program joins at the \
         port of the game, usually {scheme}{address}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (written, expected) in [
            (" example.org ", "example.org:14900"),
            ("example.org:1", "example.org:1"),
            ("10.0.0.1", "10.0.0.1:14900"),
            ("::1", "[::1]:14900"),
            ("[::1]", "[::1]:14900"),
            ("[::1]:5", "[::1]:5"),
            ("tls://example.org", "tls://example.org:14900"),
            ("TLS://[::1]:5/", "tls://[::1]:5"),
            ("fe80::1%eth0", "[fe80::1%eth0]:14900"),
            ("[fe80::1%eth0]", "[fe80::1%eth0]:14900"),
            ("[fe80::1%2]:14900", "[fe80::1%2]:14900"),
            ("tls://[fe80::1%eth0]:7", "tls://[fe80::1%eth0]:7"),
            ("tls://fe80::1%wlan0.5", "tls://[fe80::1%wlan0.5]:14900"),
        ] {
            assert_eq!(full_address(written).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for wrong in [
            "",
            "tls://",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "a/b:1",
            "me@a:1",
            "[a]:1",
            "[::1",
            "[::1]5",
            "[fe80::1%]:1",
            "fe80::1%",
            "a%eth0:1",
            "a:1:2",
            "ftp://a:1",
        ] {
            let error = full_address(wrong).unwrap_err();
            let expected = format!("\"{wrong}\" is no address; write it as host:port, for example");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn in_full_only_an_ipv6_address_may_lack_its_port() {
        for without in ["localhost", "10.0.0.1", "tls://localhost"] {
            assert!(Address::in_full(without).is_err(), "{without}");
        }
        for alone in ["::1", "[::1]", "fe80::1%eth0", "tls://fe80::1%2"] {
            let port = Address::in_full(alone).map(|address| address.port);
            assert_eq!(port, Ok(DEFAULT_PORT), "{alone}");
        }
    }

    #[test]
    fn the_address_of_a_page_is_recognized() {
        for (page, game) in [
            ("http://10.0.0.1:8080/", "10.0.0.1:14900"),
            ("https://a.example/?room=den", "tls://a.example:14900"),
            ("ws://[::1]:8080/ws", "[::1]:14900"),
        ] {
            let error = full_address(page).unwrap_err();
            assert!(error.ends_with(&format!("usually {game}")), "{error}");
        }
    }

    #[test]
    fn a_link_local_address_needs_its_interface() {
        let lacks = |text: &str| lacks_zone(&text.parse().unwrap());
        let words = lacks("[fe80::1]:7").unwrap();
        assert!(words.ends_with("for example [fe80::1%eth0]:7"), "{words}");
        for other in ["[fe80::1%2]:7", "[::1]:7", "[fd00::1]:7", "169.254.0.1:7"] {
            assert_eq!(lacks(other), None, "{other}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let address = Address::in_full("fe80::1%no-such-one").unwrap();
        let error = address.resolve().unwrap_err();
        assert!(error.contains("interface \"no-such-one\""), "{error}");
        let name = Address::in_full("no such host:1").unwrap();
        let error = name.resolve().unwrap_err();
        assert!(
            error.starts_with("the name no such host was not found"),
            "{error}"
        );
    }

    #[test]
    fn a_certificate_is_for_the_host_without_its_zone() {
        let address = Address::in_full("tls://[fe80::1%eth0]:1").unwrap();
        assert_eq!(address.certified_host(), "fe80::1");
        assert!(address.is_encrypted());
    }
}

//! The client's address behind trusted reverse proxies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::HeaderMap;

use crate::config::Network;
use cubesync_relay::by_address::Address;

/// The header to which each proxy on the way appends the address of its own peer.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Returns the address to which a connection is counted. A trusted proxy's connections belong to many
/// clients, so they count as this machine's own, which only the limit on all connections bounds.
pub(super) fn counted_address(peer: IpAddr, trusted: &[Network]) -> Address {
    match is_trusted(peer, trusted) {
        true => IpAddr::from(Ipv4Addr::LOCALHOST).into(),
        false => peer.into(),
    }
}

/// Returns the address of a request's client. That is the peer itself, or, for a trusted proxy, the
/// last address in the header that is not a trusted proxy's. Earlier ones could be forged.
///
/// The limits apply to whatever a proxy tells, this machine's own addresses too: a proxy in front of the
/// proxy may be here, and so may somebody's program that reaches the proxy. If it tells nothing, all its
/// clients have the limits of one address, which is the proxy's, even if the proxy is on this machine.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Address {
    if !is_trusted(peer, trusted) {
        return peer.into();
    }
    let lines = headers.get_all(FORWARDED_FOR).iter();
    let list: Vec<&str> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .collect();
    let mut client = peer;
    for noted in list.into_iter().rev() {
        let Some(address) = parse(noted.trim()) else {
            break;
        };
        client = address;
        if !is_trusted(address, trusted) {
            break;
        }
    }
    Address::told(client)
}

/// Returns whether the operator has named this address as a proxy.
pub(super) fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|trusted| trusted.contains(address))
}

/// Parses an address. Some proxies add a port.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    bare.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.1";

    /// Returns the client of a request with these headers, on a server that trusts two proxies.
    fn client(peer: &str, lists: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(FORWARDED_FOR, list.parse().unwrap());
        }
        let trusted = [PROXY, "10.0.0.2"].map(|address| address.parse().unwrap());
        let client = client_address(peer.parse().unwrap(), &headers, &trusted);
        client.ip().to_string()
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        assert_eq!(client(PROXY, &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(client("::ffff:10.0.0.1", &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(client(PROXY, &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(client(PROXY, &["192.0.2.7:80"]), "192.0.2.7");
        assert_eq!(client(PROXY, &["[2001:db8::7]:80"]), "2001:db8::7");
        assert_eq!(client(PROXY, &["192.0.2.7, 10.0.0.2"]), "192.0.2.7");
        assert_eq!(client(PROXY, &["192.0.2.7", "10.0.0.2"]), "192.0.2.7");
    }

    #[test]
    fn no_other_peer_can_name_the_client() {
        assert_eq!(client("192.0.2.9", &["192.0.2.7"]), "192.0.2.9");
        // The client forged the first address, the proxy added the second.
        assert_eq!(client(PROXY, &["127.0.0.1, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(client(PROXY, &["10.0.0.2, nonsense"]), PROXY);
        assert_eq!(client(PROXY, &["nonsense, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client(PROXY, &[]), PROXY);
    }

    #[test]
    fn only_a_peer_that_is_no_proxy_can_be_this_machine_itself() {
        let is_own = |peer: &str, trusted: &[&str], list: Option<&str>| {
            let trusted: Vec<_> = trusted.iter().map(|text| text.parse().unwrap()).collect();
            let list = list.map(|list| (FORWARDED_FOR.parse().unwrap(), list.parse().unwrap()));
            let headers = HeaderMap::from_iter(list);
            client_address(peer.parse().unwrap(), &headers, &trusted).is_own()
        };
        for own in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(is_own(own, &[], None));
            assert!(is_own(own, &[PROXY], Some("192.0.2.7")));
            assert!(!is_own(PROXY, &[PROXY], Some(own)), "{own} was told");
            let here = ["127.0.0.0/8", "::1"];
            assert!(!is_own(own, &here, Some(own)), "{own} was told");
            assert!(!is_own(own, &here, None), "nobody was told");
        }
    }

    #[test]
    fn connections_of_a_trusted_proxy_are_not_limited_by_address() {
        let trusted = [PROXY.parse().unwrap()];
        let is_unlimited = |peer: &str| counted_address(peer.parse().unwrap(), &trusted).is_own();
        assert!(is_unlimited(PROXY));
        assert!(!is_unlimited("192.0.2.7"));
    }
}

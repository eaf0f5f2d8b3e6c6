//! Whose request it is that a reverse proxy passes on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::HeaderMap;

/// Where each proxy on the way notes from whom it got the request, at the end of the list.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whose connection is counted: a trusted proxy's is of everybody who comes through it, and no
/// more limited than this machine's own.
pub(super) fn connection(peer: IpAddr, trusted: &[IpAddr]) -> IpAddr {
    if is_trusted(peer, trusted) {
        Ipv4Addr::LOCALHOST.into()
    } else {
        peer
    }
}

/// Who asks: the peer, or, where that is a trusted proxy, the last address in its list that is
/// none. What stands before that one anybody could have written.
pub(super) fn client(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> SocketAddr {
    if !is_trusted(peer.ip(), trusted) {
        return peer;
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
        client = SocketAddr::new(address, 0);
        if !is_trusted(address, trusted) {
            break;
        }
    }
    client
}

/// Whether the operator has named this address as a proxy's.
pub(super) fn is_trusted(address: IpAddr, trusted: &[IpAddr]) -> bool {
    let address = address.to_canonical();
    trusted
        .iter()
        .any(|trusted| trusted.to_canonical() == address)
}

/// An address, some proxies' way with a port.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    bare.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.1";

    /// Who asks, when a peer sends these lists, to a server that trusts two proxies.
    fn asks(peer: &str, lists: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(FORWARDED_FOR, list.parse().unwrap());
        }
        let trusted = [PROXY, "10.0.0.2"].map(|address| address.parse().unwrap());
        let peer = SocketAddr::new(peer.parse().unwrap(), 1234);
        client(peer, &headers, &trusted).ip().to_string()
    }

    #[test]
    fn a_trusted_proxy_says_who_asks() {
        assert_eq!(asks(PROXY, &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(asks("::ffff:10.0.0.1", &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(asks(PROXY, &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(asks(PROXY, &["192.0.2.7:80"]), "192.0.2.7");
        assert_eq!(asks(PROXY, &["[2001:db8::7]:80"]), "2001:db8::7");
        assert_eq!(asks(PROXY, &["192.0.2.7, 10.0.0.2"]), "192.0.2.7");
        assert_eq!(asks(PROXY, &["192.0.2.7", "10.0.0.2"]), "192.0.2.7");
    }

    #[test]
    fn nobody_else_can_say_so() {
        assert_eq!(asks("192.0.2.9", &["192.0.2.7"]), "192.0.2.9");
        // The client wrote the first one, the proxy the second.
        assert_eq!(asks(PROXY, &["127.0.0.1, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(asks(PROXY, &["10.0.0.2, nonsense"]), PROXY);
        assert_eq!(asks(PROXY, &["nonsense, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(asks(PROXY, &[]), PROXY);
    }

    #[test]
    fn a_proxys_connections_are_not_limited_by_its_address() {
        let trusted = [PROXY.parse().unwrap()];
        let counted = |peer: &str| connection(peer.parse().unwrap(), &trusted).is_loopback();
        assert!(counted(PROXY));
        assert!(!counted("192.0.2.7"));
    }
}

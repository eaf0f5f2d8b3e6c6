//! Which addresses a person can open, in words.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use cubesync_server::Addresses;

/// A few lines for the terminal: what to open here, and what to tell a friend.
pub(crate) fn summary(bound: &Addresses) -> String {
    let lan = lan_address();
    let mut text = format!("cubesync {} is serving\n", env!("CARGO_PKG_VERSION"));
    let mut line = |label: &str, url: &dyn Fn(SocketAddr) -> String, address: SocketAddr| {
        let [here, there] = reachable(address, lan);
        for (address, place) in [(here, "on this machine"), (there, "on your network")] {
            if let Some(address) = address {
                writeln!(text, "  {label:<8} {:<36} {place}", url(address))
                    .expect("writing to a string cannot fail");
            }
        }
    };
    line("clients", &|address| address.to_string(), bound.tcp);
    line("pages", &|address| format!("http://{address}/"), bound.http);
    if let Some(address) = bound.text {
        line(
            "text",
            &|address| format!("nc {} {}", address.ip(), address.port()),
            address,
        );
    }
    text.push_str("Ctrl-C stops it.\n");
    text
}

/// How a bound address is reached from this machine, and from others.
fn reachable(bound: SocketAddr, lan: Option<IpAddr>) -> [Option<SocketAddr>; 2] {
    let port = bound.port();
    if bound.ip().is_unspecified() {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        [Some(here), lan.map(|lan| SocketAddr::new(lan, port))]
    } else if bound.ip().is_loopback() {
        [Some(bound), None]
    } else {
        [None, Some(bound)]
    }
}

/// The address other machines of the network know this one by. Connecting a UDP socket sends
/// nothing; it only asks the system for the route.
fn lan_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address of the block for documentation (RFC 5737): outside, and nobody's.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_reads_an_address_they_can_use() {
        let lan: IpAddr = "192.168.1.5".parse().unwrap();
        let reach = |bound: &str| {
            reachable(bound.parse().unwrap(), Some(lan)).map(|a| a.map(|a| a.to_string()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            reach("0.0.0.0:80"),
            [some("127.0.0.1:80"), some("192.168.1.5:80")]
        );
        assert_eq!(
            reach("[::]:80"),
            [some("127.0.0.1:80"), some("192.168.1.5:80")]
        );
        assert_eq!(reach("127.0.0.1:80"), [some("127.0.0.1:80"), None]);
        assert_eq!(reach("10.0.0.7:80"), [None, some("10.0.0.7:80")]);
    }

    #[test]
    fn the_summary_names_each_listener() {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let bound = Addresses {
            tcp: local(1),
            http: local(2),
            text: Some(local(3)),
        };
        let text = summary(&bound);
        for expected in ["127.0.0.1:1 ", "http://127.0.0.1:2/ ", "nc 127.0.0.1 3 "] {
            assert!(text.contains(expected), "{expected} is missing in:\n{text}");
        }
    }
}

//! The addresses of this machine, and which of them other people can use.

mod interface;
mod own;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

pub use self::own::{Network, OwnAddress, Unreachable};

/// The origin from which an address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Only programs of this machine.
    Machine,
    /// Machines of the same network, and others if a router forwards their connections.
    Network,
    /// Every machine, unless a firewall is in between.
    Internet,
}

/// Returns the address at which a listener is reached. A listener at every address is reached at
/// `outside`, or at the loopback address if there is none.
pub fn reachable(bound: SocketAddr, outside: Option<IpAddr>) -> SocketAddr {
    match bound.ip().is_unspecified() {
        true => {
            let here = Ipv4Addr::LOCALHOST.into();
            SocketAddr::new(outside.unwrap_or(here), bound.port())
        }
        false => bound,
    }
}

/// Returns every address that this machine has, sorted, loopback included.
pub fn all_addresses() -> Vec<IpAddr> {
    let interfaces = interface::list().into_iter();
    let mut addresses: Vec<IpAddr> = interfaces.map(|interface| interface.ip).collect();
    addresses.extend([
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ]);
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Returns the addresses from which this machine reaches the internet.
fn outward_addresses() -> Vec<IpAddr> {
    // Addresses reserved for documentation (RFC 5737, RFC 3849): outside, and never assigned.
    let v4 = toward(Ipv4Addr::new(192, 0, 2, 1).into());
    let v6 = toward(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    v4.into_iter().chain(v6).collect()
}

/// Returns the address from which this machine reaches another one. Connecting a UDP socket sends
/// nothing and only asks the system for the route.
pub fn toward(other: IpAddr) -> Option<IpAddr> {
    let other = other.to_canonical();
    let any: IpAddr = match other {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((other, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

/// Returns the scope from which an address can be reached.
pub fn scope(address: IpAddr) -> Scope {
    match address.to_canonical() {
        address if address.is_loopback() => Scope::Machine,
        IpAddr::V4(address) if is_local_v4(address) => Scope::Network,
        IpAddr::V6(address) if is_local_v6(address) => Scope::Network,
        _ => Scope::Internet,
    }
}

/// Returns whether an address is private (RFC 1918), link-local, shared by a provider's customers
/// (RFC 6598), or for tests of networks (RFC 2544), which proxies on a machine take for themselves.
fn is_local_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    let is_for_tests = first == 198 && (18..20).contains(&second);
    address.is_private() || address.is_link_local() || is_shared || is_for_tests
}

fn is_local_v6(address: Ipv6Addr) -> bool {
    address.is_unique_local() || address.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_at_every_address_is_reached_from_outside_at_one_of_them() {
        let lan = Some([192, 168, 1, 5].into());
        let everywhere = "0.0.0.0:1".parse().unwrap();
        assert_eq!(reachable(everywhere, lan).to_string(), "192.168.1.5:1");
        assert_eq!(reachable(everywhere, None).to_string(), "127.0.0.1:1");
        let one = "[::1]:1".parse().unwrap();
        assert_eq!(reachable(one, lan), one);
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
            ("198.18.0.1", Scope::Network),
            ("fd00::1", Scope::Network),
            ("fe80::1", Scope::Network),
            ("100.128.0.1", Scope::Internet),
            ("8.8.8.8", Scope::Internet),
            ("2a00::1", Scope::Internet),
        ] {
            assert_eq!(scope(address.parse().unwrap()), expected, "{address}");
        }
    }
}

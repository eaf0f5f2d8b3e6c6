//! The addresses of this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Returns the addresses from which this machine reaches the internet, IPv4 first.
pub fn outward_addresses() -> Vec<IpAddr> {
    // Addresses reserved for documentation (RFC 5737, RFC 3849): outside, and never assigned.
    let v4 = toward(Ipv4Addr::new(192, 0, 2, 1).into());
    let v6 = toward(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    v4.into_iter().chain(v6).collect()
}

/// Returns the address by which other machines of the network know this one.
pub fn lan_address() -> Option<IpAddr> {
    let outward = outward_addresses().into_iter();
    outward.filter(IpAddr::is_ipv4).find(|ip| !ip.is_loopback())
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
pub(crate) fn all_addresses() -> Vec<IpAddr> {
    let mut addresses = of_interfaces();
    addresses.extend([
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ]);
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(unix)]
fn of_interfaces() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or(address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    interfaces.filter_map(address).collect()
}

#[cfg(not(unix))]
fn of_interfaces() -> Vec<IpAddr> {
    outward_addresses()
}

/// Returns the address from which this machine reaches another one. Connecting a UDP socket sends
/// nothing and only asks the system for the route.
pub(crate) fn toward(other: IpAddr) -> Option<IpAddr> {
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
}

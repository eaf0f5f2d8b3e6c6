//! The choice of the addresses that other people use, and what each is called.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::interface::{self, Interface, Medium};
use super::{Scope, outward_addresses, scope};

/// Largest number of addresses that a person is shown.
const MAX_ADDRESSES: usize = 3;

/// The network around this machine, as it is at one moment.
#[derive(Debug, Clone, Default)]
pub struct Network {
    interfaces: Vec<Interface>,
    /// The addresses from which this machine reaches the internet.
    outward: Vec<IpAddr>,
}

/// An address at which other people may reach this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAddress {
    /// The address.
    pub ip: IpAddr,
    scope: Scope,
    /// The interface's name, what it leads to, and whether that is there. `None` for an address that no
    /// interface has.
    interface: Option<(String, Medium, bool)>,
}

impl fmt::Display for OwnAddress {
    /// Prints who reaches the address, and by which interface.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.scope {
            Scope::Machine => "on this machine",
            Scope::Network => "on your network",
            Scope::Internet => "from the internet",
        };
        let Some((name, medium, is_connected)) = &self.interface else {
            return f.write_str(from);
        };
        match medium {
            Medium::Vpn => write!(f, "VPN {name} (friends on the same VPN)")?,
            Medium::Guests => write!(f, "only containers and virtual machines here, {name}")?,
            Medium::Wifi => write!(f, "{from}, Wi-Fi {name}")?,
            Medium::Cable => write!(f, "{from}, cable {name}")?,
            Medium::Network | Medium::Virtual => write!(f, "{from}, {name}")?,
        }
        match is_connected {
            true => Ok(()),
            false => f.write_str(", not connected"),
        }
    }
}

/// The reason why nobody on another machine reaches a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The listener is at the loopback address.
    #[error("it listens for this machine only")]
    LoopbackOnly,
    /// There is no interface with an address that counts.
    #[error("this machine has no network (Wi-Fi, hotspot or cable)")]
    NoNetwork,
    /// The listener accepts IPv4 only, and the machine has none.
    #[error(
        "this machine has IPv6 addresses only: --listen and --http with [::] in front of the port let others in"
    )]
    NeedsIpv6,
    /// The machine has link-local addresses of IPv6 only, which need the name of the visitor's interface.
    #[error(
        "this machine has only {0}, a link-local address, which browsers cannot open: give it an IPv4 \
         address"
    )]
    LinkLocal(Ipv6Addr),
}

impl Network {
    /// Asks the system for the network as it is now.
    pub fn now() -> Self {
        Self {
            interfaces: interface::list(),
            outward: outward_addresses(),
        }
    }

    /// Returns the addresses at which other people reach a listener that is bound to `bound`, the
    /// likeliest first and at most three.
    ///
    /// # Errors
    /// The reason why nobody else reaches it.
    pub fn for_others(&self, bound: IpAddr) -> Result<Vec<OwnAddress>, Unreachable> {
        if bound.to_canonical().is_loopback() {
            return Err(Unreachable::LoopbackOnly);
        }
        if !bound.is_unspecified() {
            let mut interfaces = self.interfaces.iter();
            let own = interfaces.find(|it| it.ip == bound.to_canonical());
            return Ok(vec![OwnAddress::new(bound, own)]);
        }
        let mut usable = self.accepting(bound);
        keep_the_best(&mut usable, |it| it.is_connected);
        keep_the_best(&mut usable, |it| it.medium != Medium::Virtual);
        let all = usable.clone();
        // An interface with an address of IPv4 needs none of IPv6, unless it gave itself the former.
        usable.retain(|it| {
            let is_better =
                |other: &&Interface| other.name == it.name && family(other) < family(it);
            !all.iter().any(is_better)
        });
        usable.sort_by_key(|it| {
            let is_vpn = it.medium == Medium::Vpn;
            (is_vpn, !self.outward.contains(&it.ip), family(it))
        });
        let mut chosen: Vec<OwnAddress> = Vec::new();
        for interface in usable {
            let own = OwnAddress::new(interface.ip, Some(interface));
            let is_same =
                |other: &OwnAddress| (&other.interface, other.scope) == (&own.interface, own.scope);
            if !chosen.iter().any(is_same) {
                chosen.push(own);
            }
        }
        chosen.truncate(MAX_ADDRESSES);
        match chosen.is_empty() {
            true => Err(self.why_nobody(bound)),
            false => Ok(chosen),
        }
    }

    /// Returns the address at which other people are likeliest to reach a listener.
    pub fn likeliest(&self, bound: IpAddr) -> Option<IpAddr> {
        Some(self.for_others(bound).ok()?.first()?.ip)
    }

    /// Returns the address of a listener that the most machines reach. Unlike the addresses
    /// [for others](Self::for_others) it is one of IPv6 where only that leads to the internet.
    pub fn widest(&self, bound: IpAddr) -> Option<IpAddr> {
        if !bound.is_unspecified() {
            return Some(bound);
        }
        let all = self.accepting(bound).into_iter().map(|it| it.ip);
        let likeliest = self.likeliest(bound);
        all.max_by_key(|&ip| (scope(ip), Some(ip) == likeliest, self.outward.contains(&ip)))
    }

    /// Returns the addresses of a listener at every address that lead out of this machine.
    fn accepting(&self, bound: IpAddr) -> Vec<&Interface> {
        // On Windows a listener at every address of IPv6 does not accept IPv4.
        let accepts_v4 = bound.is_ipv4() || cfg!(not(windows));
        let is_usable = |it: &&Interface| match it.ip {
            _ if it.medium == Medium::Guests => false,
            IpAddr::V4(_) => accepts_v4,
            IpAddr::V6(ip) => bound.is_ipv6() && !ip.is_unicast_link_local(),
        };
        self.interfaces.iter().filter(is_usable).collect()
    }

    fn why_nobody(&self, bound: IpAddr) -> Unreachable {
        let interfaces = self.interfaces.iter();
        let v6 = interfaces.filter_map(|it| match it.ip {
            IpAddr::V6(ip) if it.medium != Medium::Guests => Some(ip),
            _ => None,
        });
        let (link_local, routable): (Vec<Ipv6Addr>, Vec<Ipv6Addr>) =
            v6.partition(Ipv6Addr::is_unicast_link_local);
        match link_local.first() {
            _ if bound.is_ipv4() && !routable.is_empty() => Unreachable::NeedsIpv6,
            Some(&ip) => Unreachable::LinkLocal(ip),
            None => Unreachable::NoNetwork,
        }
    }

    /// Returns a network where one cable has all of these addresses, which must be valid.
    #[cfg(feature = "testing")]
    pub fn of(addresses: &[&str]) -> Self {
        let interface = |ip: &&str| Interface {
            name: "eth0".to_owned(),
            ip: ip.parse().expect("an address"),
            medium: Medium::Cable,
            is_connected: true,
        };
        Self {
            interfaces: addresses.iter().map(interface).collect(),
            outward: Vec::new(),
        }
    }
}

/// Keeps those that are good, if there are any.
fn keep_the_best(interfaces: &mut Vec<&Interface>, is_good: impl Fn(&Interface) -> bool) {
    if interfaces.iter().any(|it| is_good(it)) {
        interfaces.retain(|it| is_good(it));
    }
}

/// Returns the rank of an address's family: one of IPv4 is easiest to type, and one that an interface
/// gave itself reaches the least.
fn family(interface: &Interface) -> u8 {
    match interface.ip {
        IpAddr::V4(ip) if ip.is_link_local() => 2,
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => 1,
    }
}

impl OwnAddress {
    fn new(ip: IpAddr, interface: Option<&Interface>) -> Self {
        let scope = scope(ip);
        let interface = interface.map(|it| {
            // A provider's line is a tunnel too, but its address is everybody's to reach.
            let is_line = it.medium == Medium::Vpn && scope == Scope::Internet;
            let medium = if is_line { Medium::Network } else { it.medium };
            (it.name.clone(), medium, it.is_connected)
        });
        Self {
            ip,
            scope,
            interface,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_V4: &str = "0.0.0.0";
    const ANY_V6: &str = "::";

    fn up(name: &str, ip: &str, medium: Medium) -> Interface {
        Interface {
            name: name.to_owned(),
            ip: ip.parse().unwrap(),
            medium,
            is_connected: true,
        }
    }

    /// Returns the chosen addresses as text, with what each is called.
    fn for_others(bound: &str, interfaces: &[Interface], outward: &[&str]) -> Vec<String> {
        let network = Network {
            interfaces: interfaces.to_vec(),
            outward: outward.iter().map(|ip| ip.parse().unwrap()).collect(),
        };
        match network.for_others(bound.parse().unwrap()) {
            Ok(chosen) => chosen
                .iter()
                .map(|own| format!("{} {own}", own.ip))
                .collect(),
            Err(reason) => vec![reason.to_string()],
        }
    }

    #[test]
    fn a_hotspot_and_a_cable_without_a_router_have_addresses() {
        let hotspot = up("wlan0", "192.168.4.1", Medium::Wifi);
        assert_eq!(
            for_others(ANY_V4, &[hotspot], &[]),
            ["192.168.4.1 on your network, Wi-Fi wlan0"]
        );
        let cable = up("eth0", "169.254.7.8", Medium::Cable);
        let link_local = up("eth0", "fe80::1", Medium::Cable);
        let both = [link_local.clone(), cable];
        for any in [ANY_V4, ANY_V6] {
            assert_eq!(
                for_others(any, &both, &[]),
                ["169.254.7.8 on your network, cable eth0"]
            );
        }
        let [only] = &for_others(ANY_V6, &[link_local], &[])[..] else {
            panic!("there is one reason");
        };
        assert!(only.contains("fe80::1, a link-local address"), "{only}");
    }

    #[test]
    fn a_vpn_comes_last_though_the_default_route_leads_into_it() {
        let interfaces = [
            up("wg0", "10.8.0.2", Medium::Vpn),
            up("wlan0", "192.168.1.5", Medium::Wifi),
        ];
        let vpn = "10.8.0.2 VPN wg0 (friends on the same VPN)";
        assert_eq!(
            for_others(ANY_V4, &interfaces, &["10.8.0.2"]),
            ["192.168.1.5 on your network, Wi-Fi wlan0", vpn]
        );
        assert_eq!(for_others(ANY_V4, &interfaces[..1], &["10.8.0.2"]), [vpn]);
    }

    #[test]
    fn containers_and_virtual_machines_are_left_out() {
        let docker = up("docker0", "172.17.0.1", Medium::Guests);
        let bridge = up("br0", "10.1.0.1", Medium::Virtual);
        let cable = up("eth0", "192.168.1.5", Medium::Cable);
        let all = [docker.clone(), bridge.clone(), cable];
        assert_eq!(
            for_others(ANY_V4, &all, &["172.17.0.1"]),
            ["192.168.1.5 on your network, cable eth0"]
        );
        assert_eq!(
            for_others(ANY_V4, &[docker.clone(), bridge], &[]),
            ["10.1.0.1 on your network, br0"]
        );
        let reason = for_others(ANY_V4, std::slice::from_ref(&docker), &["172.17.0.1"]);
        assert_eq!(reason, [Unreachable::NoNetwork.to_string()]);
        assert_eq!(
            for_others("172.17.0.1", &[docker], &[]),
            ["172.17.0.1 only containers and virtual machines here, docker0"]
        );
    }

    #[test]
    fn the_way_to_the_internet_comes_first_and_few_are_shown() {
        let interfaces = ["192.168.1.5", "169.254.1.1", "192.168.2.5", "192.168.3.5"];
        let interfaces: Vec<Interface> = (0..)
            .zip(interfaces)
            .map(|(number, ip)| up(&format!("eth{number}"), ip, Medium::Cable))
            .collect();
        let chosen = for_others(ANY_V4, &interfaces, &["192.168.3.5"]);
        let first: Vec<_> = chosen.iter().map(|own| own.split(' ').next()).collect();
        assert_eq!(
            first,
            ["192.168.3.5", "192.168.1.5", "192.168.2.5"].map(Some)
        );
    }

    #[test]
    fn a_public_address_is_not_called_the_networks() {
        let public = up("eth0", "8.8.4.4", Medium::Cable);
        let private = up("eth0", "10.0.0.2", Medium::Cable);
        assert_eq!(
            for_others(ANY_V4, &[private, public], &["8.8.4.4"]),
            [
                "8.8.4.4 from the internet, cable eth0",
                "10.0.0.2 on your network, cable eth0"
            ]
        );
        let line = up("ppp0", "8.8.4.4", Medium::Vpn);
        assert_eq!(
            for_others(ANY_V4, &[line], &[]),
            ["8.8.4.4 from the internet, ppp0"]
        );
    }

    #[test]
    fn ipv6_stands_in_where_there_is_no_ipv4() {
        let interfaces = [
            up("eth0", "fe80::1", Medium::Cable),
            up("eth0", "fd00::5", Medium::Cable),
            up("eth0", "2a00::5", Medium::Cable),
            up("eth0", "2a00::6", Medium::Cable),
        ];
        assert_eq!(
            for_others(ANY_V6, &interfaces, &["2a00::6"]),
            [
                "2a00::6 from the internet, cable eth0",
                "fd00::5 on your network, cable eth0"
            ]
        );
        let reason = for_others(ANY_V4, &interfaces, &[]);
        assert_eq!(reason, [Unreachable::NeedsIpv6.to_string()]);
        let with_v4 = [&interfaces[..], &[up("eth0", "10.0.0.2", Medium::Cable)]].concat();
        assert_eq!(
            for_others(ANY_V6, &with_v4, &["2a00::6"]),
            ["10.0.0.2 on your network, cable eth0"]
        );
    }

    #[test]
    fn an_unplugged_cable_is_shown_only_where_nothing_else_is() {
        let unplugged = Interface {
            is_connected: false,
            ..up("eth0", "192.168.1.5", Medium::Cable)
        };
        assert_eq!(
            for_others(ANY_V4, std::slice::from_ref(&unplugged), &[]),
            ["192.168.1.5 on your network, cable eth0, not connected"]
        );
        let hotspot = up("wlan0", "192.168.4.1", Medium::Wifi);
        assert_eq!(
            for_others(ANY_V4, &[unplugged, hotspot], &[]),
            ["192.168.4.1 on your network, Wi-Fi wlan0"]
        );
    }

    #[test]
    fn a_listener_at_one_address_is_reached_there_only() {
        let interfaces = [
            up("eth0", "192.168.1.5", Medium::Cable),
            up("wlan0", "192.168.7.9", Medium::Wifi),
        ];
        assert_eq!(
            for_others("192.168.1.5", &interfaces, &["192.168.7.9"]),
            ["192.168.1.5 on your network, cable eth0"]
        );
        assert_eq!(
            for_others("8.8.8.8", &interfaces, &[]),
            ["8.8.8.8 from the internet"]
        );
        let reason = [Unreachable::LoopbackOnly.to_string()];
        for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(for_others(loopback, &interfaces, &[]), reason);
        }
    }
}

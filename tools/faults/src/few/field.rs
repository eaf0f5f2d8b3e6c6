//! Two networks with a cable between them: the server's own, and one with many addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};

use crate::harness::namespace::{enter, ip, lay_cable};

/// The server's address, and the one from which good players and newcomers come.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const PLAYERS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The same of IPv6.
pub(super) const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xFD00, 0x18, 0, 0, 0, 0, 0, 1);
const PLAYERS_V6: Ipv6Addr = Ipv6Addr::new(0xFD00, 0x18, 0, 0, 0, 0, 0, 2);
/// The attackers' addresses: all of these networks are local to theirs.
const ATTACKERS: &str = "198.19.0.0/16";
const ATTACKERS_V6: &str = "fd00:19::/32";

/// Returns an attacker's address.
pub(super) fn source(number: usize) -> IpAddr {
    let [high, low] = (number as u16 + 1).to_be_bytes();
    Ipv4Addr::new(198, 19, high, low).into()
}

/// Returns an address in one /64 network of an attacker who has a /56.
pub(super) fn source_in_56(network: usize) -> IpAddr {
    source_v6(0, network as u16 & 0xFF)
}

/// Returns an address in one /56 network of an attacker who has a /48.
pub(super) fn source_in_48(network: usize) -> IpAddr {
    source_v6(1, (network as u16) << 8)
}

/// Returns an address in one /56 network of an attacker who has thirty /48.
pub(super) fn source_in_30_of_48(network: usize) -> IpAddr {
    let [customer, network] = [network % 30, network / 30];
    source_v6(2 + customer as u16, (network as u16) << 8)
}

fn source_v6(customer: u16, network: u16) -> IpAddr {
    Ipv6Addr::new(0xFD00, 0x19, customer, network, 0, 0, 0, 1).into()
}

/// The two networks. Dropping it removes them.
#[derive(Debug)]
pub(super) struct Field {
    inside: String,
    outside: String,
}

impl Field {
    /// Makes the two networks, and moves the calling thread into the server's. Only root may do so.
    pub(super) fn enter() -> Result<Self> {
        // A namespace's name may be in use by another run.
        let field = Self {
            inside: format!("csfew-in{}", std::process::id()),
            outside: format!("csfew-out{}", std::process::id()),
        };
        let outside = &field.outside;
        for name in [&field.inside, outside] {
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        enter(&field.inside)?;
        lay_cable(["near", "far"], outside, [SERVER, PLAYERS])?;
        for command in [
            format!("-6 addr add {SERVER_V6}/64 dev near nodad"),
            format!("-n {outside} -6 addr add {PLAYERS_V6}/64 dev far nodad"),
            format!("route add {ATTACKERS} via {PLAYERS}"),
            format!("-n {outside} route add local {ATTACKERS} dev lo"),
            format!("-6 route add {ATTACKERS_V6} via {PLAYERS_V6}"),
            format!("-n {outside} -6 route add local {ATTACKERS_V6} dev lo"),
        ] {
            ip(&command)?;
        }
        Ok(field)
    }

    /// Returns the name of the namespace outside.
    pub(super) fn outside(&self) -> &str {
        &self.outside
    }

    /// Runs `act` outside, at the address of the good players.
    pub(super) fn elsewhere<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let acting = scope.spawn(|| {
                enter(&self.outside)?;
                act()
            });
            match acting.join() {
                Ok(outcome) => outcome,
                Err(_) => bail!("it panicked"),
            }
        })
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        for name in [&self.inside, &self.outside] {
            // This fails if creating it has failed.
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

//! The addresses that the operator has banned.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::by_address::{self, HOUSEHOLD_BITS};
use crate::network::Network;

/// Largest number of bans: far more than a person types, and a few hundred bytes each. A wave of attackers
/// is banned by networks.
pub const MAX_BANS: usize = 10_000;

/// A ban of an address or a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// The addresses.
    pub network: Network,
    /// When it ends; `None`: never.
    pub until: Option<SystemTime>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// Returned when there are [`MAX_BANS`] already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are {MAX_BANS} bans already: lift some, or ban networks")]
pub struct TooManyBans;

/// The bans of a server. All of its listeners ask them first.
#[derive(Debug, Default)]
pub struct Bans {
    by_network: Mutex<HashMap<Network, Ban>>,
    added: watch::Sender<()>,
}

/// Returns the network that a ban of this one is about: people are told apart as
/// [everywhere](by_address::network), so of IPv6 it is a household at least.
pub fn bannable(network: Network) -> Network {
    let whole = Network::from(network.address());
    match network == whole {
        true => household(network.address()),
        false => Network::new(
            network.address(),
            network.bits().min(household_bits(&whole)),
        ),
    }
}

/// Returns whether a network has an address, or the one by which its household is known.
pub fn covers(network: Network, address: IpAddr) -> bool {
    network.contains(address) || network.contains(by_address::network(address))
}

fn household(address: IpAddr) -> Network {
    let address = by_address::network(address);
    Network::new(address, household_bits(&Network::from(address)))
}

fn household_bits(whole: &Network) -> u8 {
    match whole.address() {
        IpAddr::V4(_) => whole.bits(),
        IpAddr::V6(_) => HOUSEHOLD_BITS as u8,
    }
}

impl Bans {
    /// Adds a ban, in place of one of the same network. Returns the network that is banned.
    ///
    /// # Errors
    /// [`TooManyBans`]
    pub fn add(&self, mut ban: Ban, now: SystemTime) -> Result<Network, TooManyBans> {
        ban.network = bannable(ban.network);
        let network = ban.network;
        let mut bans = self.lock();
        bans.retain(|_, ban| !ban.is_over(now));
        if bans.len() >= MAX_BANS && !bans.contains_key(&network) {
            return Err(TooManyBans);
        }
        bans.insert(network, ban);
        drop(bans);
        self.added.send_replace(());
        Ok(network)
    }

    /// Lifts the ban of exactly this network. Returns it if there was one.
    pub fn lift(&self, network: Network) -> Option<Ban> {
        self.lock().remove(&bannable(network))
    }

    /// Returns the bans that are not over, by network.
    pub fn all(&self, now: SystemTime) -> Vec<Ban> {
        let bans = self.lock();
        let mut all: Vec<_> = bans
            .values()
            .filter(|ban| !ban.is_over(now))
            .cloned()
            .collect();
        all.sort_by_key(|ban| ban.network);
        all
    }

    /// Returns the narrowest ban of an address.
    pub fn find(&self, address: IpAddr, now: SystemTime) -> Option<Ban> {
        let bans = self.lock();
        if bans.is_empty() {
            return None;
        }
        // At most 98 lookups, however many bans there are.
        let around = |network: Network| {
            let bits = (0..=network.bits()).rev();
            bits.map(move |bits| Network::new(network.address(), bits))
        };
        let household = household(address);
        let as_it_is = Network::new(address, household_bits(&address.into()));
        let other = (household != as_it_is).then(|| around(as_it_is));
        let networks = around(household).chain(other.into_iter().flatten());
        let mut found = networks.filter_map(|network| bans.get(&network));
        found.find(|ban| !ban.is_over(now)).cloned()
    }

    /// Returns whether an address is banned now.
    pub fn has(&self, address: IpAddr) -> bool {
        self.find(address, SystemTime::now()).is_some()
    }

    /// Waits until an address is banned.
    pub async fn banned(&self, address: IpAddr) {
        let mut added = self.added.subscribe();
        while !self.has(address) {
            // The sender is here.
            let _ = added.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Network, Ban>> {
        self.by_network
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ban {
    /// Returns whether its time is over.
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    fn ban(network: &str, until: Option<SystemTime>) -> Ban {
        Ban {
            network: network.parse().unwrap(),
            until,
            reason: None,
        }
    }

    fn found(bans: &Bans, address: &str, now: SystemTime) -> Option<String> {
        let found = bans.find(address.parse().unwrap(), now)?;
        Some(found.network.to_string())
    }

    #[test]
    fn the_narrowest_ban_counts_until_it_is_over_or_lifted() {
        let (bans, now) = (Bans::default(), SystemTime::now());
        let soon = now + Duration::from_secs(60);
        for (network, until) in [("10.0.0.0/8", None), ("10.1.2.3", Some(soon))] {
            bans.add(ban(network, until), now).unwrap();
        }
        let both = |now| ["10.1.2.3", "::ffff:10.1.2.4"].map(|address| found(&bans, address, now));
        let [narrow, wide] = ["10.1.2.3", "10.0.0.0/8"].map(|network| Some(network.to_owned()));
        assert_eq!(both(now), [narrow, wide.clone()]);
        assert_eq!(both(soon), [wide.clone(), wide]);
        assert_eq!(found(&bans, "11.0.0.1", now), None);
        assert_eq!(bans.all(soon).len(), 1);
        assert!(bans.lift("10.1.2.4".parse().unwrap()).is_none());
        assert!(bans.lift("10.9.9.9/8".parse().unwrap()).is_some());
        assert_eq!(found(&bans, "10.1.2.4", now), None);
    }

    #[test]
    fn a_ban_of_an_ipv6_address_is_one_of_its_household() {
        let (bans, now) = (Bans::default(), SystemTime::now());
        let banned = bans.add(ban("2001:db8:0:7::1", None), now).unwrap();
        assert_eq!(banned.to_string(), "2001:db8:0:7::/64");
        assert!(found(&bans, "2001:db8:0:7:ffff::2", now).is_some());
        assert!(found(&bans, "2001:db8:0:8::1", now).is_none());
        assert!(bans.lift("2001:db8:0:7:8::".parse().unwrap()).is_some());
    }

    #[test]
    fn an_ipv4_address_is_banned_within_ipv6_too_and_translators_as_a_whole() {
        let (bans, now) = (Bans::default(), SystemTime::now());
        bans.add(ban("192.0.2.1", None), now).unwrap();
        for (address, is_banned) in [
            ("::ffff:192.0.2.1", true),
            ("64:ff9b::c000:201", true),
            ("64:ff9b::c000:202", false),
            ("2002:c000:201:7::1", true),
        ] {
            assert_eq!(found(&bans, address, now).is_some(), is_banned, "{address}");
            let network = "192.0.2.1".parse().unwrap();
            assert_eq!(covers(network, address.parse().unwrap()), is_banned);
        }
        let banned = bans.add(ban("64:ff9b::c000:202", None), now).unwrap();
        assert_eq!(banned.to_string(), "192.0.2.2");
        bans.add(ban("64:ff9b::/96", None), now).unwrap();
        assert!(found(&bans, "64:ff9b::c000:203", now).is_some());
        assert!(found(&bans, "192.0.2.3", now).is_none());
    }

    #[test]
    fn everybody_can_be_banned() {
        let (bans, now) = (Bans::default(), SystemTime::now());
        bans.add(ban("0.0.0.0/0", None), now).unwrap();
        assert!(found(&bans, "192.0.2.1", now).is_some());
        assert!(found(&bans, "2001:db8::1", now).is_none());
    }

    #[test]
    fn the_list_is_bounded_and_bans_that_are_over_make_place() {
        let (bans, now) = (Bans::default(), SystemTime::now());
        let until = Some(now + Duration::from_secs(1));
        for number in 0..MAX_BANS as u32 {
            let address = std::net::Ipv4Addr::from_bits(number << 8);
            bans.add(ban(&format!("{address}/24"), until), now).unwrap();
        }
        assert_eq!(bans.add(ban("192.0.2.1", None), now), Err(TooManyBans));
        assert!(
            bans.add(ban("0.0.0.7/24", None), now).is_ok(),
            "in place of another"
        );
        let later = now + Duration::from_secs(1);
        assert!(bans.add(ban("192.0.2.1", None), later).is_ok());
        assert_eq!(bans.all(later).len(), 2);
    }

    #[tokio::test]
    async fn a_waiting_connection_learns_of_the_ban_of_its_address_only() {
        let (bans, now) = (Bans::default(), SystemTime::now());
        let address = "192.0.2.7".parse().unwrap();
        let mut banned = std::pin::pin!(bans.banned(address));
        assert!(banned.as_mut().now_or_never().is_none());
        bans.add(ban("192.0.2.8", None), now).unwrap();
        assert!(banned.as_mut().now_or_never().is_none());
        bans.add(ban("192.0.2.0/24", None), now).unwrap();
        banned.await;
    }
}

//! What each address holds of something of which there is only so much, to find the one that holds the most.

use std::collections::{HashMap, VecDeque};

use crate::by_address::Prefix;

/// What addresses hold, by their [widest](crate::by_address::Address::widest) networks; `None` is this machine.
#[derive(Debug)]
pub struct Holders<Item> {
    /// Each holds at least one, the oldest first.
    by_network: HashMap<Option<Prefix>, VecDeque<Item>>,
    total: usize,
}

impl<Item> Holders<Item> {
    /// Adds one to what a network holds.
    pub fn add(&mut self, network: Option<Prefix>, item: Item) {
        self.by_network.entry(network).or_default().push_back(item);
        self.total += 1;
    }

    /// Takes the one that is meant from a network, if it is there.
    pub fn remove(
        &mut self,
        network: Option<Prefix>,
        is_meant: impl Fn(&Item) -> bool,
    ) -> Option<Item> {
        let items = self.by_network.get_mut(&network)?;
        let item = items.remove(items.iter().position(is_meant)?);
        if items.is_empty() {
            self.by_network.remove(&network);
        }
        self.total -= 1;
        item
    }

    /// Counts all of them.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Counts those of a network.
    pub fn count(&self, network: Option<Prefix>) -> usize {
        self.by_network.get(&network).map_or(0, VecDeque::len)
    }

    /// Returns all that is held by those who hold the most, if each has more than so many. This machine is
    /// never among them.
    pub fn of_the_most(&self, more_than: usize) -> impl Iterator<Item = &Item> {
        let strangers = || self.by_network.iter().filter(|(of, _)| of.is_some());
        let most = strangers().map(|(_, items)| items.len()).max();
        let most = most.filter(|&most| most > more_than);
        let greedy = strangers().filter(move |(_, items)| Some(items.len()) == most);
        greedy.flat_map(|(_, items)| items)
    }
}

impl<Item> Default for Holders<Item> {
    fn default() -> Self {
        Self {
            by_network: HashMap::new(),
            total: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::by_address::Address;

    fn network(text: &str) -> Option<Prefix> {
        Address::from(text.parse::<IpAddr>().unwrap()).widest()
    }

    #[test]
    fn those_who_hold_the_most_are_found_and_this_machine_is_not_one() {
        let mut holders = Holders::default();
        for (number, of) in ["::1", "::1", "::1", "192.0.2.1", "192.0.2.2", "192.0.2.2"]
            .map(network)
            .into_iter()
            .enumerate()
        {
            holders.add(of, number);
        }
        let there = network("192.0.2.2");
        assert_eq!(holders.of_the_most(1).collect::<Vec<_>>(), [&4, &5]);
        assert_eq!(holders.of_the_most(2).next(), None);
        assert_eq!(holders.remove(there, |&number| number == 3), None);
        assert_eq!(holders.remove(there, |&number| number == 4), Some(4));
        assert_eq!((holders.total(), holders.count(there)), (5, 1));
        assert_eq!(holders.of_the_most(0).count(), 2);
        assert_eq!(holders.remove(there, |_| true), Some(5));
        assert!(!holders.by_network.contains_key(&there));
    }
}

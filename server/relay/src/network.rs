//! Networks of addresses, as operators write them.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The leading bits that mark an IPv4 address within IPv6.
const MAPPED_BITS: u8 = 96;

/// An address, or a network of addresses. Two are equal if they have the same addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// The first address of it.
    address: IpAddr,
    /// The number of leading bits that all its addresses share.
    bits: u8,
}

impl Network {
    /// Returns the network of addresses that share the first `bits` bits with this one; if it has fewer, all.
    pub fn new(address: IpAddr, bits: u8) -> Self {
        let whole = Self::from(address);
        let bits = bits.min(whole.bits);
        let address = match whole.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl((whole.bits - bits).into());
                Ipv4Addr::from_bits(address.to_bits() & mask.unwrap_or(0)).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl((whole.bits - bits).into());
                Ipv6Addr::from_bits(address.to_bits() & mask.unwrap_or(0)).into()
            }
        };
        Self { address, bits }
    }

    /// Returns its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns the number of leading bits that all its addresses share.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Returns whether an address belongs to it. An IPv4 address may stand within IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        // The number of leading bits that both have in common.
        let common = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        common >= self.bits.into()
    }

    /// Returns whether an address belongs to both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) && self.bits <= other.bits
            || other.contains(self.address) && other.bits <= self.bits
    }

    /// Returns whether it has every address of IPv4 or of IPv6.
    pub fn is_everything(&self) -> bool {
        self.bits == 0
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let bits = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self { address, bits }
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.bits == Self::from(self.address).bits {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let expected = "expected an address or a network, such as 127.0.0.1 or 10.0.0.0/8";
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        let Ok(given) = bare.parse::<IpAddr>() else {
            return Err(match address.parse::<SocketAddr>() {
                Ok(address) => format!(
                    "connections come from any port; did you mean {}?",
                    address.ip()
                ),
                Err(_) => expected.to_owned(),
            });
        };
        let Some(bits) = bits else {
            return match given.is_unspecified() {
                true => Err(format!(
                    "nobody connects from {given}; did you mean {given}/0, which is everybody?"
                )),
                false => Ok(given.into()),
            };
        };
        let whole = Self::from(given);
        let skipped = match (given, whole.address) {
            (IpAddr::V6(_), IpAddr::V4(_)) => MAPPED_BITS,
            _ => 0,
        };
        let bits = bits
            .parse::<u8>()
            .ok()
            .and_then(|bits| bits.checked_sub(skipped));
        let most = whole.bits + skipped;
        bits.filter(|bits| *bits <= whole.bits)
            .map(|bits| Self::new(given, bits))
            .ok_or_else(|| format!("the number behind the slash is from {skipped} to {most}, such as {given}/{most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        let network: Network = network.parse().unwrap();
        network.contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_has_the_addresses_with_its_leading_bits() {
        for (network, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            (" 127.0.0.1 ", "::ffff:127.0.0.1", "::1"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/8", "10.0.0.1", "11.0.0.1"),
            ("172.16.0.0/12", "172.31.255.255", "172.32.0.0"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
            ("::/0", "2001:db8::1", "8.8.8.8"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
            ("[::1]", "::1", "::2"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ] {
            assert!(contains(network, inside), "{network} {inside}");
            assert!(!contains(network, outside), "{network} {outside}");
        }
    }

    #[test]
    fn a_network_is_written_by_its_first_address() {
        for (text, written) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("2001:db8::7/64", "2001:db8::/64"),
            ("::1/0", "::/0"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), written);
            assert_eq!(Ok(network), written.parse());
        }
    }

    #[test]
    fn networks_overlap_if_one_has_the_other() {
        let overlap = |one: &str, other: &str| {
            let [one, other]: [Network; 2] = [one, other].map(|text| text.parse().unwrap());
            assert_eq!(one.overlaps(&other), other.overlaps(&one));
            one.overlaps(&other)
        };
        assert!(overlap("10.0.0.0/8", "10.1.2.3") && overlap("::/0", "2001:db8::1"));
        assert!(overlap("10.0.0.0/8", "10.0.0.0/16") && overlap("::1", "::1"));
        assert!(!overlap("10.0.0.0/16", "10.1.0.0/16") && !overlap("0.0.0.0/0", "::1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, hint) in [
            ("", "expected an address"),
            ("nginx", "expected an address"),
            ("*", "expected an address"),
            ("127.0.0.1:8080", "did you mean 127.0.0.1?"),
            ("[::1]:8080", "did you mean ::1?"),
            ("10.0.0.0/33", "from 0 to 32"),
            ("10.0.0.0/-1", "from 0 to 32"),
            ("10.0.0.0/", "from 0 to 32"),
            ("10.0.0.0/255.0.0.0", "from 0 to 32"),
            ("::/129", "from 0 to 128"),
            ("::ffff:10.0.0.0/8", "from 96 to 128"),
            ("0.0.0.0", "did you mean 0.0.0.0/0"),
            ("::", "did you mean ::/0"),
            ("10.0.0.0-10.0.0.9", "expected an address"),
        ] {
            let problem = text.parse::<Network>().unwrap_err();
            assert!(problem.contains(hint), "{text}: {problem}");
        }
    }
}

//! A network namespace with two cables to this machine: one for players, and one for the bus, which can be
//! cut.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Result, ensure};

use crate::harness::namespace::{NETWORK, ip, lay_cable};

/// The third number of the first island's first cable; the next cables take the next ones.
const FIRST: u8 = 81;
/// The cables' names in the namespace: the players' and the bus's.
const CABLES: [&str; 2] = ["players", "bus"];

/// The namespace. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Island {
    pub(super) name: String,
    /// The address of its end of the players' cable.
    pub(super) address: Ipv4Addr,
    /// The address of this machine's end of the bus's cable.
    pub(super) harbour: Ipv4Addr,
}

impl Island {
    /// Creates the namespace and its cables. Only root may do so.
    pub(super) fn new() -> Result<Self> {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let [players, bus] = [0, 1].map(|cable| FIRST + 2 * number + cable);
        let own = ip("-4 address show")?;
        ensure!(
            !own.contains(&format!("{NETWORK}{players}.")),
            "this machine uses {NETWORK}{players}.0 itself"
        );
        let island = Self {
            // A device's name has at most 15 characters.
            name: format!("cs{number}-{}", std::process::id()),
            address: Ipv4Addr::new(198, 18, players, 2),
            harbour: Ipv4Addr::new(198, 18, bus, 1),
        };
        let name = &island.name;
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set lo up"))?;
        for (number, cable) in [players, bus].into_iter().zip(CABLES) {
            let [here, there] = [1, 2].map(|last| Ipv4Addr::new(198, 18, number, last));
            lay_cable([&island.near(cable), cable], name, [here, there])?;
        }
        Ok(island)
    }

    /// Cuts the bus's cable: nothing arrives any more, and neither end learns why.
    pub(super) fn cut(&self) -> Result<()> {
        ip(&format!("link set {} down", self.near(CABLES[1]))).map(drop)
    }

    /// Mends the bus's cable.
    pub(super) fn mend(&self) -> Result<()> {
        ip(&format!("link set {} up", self.near(CABLES[1]))).map(drop)
    }

    /// Returns the name of this machine's end of a cable.
    fn near(&self, cable: &str) -> String {
        format!("{}{}", self.name, &cable[..1])
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        // The cables go with it. This fails if creating it has failed.
        let _ = ip(&format!("netns del {}", self.name));
    }
}

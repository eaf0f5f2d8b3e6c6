//! Two networks of their own, reached from here each by its own cable, with a cable between them that
//! can be cut.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};

use crate::harness::namespace::{NETWORK, ip};

/// Where the islands are reached.
const SHORES: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 81, 2), Ipv4Addr::new(198, 18, 82, 2)];
/// The ends of the cable between them.
const ENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 83, 1), Ipv4Addr::new(198, 18, 83, 2)];

/// The two. Dropping it removes them.
#[derive(Debug)]
pub(super) struct Islands {
    names: [String; 2],
}

impl Islands {
    /// Makes them; only root may.
    pub(super) fn new() -> Result<Self> {
        let own = ip("-4 address show")? + &ip("-4 route show")?;
        ensure!(
            !SHORES
                .iter()
                .any(|shore| own.contains(&shore.to_string()[..9])),
            "this machine uses {NETWORK}81.0 itself"
        );
        let pid = std::process::id();
        let islands = Self {
            // A device's name has at most 15 characters.
            names: ["a", "b"].map(|letter| format!("cs{letter}{pid}")),
        };
        for ((name, shore), third) in islands.names.iter().zip(SHORES).zip([81, 82]) {
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!(
                "link add {name} type veth peer name shore netns {name}"
            ))?;
            ip(&format!("addr add {NETWORK}{third}.1/30 dev {name}"))?;
            ip(&format!("link set {name} up"))?;
            ip(&format!("-n {name} addr add {shore}/30 dev shore"))?;
            ip(&format!("-n {name} link set shore up"))?;
        }
        let [a, b] = &islands.names;
        ip(&format!(
            "-n {a} link add cable type veth peer name cable netns {b}"
        ))?;
        for (name, end) in islands.names.iter().zip(ENDS) {
            ip(&format!("-n {name} addr add {end}/30 dev cable"))?;
            ip(&format!("-n {name} link set cable up"))?;
        }
        Ok(islands)
    }

    /// An island's name, where it is reached, and its end of the cable and the other.
    pub(super) fn island(&self, number: usize) -> (&str, IpAddr, [Ipv4Addr; 2]) {
        let (own, other) = (ENDS[number], ENDS[1 - number]);
        (&self.names[number], SHORES[number].into(), [own, other])
    }

    /// Cuts the cable between them: nothing arrives, and nobody is told.
    pub(super) fn cut(&self) -> Result<()> {
        ip(&format!("-n {} link set cable down", self.names[0]))?;
        Ok(())
    }

    /// Mends it.
    pub(super) fn mend(&self) -> Result<()> {
        ip(&format!("-n {} link set cable up", self.names[0]))?;
        Ok(())
    }
}

impl Drop for Islands {
    fn drop(&mut self) {
        for name in &self.names {
            // Gone already if making it failed.
            let _ = ip(&format!("netns del {name}"));
            let _ = ip(&format!("link del {name}"));
        }
    }
}

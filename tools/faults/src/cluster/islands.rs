//! Two network namespaces, each with a cable to this machine, and a cable between them that can be cut.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};

use crate::harness::namespace::{NETWORK, ip};

/// The addresses at which this machine reaches the islands.
const SHORES: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 81, 2), Ipv4Addr::new(198, 18, 82, 2)];
/// The ends of the cable between them.
const ENDS: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 83, 1), Ipv4Addr::new(198, 18, 83, 2)];

/// The two namespaces. Dropping it removes them.
#[derive(Debug)]
pub(super) struct Islands {
    names: [String; 2],
}

impl Islands {
    /// Creates the namespaces and their cables. Only root may do so.
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

    /// Returns an island's name, its address, and its own and the other end of the cable between them.
    pub(super) fn island(&self, number: usize) -> (&str, IpAddr, [Ipv4Addr; 2]) {
        let (own, other) = (ENDS[number], ENDS[1 - number]);
        (&self.names[number], SHORES[number].into(), [own, other])
    }

    /// Cuts the cable between them: nothing arrives any more, and neither end learns why.
    pub(super) fn cut(&self) -> Result<()> {
        ip(&format!("-n {} link set cable down", self.names[0]))?;
        Ok(())
    }

    /// Mends the cable.
    pub(super) fn mend(&self) -> Result<()> {
        ip(&format!("-n {} link set cable up", self.names[0]))?;
        Ok(())
    }
}

impl Drop for Islands {
    fn drop(&mut self) {
        for name in &self.names {
            // Fails if creating it has failed.
            let _ = ip(&format!("netns del {name}"));
            let _ = ip(&format!("link del {name}"));
        }
    }
}

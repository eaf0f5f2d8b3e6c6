//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The server holds all the connections it may.
    #[error("the server is full, try again later")]
    ServerFull,
    /// One address holds all the connections it may.
    #[error("there are too many connections from your address")]
    AddressFull,
}

/// Counts the open connections.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: usize,
    limit_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Addresses with at least one connection; loopback is not counted.
    by_address: HashMap<IpAddr, usize>,
}

/// One admitted connection; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    /// Limits in connections.
    pub(crate) fn new(limit: usize, limit_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            limit_per_address,
            open: Mutex::default(),
        })
    }

    /// Admits a connection from an address.
    ///
    /// # Errors
    /// [`Refused`] at a limit.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admitted, Refused> {
        let address = address.to_canonical();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.limit {
            return Err(Refused::ServerFull);
        }
        if !address.is_loopback() {
            let count = open.by_address.entry(address).or_default();
            if *count >= self.limit_per_address {
                return Err(Refused::AddressFull);
            }
            *count += 1;
        }
        open.total += 1;
        Ok(Admitted {
            admission: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self
            .admission
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_a_closed_connection_makes_room() {
        let admission = Admission::new(3, 2);
        let [here, there]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap());
        let first = admission.admit(here).unwrap();
        let _second = admission.admit(here).unwrap();
        assert_eq!(admission.admit(here).unwrap_err(), Refused::AddressFull);
        let _third = admission.admit(there).unwrap();
        assert_eq!(admission.admit(there).unwrap_err(), Refused::ServerFull);
        drop(first);
        assert!(admission.admit(here).is_ok());
    }

    #[test]
    fn loopback_counts_only_towards_the_whole() {
        let admission = Admission::new(3, 1);
        let addresses = ["127.0.0.1", "::1", "::ffff:127.0.0.1"].map(|a| a.parse().unwrap());
        let admitted = addresses.map(|address| admission.admit(address).unwrap());
        assert!(admission.admit(addresses[0]).is_err());
        drop(admitted);
        assert!(admission.open.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn a_refused_address_leaves_no_trace() {
        let admission = Admission::new(3, 0);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(admission.admit(address).unwrap_err(), Refused::AddressFull);
        assert_eq!(admission.open.lock().unwrap().total, 0);
    }
}

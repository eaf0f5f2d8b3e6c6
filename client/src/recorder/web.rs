//! A browser tab records nothing.

use std::time::Duration;

/// A client's access to a recorder, which never exists.
#[derive(Debug)]
pub enum Tap {}

impl Tap {
    /// Never called.
    pub fn connected(&mut self) {
        match *self {}
    }

    /// Never called.
    pub fn received(&mut self, _at: Duration, _bytes: &[u8]) {
        match *self {}
    }

    /// Never called.
    pub fn sent(&mut self, _at: Duration, _bytes: &[u8]) {
        match *self {}
    }

    /// Never called.
    pub fn received_datagram(&mut self, _at: Duration, _datagram: &[u8]) {
        match *self {}
    }
}

//! In a browser nothing is recorded.

use std::time::Duration;

/// Where a client tells of its bytes: nowhere.
#[derive(Debug)]
pub enum Tap {}

impl Tap {
    /// A connection begins.
    pub fn connected(&mut self) {
        match *self {}
    }

    /// Bytes came.
    pub fn received(&mut self, _at: Duration, _bytes: &[u8]) {
        match *self {}
    }

    /// Bytes went.
    pub fn sent(&mut self, _at: Duration, _bytes: &[u8]) {
        match *self {}
    }
}

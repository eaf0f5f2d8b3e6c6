//! The rule by which a receiver takes in each tick once, from the stream or from a datagram.

use super::Downlink;
use crate::message::ServerMessage;
use crate::replica::{Change, Replica, ReplicaError};

/// A receiver's record of which ticks its [`Replica`] has. Everything that changes the replica goes
/// through it. Without datagrams it changes nothing.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// Every snapshot of the receiver's streams up to this tick has been taken in.
    complete: u64,
    /// The newest tick that a datagram has completed.
    by_datagram: Option<u64>,
}

impl Gate {
    /// Takes in a message of the stream, unless datagrams have brought the same before.
    ///
    /// # Errors
    /// [`ReplicaError`]; the replica is not to be used any further.
    pub fn message(
        &mut self,
        message: &ServerMessage,
        replica: &mut Replica,
    ) -> Result<Vec<Change>, ReplicaError> {
        let is_known = |tick| self.by_datagram.is_some_and(|known| tick <= known);
        let complete = match message {
            ServerMessage::Snapshot(snapshot) if is_known(snapshot.tick) => return Ok(Vec::new()),
            ServerMessage::Heartbeat { tick } if is_known(*tick) => return Ok(Vec::new()),
            // Ticks never fall on the stream, so the one before has come as a whole.
            ServerMessage::Keyframe(keyframe) => keyframe.tick.saturating_sub(1),
            ServerMessage::Snapshot(snapshot) => snapshot.tick.saturating_sub(1),
            ServerMessage::Heartbeat { tick } => *tick,
            _ => 0,
        };
        let changes = replica.take_in(message)?;
        self.complete = self.complete.max(complete);
        Ok(changes)
    }

    /// Notes that a second welcome of this tick has come. What datagrams bring of the ticks before is of no
    /// use any more, and those from then on begin with the keyframes that follow on the stream.
    pub fn welcomed(&mut self, tick: u64) {
        self.complete = self.complete.max(tick.saturating_sub(1));
    }

    /// Takes in what is new in a datagram. Returns `None` when nothing is, or when something before
    /// the datagram has not come yet.
    ///
    /// # Errors
    /// [`ReplicaError`]; the replica is not to be used any further.
    pub fn datagram(
        &mut self,
        downlink: &Downlink,
        replica: &mut Replica,
    ) -> Result<Option<Vec<Change>>, ReplicaError> {
        let Downlink { complete, base, .. } = *downlink;
        if base > self.complete || complete <= self.complete {
            return Ok(None);
        }
        let mut changes = Vec::new();
        let mut before = base.saturating_add(1);
        for snapshot in &downlink.snapshots {
            let tick = snapshot.tick;
            if tick < before || tick > complete {
                return Err(ReplicaError::Tick { tick, before });
            }
            before = tick;
            // The stream may have brought a part of a tick, or the end of a cell's stream.
            let stream = replica.stream(snapshot.cell);
            if stream.is_some_and(|stream| stream.tick() < tick) {
                changes.append(&mut replica.snapshot(snapshot)?);
            }
        }
        changes.append(&mut replica.heartbeat(complete)?);
        self.complete = complete;
        self.by_datagram = Some(complete);
        Ok(Some(changes))
    }
}

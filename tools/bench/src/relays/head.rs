//! The head of a server's message: decoding the message up to its cell costs a fraction of decoding all.

use anyhow::Result;
use cubesync_protocol::CellId;
use serde::Deserialize;

/// A [`ServerMessage`](cubesync_protocol::ServerMessage) cut off behind its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Head {
    Welcome,
    Reject,
    /// A keyframe of a cell.
    Keyframe {
        /// The cell.
        cell: CellId,
        /// The interval of the cell's frames, in ticks.
        interval_ticks: u8,
    },
    /// A snapshot of a cell.
    Snapshot {
        /// The cell.
        cell: CellId,
    },
    Heartbeat,
    OutOfSight,
    Pong,
    Correction,
    Refused,
    Closing,
}

impl Head {
    /// Decodes the head of a payload.
    pub(crate) fn read(payload: &[u8]) -> Result<Self> {
        let configuration = bincode::config::standard().with_limit::<16>();
        let (head, _) = bincode::serde::decode_from_slice(payload, configuration)?;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::limits::FRAME_HEADER_BYTES;
    use cubesync_protocol::{Keyframe, Message, ServerMessage, Snapshot};

    use super::*;

    #[test]
    fn the_head_of_every_cell_message_is_the_messages_own() {
        let head =
            |message: ServerMessage| Head::read(&message.to_frame()[FRAME_HEADER_BYTES..]).unwrap();
        for cell in [0, 250, 251, u16::MAX].map(CellId) {
            let interval_ticks = 4;
            let keyframe = Keyframe {
                cell,
                interval_ticks,
                tick: 1 << 40,
                cubes: Vec::new(),
            };
            let expected = Head::Keyframe {
                cell,
                interval_ticks,
            };
            assert_eq!(head(ServerMessage::Keyframe(keyframe)), expected);
            let snapshot = Snapshot {
                cell,
                tick: 1 << 40,
                ..Snapshot::default()
            };
            assert_eq!(
                head(ServerMessage::Snapshot(snapshot)),
                Head::Snapshot { cell }
            );
        }
        assert_eq!(head(ServerMessage::Heartbeat { tick: 7 }), Head::Heartbeat);
        let cells = vec![CellId(1)];
        assert_eq!(head(ServerMessage::OutOfSight { cells }), Head::OutOfSight);
        assert!(Head::read(&[]).is_err());
    }
}

//! Messages in, chunks out.

use std::time::Duration;

use bytes::Bytes;
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::{
    ClientMessage, DatagramAnswer, DatagramRequest, Hello, Message, ResumeToken, ServerMessage,
    Welcome,
};

use crate::chunk::{Content, Direction};
use crate::scene::Scene;

/// A chunk lasts this long at most: what a killed program loses, and what a player has to read
/// before the moment that is looked for.
const CHUNK_LENGTH: Duration = Duration::from_secs(5);
/// A chunk has about this many bytes at most before it is packed, its opening not counted.
const CHUNK_BYTES: usize = 256 * 1024;

/// Turns what is said on a connection into the chunks of a recording.
#[derive(Debug, Default)]
pub struct Encoder {
    scene: Scene,
    open: Option<Open>,
}

/// The chunk that is being filled.
#[derive(Debug)]
struct Open {
    content: Content,
    opening_bytes: usize,
}

impl Encoder {
    /// Takes in the payload of a frame, or the plaintext of a datagram. Times do not go backwards. Returns
    /// a chunk, as it stands in a file, when one is full.
    ///
    /// Keys and tokens are left out: recordings are passed on.
    pub fn record(
        &mut self,
        at: Duration,
        direction: Direction,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let full = self.open.take_if(|open| open.is_full(at));
        let open = self.open.get_or_insert_with(|| Open::new(at, &self.scene));
        match direction {
            Direction::FromClient => {
                let redacted = client_without_secrets(payload);
                open.content
                    .push(at, direction, redacted.as_deref().unwrap_or(payload));
            }
            // What it brings comes by the stream as well, which alone says what is known.
            Direction::Datagram => open.content.push(at, direction, payload),
            Direction::FromServer | Direction::Opening => {
                let message = ServerMessage::decode(payload);
                let welcome = message.as_ref().ok().and_then(server_without_secrets);
                open.content
                    .push(at, direction, welcome.as_deref().unwrap_or(payload));
                if let Ok(message) = message {
                    self.scene.hear(at, &message);
                }
            }
        }
        full.map(|full| full.content.pack())
    }

    /// Notes that the next messages come from another connection.
    pub fn reconnected(&mut self) {
        self.scene = Scene::default();
    }

    /// Returns the last chunk, if there is something in it.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        self.open.take().map(|open| open.content.pack())
    }

    /// Returns the state of the recorded connection.
    pub fn scene(&self) -> &Scene {
        &self.scene
    }
}

impl Open {
    fn new(at: Duration, scene: &Scene) -> Self {
        let mut content = Content::new(at);
        for message in scene.opening(at) {
            content.push(at, Direction::Opening, payload_of(&message.to_frame()));
        }
        Self {
            opening_bytes: content.len(),
            content,
        }
    }

    fn is_full(&self, at: Duration) -> bool {
        at.saturating_sub(self.content.start()) >= CHUNK_LENGTH
            || self.content.len() - self.opening_bytes >= CHUNK_BYTES
    }
}

/// A hello without the join key and the token, and a request without an offer.
fn client_without_secrets(payload: &[u8]) -> Option<Bytes> {
    match ClientMessage::decode(payload) {
        Ok(ClientMessage::Hello(hello)) => {
            let hello = ClientMessage::Hello(Hello {
                join_key: None,
                resume: None,
                ..hello
            });
            Some(hello.to_frame().slice(FRAME_HEADER_BYTES..))
        }
        Ok(ClientMessage::OpenDatagrams(_)) => {
            let request = ClientMessage::OpenDatagrams(DatagramRequest::Udp);
            Some(request.to_frame().slice(FRAME_HEADER_BYTES..))
        }
        _ => None,
    }
}

/// A welcome without the token, and an answer without a path and its key.
fn server_without_secrets(message: &ServerMessage) -> Option<Bytes> {
    match message {
        ServerMessage::Welcome(welcome) => {
            let welcome = ServerMessage::Welcome(Welcome {
                resume: ResumeToken([0; 16]),
                ..welcome.clone()
            });
            Some(welcome.to_frame().slice(FRAME_HEADER_BYTES..))
        }
        ServerMessage::Datagrams(_) => {
            let answer = ServerMessage::Datagrams(DatagramAnswer::Unavailable);
            Some(answer.to_frame().slice(FRAME_HEADER_BYTES..))
        }
        _ => None,
    }
}

fn payload_of(frame: &[u8]) -> &[u8] {
    &frame[FRAME_HEADER_BYTES..]
}

//! One connection: the handshake, then frames in, messages to the room.
//!
//! A session reads; from the moment the room has let its player in, the room decides what is
//! written. Either the room writes to the socket itself ([`tcp`]), or its frames come through a queue
//! to the session, which sends them: for connections whose socket a library owns. So no write ever
//! waits for a read or is cut off by one.

mod foreign;
mod handshake;
mod keys;
mod source;
mod stream;
pub mod tcp;
mod transport;

use std::future::{pending, poll_fn};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cubesync_protocol::limits::{FRAME_HEADER_BYTES, MAX_SESSION_DESCRIPTION_BYTES};
use cubesync_protocol::{ClientMessage, DatagramRequest, Encoding, Hello, Message};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use self::foreign::OtherPorts;
use self::handshake::check_hello;
pub use self::keys::Keys;
use self::source::Source;
pub use self::stream::Stream;
pub use self::transport::{Reader, Received, Writer};
use crate::admission::Admitted;
use crate::datagram::DatagramPaths;
use crate::ending::{Ending, Problem};
use crate::label::Label;
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::room::audience::{Outlet, QueuedFrames, queue};
use crate::room::speed::SpeedRule;
use crate::room::{Entrance, Membership, SightRule};
use crate::rooms::Rooms;

/// Time for a peer to take its last frame and close. Closing while bytes of the peer are
/// unread would reset the connection and could destroy that frame (RFC 2525, 2.17).
const LINGER: Duration = Duration::from_secs(1);

/// The limits and deadlines of a session.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Time for the first message to come.
    pub hello_deadline: Duration,
    /// Messages a second; twice as many may come at once.
    pub max_messages_per_second: NonZeroU32,
    /// Bytes a second; twice as many may come at once.
    pub max_bytes_per_second: NonZeroU32,
    /// Silence after which a peer is gone.
    pub dead_after: Duration,
    /// The other ports of the server, if it has any.
    pub other_ports: Option<OtherPorts>,
}

/// The state that all sessions share.
#[derive(Debug)]
pub struct Sessions {
    settings: SessionSettings,
    keys: Keys,
    rooms: Arc<Rooms>,
    datagrams: Option<Arc<dyn DatagramPaths>>,
    metrics: Metrics,
    shutdown: CancellationToken,
}

impl Sessions {
    /// Creates sessions that bring their players into `rooms` and offer them the ways of `datagrams`, until
    /// `shutdown`.
    pub fn new(
        settings: SessionSettings,
        keys: Keys,
        rooms: Arc<Rooms>,
        datagrams: Option<Arc<dyn DatagramPaths>>,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            settings,
            keys,
            rooms,
            datagrams,
            metrics,
            shutdown,
        }
    }

    /// Serves a TCP connection to its end.
    pub async fn serve_tcp(&self, stream: TcpStream, admitted: Admitted) {
        let (reader, writer) = tcp::split(stream);
        self.serve(reader, writer, admitted).await;
    }

    /// Serves any other stream of bytes to its end.
    pub async fn serve_stream(&self, stream: impl Stream, admitted: Admitted) {
        let (reader, writer) = stream::split(stream);
        self.serve(reader, writer, admitted).await;
    }

    /// Serves a connection to its end.
    pub async fn serve(&self, reader: impl Reader, mut writer: impl Writer, admitted: Admitted) {
        let open = self.metrics.connected();
        let mut source = Source::new(reader, &self.settings, admitted.budget().cloned());
        let waits = self.converse(&mut source, &mut writer, &admitted).await;
        if waits {
            source.linger().await;
        }
        drop((open, admitted));
    }

    /// Tells the peer of a TCP connection on which TLS was expected what to do. It has begun to send.
    pub async fn refuse_unencrypted(&self, stream: TcpStream) {
        let (reader, mut writer) = tcp::split(stream);
        let mut source = Source::new(reader, &self.settings, None);
        // Only the first bytes matter, which stay in the source if they are no frame.
        let _ = source.next_frame().await;
        let problem = handshake::no_tls();
        self.reject(&mut writer, &problem, source.received()).await;
        source.linger().await;
    }

    /// Tells a peer that it is not admitted, which has been counted, or that it came to another port
    /// than it meant.
    pub async fn turn_away(&self, stream: impl Stream, problem: &Problem) {
        let (reader, mut writer) = stream::split(stream);
        self.send_last(&mut writer, problem.reject().to_frame())
            .await;
        Source::new(reader, &self.settings, None).linger().await;
    }

    /// Returns whether the peer, which has been told all, may still take it.
    async fn converse(
        &self,
        source: &mut Source<impl Reader>,
        writer: &mut impl Writer,
        admitted: &Admitted,
    ) -> bool {
        let hello = match self.introduction(source, admitted).await {
            Ok(hello) => hello,
            Err(problem) => {
                self.reject(writer, &problem, source.received()).await;
                return true;
            }
        };
        let (outlet, mut frames) = match writer.outlet() {
            Some(outlet) => (outlet, None),
            None => {
                let (queue, frames) = queue();
                (Outlet::Session(queue), Some(frames))
            }
        };
        let ended = CancellationToken::new();
        // In a box, so that a session has no place for it while its player plays.
        let peer = Peer {
            address: admitted.address(),
            transport: writer.transport(),
        };
        // A plain client has its ticks by the stream alone.
        let paths = self.datagrams.as_ref();
        let paths = paths.filter(|_| hello.encoding == Encoding::Predicted);
        let entering = Box::pin(self.enter(hello, outlet, &ended, peer));
        let membership = match entering.await {
            Ok(membership) => membership,
            Err(ending) => {
                self.reject(writer, &ending.into(), &[]).await;
                return true;
            }
        };
        admitted.has_joined();
        // The ban ended the players of the address, and this one was still on the way in.
        if let Err(banned) = admitted.check_ban() {
            membership.remove(Problem::removal(banned, None)).await;
        }
        let reader = frames.as_ref().map(QueuedFrames::peer);
        let is_waited_for = || reader.as_ref().is_some_and(|reader| !reader.is_cut());
        {
            let mut writing = std::pin::pin!(send_queued(writer, &mut frames));
            let (reason, is_written) = {
                // Pinned here, since `run_until_cancelled` would have place for it twice.
                let reading =
                    std::pin::pin!(self.read_messages(source, &membership, paths, admitted));
                tokio::select! {
                    biased;
                    reason = ended.run_until_cancelled(reading) => (reason, false),
                    outcome = &mut writing => (outcome.err(), true),
                }
            };
            membership.end(reason).await;
            if is_waited_for() && !is_written {
                // The room has let go of the queue: its last words are what is still in there.
                let _ = timeout(LINGER, writing).await;
            }
        }
        // A room that writes to the socket itself also closes it, after its last words.
        if is_waited_for() {
            let _ = timeout(LINGER, writer.close()).await;
        }
        reader.is_none() || is_waited_for()
    }

    /// Reads the first message and judges it.
    async fn introduction(
        &self,
        source: &mut Source<impl Reader>,
        admitted: &Admitted,
    ) -> Result<Hello, Problem> {
        let deadline = self.settings.hello_deadline;
        let first = tokio::select! {
            biased;
            first = timeout(deadline, source.next_frame()) => first,
            ending = self.cut_short(admitted) => return Err(ending.into()),
        };
        let Ok(first) = first else {
            let problem = format!("it did not come within {deadline:?}");
            return Err(Problem::greeting(Ending::HelloTimeout, &problem));
        };
        let payload = first.map_err(|problem| match problem.ending {
            Ending::Lost | Ending::Closed => problem,
            Ending::BadMessage | Ending::FrameTooLong => {
                Problem::greeting(Ending::NotHello, &problem)
            }
            ending => Problem::greeting(ending, &problem),
        })?;
        self.count_frame(&payload);
        let hello = check_hello(&payload)?;
        let given = hello.join_key.as_deref();
        self.keys.check(&hello.room, given, admitted.address())?;
        Ok(hello)
    }

    /// Waits until a connection that has not introduced itself gets no more time for it, and returns why.
    pub async fn cut_short(&self, admitted: &Admitted) -> Ending {
        tokio::select! {
            () = self.shutdown.cancelled() => Ending::ShuttingDown,
            () = admitted.made_place() => Ending::PendingFull,
        }
    }

    /// Brings a player into the room they asked for.
    async fn enter(
        &self,
        hello: Hello,
        outlet: Outlet,
        ended: &CancellationToken,
        peer: Peer,
    ) -> Result<Membership, Ending> {
        let entrance = Entrance {
            name: hello.name,
            colour: hello.colour,
            rule: match hello.encoding {
                Encoding::Predicted => SpeedRule::TopSpeed,
                Encoding::Plain => SpeedRule::Plain,
            },
            sight: SightRule::Surroundings,
            resume: hello.resume,
            pose: hello.pose,
            outlet,
            ended: ended.clone(),
            peer: Some(peer),
        };
        self.rooms.enter(&hello.room, entrance, peer.address).await
    }

    /// Counts a connection that ends before its player has joined, and tells the peer why if it is
    /// still there. `received` are its bytes that were no frame.
    async fn reject(&self, writer: &mut impl Writer, problem: &Problem, received: &[u8]) {
        self.metrics.disconnects.count(problem.ending);
        if matches!(problem.ending, Ending::Lost | Ending::Closed) {
            // A peer that takes nothing is not waited for.
            let _ = timeout(LINGER, writer.close()).await;
            return;
        }
        debug!(reason = problem.ending.as_str(), %problem, "rejected");
        let foreign = foreign::answer(received, self.settings.other_ports);
        let answer = foreign.unwrap_or_else(|| problem.reject().to_frame());
        self.send_last(writer, answer).await;
    }

    /// Sends the only answer on a connection and says that nothing more comes.
    async fn send_last(&self, writer: &mut impl Writer, answer: Bytes) {
        self.metrics.count_sent(answer.len() as u64, 1);
        // The peer may be gone already, and one that takes nothing is not waited for.
        let _ = timeout(LINGER, writer.send(&mut answer.into())).await;
        let _ = timeout(LINGER, writer.close()).await;
    }

    /// Passes on messages until the connection ends, and returns why it did.
    async fn read_messages(
        &self,
        source: &mut Source<impl Reader>,
        membership: &Membership,
        paths: Option<&Arc<dyn DatagramPaths>>,
        admitted: &Admitted,
    ) -> Ending {
        let mut has_asked = false;
        // One timer for the connection: to set one for every message would cost more than to read it.
        let dead_after = self.settings.dead_after;
        let mut heard = Instant::now();
        let silence = tokio::time::sleep(dead_after);
        tokio::pin!(silence);
        loop {
            let payload = tokio::select! {
                biased;
                payload = source.next_frame() => payload,
                () = &mut silence => {
                    heard = heard.max(source.paused_until().unwrap_or(heard));
                    if heard.elapsed() >= dead_after {
                        return Ending::Silent;
                    }
                    silence.as_mut().reset(heard + dead_after);
                    continue;
                }
            };
            heard = Instant::now();
            let payload = match payload {
                Ok(payload) => payload,
                Err(error) => {
                    debug!(reason = error.ending.as_str(), %error, "no more frames");
                    return error.ending;
                }
            };
            self.count_frame(&payload);
            let message = match ClientMessage::decode(&payload) {
                Ok(ClientMessage::Leave) => return Ending::Left,
                Ok(ClientMessage::Hello(_)) => return Ending::BadMessage,
                Ok(ClientMessage::OpenDatagrams(request)) => {
                    if std::mem::replace(&mut has_asked, true) || !is_bounded(&request) {
                        return Ending::BadMessage;
                    }
                    let inbox = membership.inbox().within(admitted.budget().cloned());
                    let address = admitted.address();
                    let opened = paths.and_then(|paths| paths.open(&request, inbox, address));
                    // In a box, so that a session has no place for it while its player plays.
                    if Box::pin(membership.open_datagrams(opened)).await.is_err() {
                        return Ending::ShuttingDown;
                    }
                    continue;
                }
                Ok(message) => message,
                Err(error) => {
                    debug!(%error, "bad message");
                    return Ending::BadMessage;
                }
            };
            if membership.message(message).await.is_err() {
                return Ending::ShuttingDown;
            }
        }
    }

    fn count_frame(&self, payload: &Bytes) {
        self.metrics.received_frames.inc();
        let len_bytes = payload.len() + FRAME_HEADER_BYTES;
        self.metrics.received_bytes.inc_by(len_bytes as u64);
    }
}

/// Returns whether a request is not longer than any that a client needs.
fn is_bounded(request: &DatagramRequest) -> bool {
    match request {
        DatagramRequest::Udp => true,
        DatagramRequest::WebRtc { offer } => offer.len() <= MAX_SESSION_DESCRIPTION_BYTES,
    }
}

/// Sends frames from a queue until the room lets go of it; without a queue, waits for ever.
async fn send_queued(
    writer: &mut impl Writer,
    frames: &mut Option<QueuedFrames>,
) -> Result<(), Ending> {
    let Some(frames) = frames else {
        return pending().await;
    };
    loop {
        let next = tokio::select! {
            biased;
            next = frames.next() => next,
            _ = poll_fn(|context| writer.poll_idle(context)) => return Err(Ending::Lost),
        };
        match next {
            Some(frames) => writer.send(frames).await.map_err(|_| Ending::Lost)?,
            None => return Ok(()),
        }
    }
}

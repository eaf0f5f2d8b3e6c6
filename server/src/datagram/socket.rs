//! The UDP socket: binding it, and the task that reads it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cubesync_relay::token_bucket::TokenBucket;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Datagrams;
use super::metrics::{DatagramMetrics, Received, Sending};

/// Size of the socket's buffers, of which the system gives what it allows: a tick for a thousand players
/// is a burst of a thousand packets, each of which counts as 0.8 to 2 kB.
const BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// Longest packet that is read whole. A longer one is cut, and then it is not authentic.
const MAX_PACKET_BYTES: usize = 2_048;

/// Time between two packets of strangers, or of players who send too many, beyond which reading pauses:
/// 120,000 a second take nearly half a processor. Meanwhile the system drops what does not fit the socket's buffer, players' packets too,
/// until their streams have everything.
const STRANGER_EACH: Duration = Duration::from_nanos(8_333);
/// Strangers' packets may come at once that may come in this time.
const STRANGER_BURST: Duration = Duration::from_millis(100);
/// The pause.
const PAUSE: Duration = Duration::from_millis(5);

/// The sending side of the socket, which counts what it sends.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    socket: Arc<UdpSocket>,
    metrics: DatagramMetrics,
}

impl Outgoing {
    pub(super) fn new(socket: &Arc<UdpSocket>, metrics: DatagramMetrics) -> Self {
        Self {
            socket: Arc::clone(socket),
            metrics,
        }
    }

    /// Sends a packet without waiting, and returns whether the system took it.
    pub(super) fn send(&self, packet: &[u8], to: SocketAddr) -> bool {
        let outcome = match self.socket.try_send_to(packet, to) {
            Ok(_) => Sending::Sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Sending::Full,
            Err(_) => Sending::Failed,
        };
        self.metrics.sent.count(outcome);
        if outcome == Sending::Sent {
            self.metrics.sent_bytes.inc_by(packet.len() as u64);
        }
        outcome == Sending::Sent
    }
}

/// Binds the socket.
///
/// # Errors
/// The system's.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address).await?;
    let buffers = SockRef::from(&socket);
    // With smaller ones, more is lost in bursts.
    let _ = buffers.set_recv_buffer_size(BUFFER_BYTES);
    let _ = buffers.set_send_buffer_size(BUFFER_BYTES);
    Ok(socket)
}

/// Reads the socket until `shutdown`, and does what is due in between.
pub(crate) async fn receive(datagrams: Arc<Datagrams>, shutdown: CancellationToken) {
    let both = async { tokio::join!(receive_all(&datagrams), datagrams.browsers.keep_time()) };
    shutdown.run_until_cancelled(both).await;
}

async fn receive_all(datagrams: &Datagrams) {
    let mut packet = [0; MAX_PACKET_BYTES];
    let now = Instant::now().into_std();
    let mut strangers = TokenBucket::new(STRANGER_EACH, STRANGER_BURST, now);
    loop {
        let is_free = match datagrams.socket.recv_from(&mut packet).await {
            Ok((len_bytes, from)) => {
                let packet = &mut packet[..len_bytes];
                let of_browser = datagrams.browsers.receive(packet, from);
                let outcome = of_browser.unwrap_or_else(|| datagrams.paths.receive(packet, from));
                datagrams.metrics.received.count(outcome);
                datagrams.metrics.received_bytes.inc_by(len_bytes as u64);
                matches!(outcome, Received::Taken | Received::Upkeep)
            }
            Err(error) if is_of_one_packet(&error) => false,
            Err(_) => {
                sleep(PAUSE).await;
                continue;
            }
        };
        if !is_free && !strangers.take(1, Instant::now().into_std()) {
            sleep(PAUSE).await;
        }
    }
}

/// Returns whether an error of receiving is about one packet, so that the next one can be received at
/// once. Windows reports so that an earlier packet found no program, and that one was longer than the
/// buffer.
fn is_of_one_packet(error: &io::Error) -> bool {
    /// The number of Windows' `WSAEMSGSIZE`.
    const TOO_LONG: i32 = 10_040;
    error.kind() == ErrorKind::ConnectionReset || error.raw_os_error() == Some(TOO_LONG)
}

//! A player on a TCP connection.

use std::io;
use std::sync::Arc;

use cubesync_protocol::Message;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::handshake::no_tls;
use super::source::Source;
use super::stream;
use super::{Introduction, enter, introduction, read_messages, refusal_frame};
use crate::admission::Admitted;
use crate::ending::{Ending, Problem};
use crate::room::audience::Outlet;
use crate::run::Shared;
use crate::tls::{self, Arrival, Tls};

/// What the kernel may hold for a client, in bytes (Linux doubles it): a good second of a room of
/// a thousand. The default would let a reader that stopped hide behind megabytes.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Serves a connection to its end.
pub(crate) async fn serve(shared: &Shared, stream: TcpStream, admitted: Admitted) {
    if let Err(error) = prepare(&stream) {
        return debug!(%error, "connection broke");
    }
    if let Some(tls) = &shared.tls {
        // In a box, so that a task without encryption has no place for it.
        return Box::pin(serve_encrypted(shared, tls, stream, admitted)).await;
    }
    let open = shared.metrics.connected();
    converse(shared, stream, &admitted).await;
    drop((open, admitted));
}

/// The same with TLS under it. Who speaks without is told so, in the way that they understand.
async fn serve_encrypted(shared: &Shared, tls: &Tls, stream: TcpStream, admitted: Admitted) {
    let arrival = {
        let _open = shared.metrics.connected();
        let deadline = *shared.config.hello_deadline;
        tls::accept(&tls.players, stream, deadline).await
    };
    match arrival {
        Arrival::Tls(stream) => stream::serve(shared, stream, admitted).await,
        Arrival::Plain(stream) => {
            let (reader, writer) = stream.into_split();
            let source = Source::tcp(reader, &shared.config);
            refuse(shared, &writer, source, no_tls()).await;
        }
        Arrival::Silent => shared.metrics.disconnects.count(Ending::HelloTimeout),
        Arrival::Closed => shared.metrics.disconnects.count(Ending::Closed),
        Arrival::Failed(error) => {
            debug!(%error, "no handshake of TLS");
            shared.metrics.disconnects.count(Ending::TlsHandshake);
        }
    }
}

/// Tells a peer that it is not admitted, where that needs no waiting.
pub(crate) fn turn_away(stream: &TcpStream, ending: Ending) {
    let reject = Problem::from(ending).reject().to_frame();
    // A peer that cannot take a hundred bytes at once sees a closed connection instead.
    let _ = stream.try_write(&reject);
}

/// Sets what a socket of the protocol needs.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER_BYTES)
}

async fn converse(shared: &Shared, stream: TcpStream, admitted: &Admitted) {
    let (reader, writer) = stream.into_split();
    let mut source = Source::tcp(reader, &shared.config);
    let writer = Arc::new(writer);
    let hello = match introduction(shared, &mut source, admitted).await {
        Introduction::Hello(hello) => hello,
        Introduction::Refused(problem) => return refuse(shared, &writer, source, problem).await,
        Introduction::Gone(reason) => return shared.metrics.disconnects.count(reason),
    };
    let ended = CancellationToken::new();
    let outlet = Outlet::Tcp(Arc::clone(&writer));
    let membership = match enter(shared, hello, outlet, &ended, admitted).await {
        Ok(membership) => membership,
        Err(ending) => return refuse(shared, &writer, source, ending.into()).await,
    };
    admitted.has_joined();
    let reading = read_messages(shared, &mut source, &membership);
    let reason = ended.run_until_cancelled(reading).await;
    membership.end(reason).await;
    source.linger().await;
}

async fn refuse(shared: &Shared, writer: &OwnedWriteHalf, source: Source, problem: Problem) {
    // The socket is new: its buffer has place for a frame, or the peer is gone.
    let _ = writer.try_write(&refusal_frame(shared, &problem));
    let _ = SockRef::from(writer.as_ref()).shutdown(std::net::Shutdown::Write);
    source.linger().await;
}

//! The server's end of the control socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::info;

use super::message::{Answer, MAX_ORDER_BYTES};
use super::orders::Operator;
use super::{BanFile, ControlSocket, message};
use crate::listener;
use crate::metrics::Listener;
use crate::shared::Shared;
use cubesync_relay::contain::contain;
use cubesync_relay::metrics::Task;

/// Time for an order to come, to be carried out, and for its answer to be read.
const DEADLINE: Duration = Duration::from_secs(10);

/// Largest number of connections at once; others wait. Only people with rights to the socket come here.
const MAX_CONNECTIONS: usize = 8;

/// Carries out operators' orders until the server stops. The socket's file then goes.
pub(crate) async fn serve(socket: ControlSocket, shared: Arc<Shared>, ban_file: Option<BanFile>) {
    info!(path = %socket.path().display(), "the operator's commands are taken");
    let ban_file = ban_file.map(Arc::new);
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (host, stop) = (&shared.host, &shared.host.shutdown);
    let accepting = async {
        while let Ok(place) = Arc::clone(&connections).acquire_owned().await {
            let accept = || socket.listener.accept();
            let (stream, _) = listener::next(Listener::Control, &shared.metrics, accept).await;
            let (shared, ban_file, stop) = (Arc::clone(&shared), ban_file.clone(), stop.clone());
            let serving = async move {
                let conversing = timeout(DEADLINE, converse(stream, &shared, ban_file));
                // An operator who does not send or read in time gets no answer.
                let _ = stop.run_until_cancelled(conversing).await;
                drop(place);
            };
            host.tasks
                .spawn(contain(&host.metrics, Task::Other, serving));
        }
    };
    stop.run_until_cancelled(accepting).await;
}

/// Reads an order, carries it out and writes the answer. A caller that breaks the connection is not
/// waited for.
async fn converse(
    mut stream: UnixStream,
    shared: &Shared,
    ban_file: Option<Arc<BanFile>>,
) -> Option<()> {
    // The system may not know.
    let user = stream.peer_cred().ok().map(|peer| peer.uid());
    let operator = Operator::new(shared, ban_file, user);
    let (reader, mut writer) = stream.split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(MAX_ORDER_BYTES));
    reader.read_until(b'\n', &mut line).await.ok()?;
    let answer = match line.last() {
        Some(b'\n') => match message::read(&line) {
            Ok(order) => operator.carry_out(order).await,
            Err(problem) => Answer::Failed(problem),
        },
        _ if line.is_empty() => return None,
        _ => Answer::Failed("an order is one line, and this one has no end".to_owned()),
    };
    writer.write_all(&message::write(&answer)).await.ok()?;
    writer.shutdown().await.ok()
}

//! The task of a room: this server is the room's owner or an edge of it, by turns.

use std::sync::Arc;

use cubesync_protocol::ServerAddress;
use cubesync_relay::room::Connections;
use cubesync_relay::room::backplane::{Backplane, Retire, RoomFuture};
use tokio_util::sync::CancellationToken;

use crate::Cluster;
use crate::edge::Edge;
use crate::owner::Owner;
use crate::task::{Inbox, Next, Shown, Task};
use crate::tenure::Tenure;

impl Backplane for Cluster {
    fn run(
        self: Arc<Self>,
        connections: Connections,
        shutdown: CancellationToken,
        retire: Retire,
    ) -> RoomFuture {
        Box::pin(run(self, connections, shutdown, retire))
    }

    fn servers(&self, _: &str) -> Vec<ServerAddress> {
        self.others()
    }
}

/// Runs a room to its end here.
async fn run(
    cluster: Arc<Cluster>,
    connections: Connections,
    shutdown: CancellationToken,
    retire: Retire,
) {
    let name = connections.settings.name.clone();
    let mut task = Task::new(shutdown, Inbox::open(&cluster, &name), retire);
    let mut next = Next::Show(Box::new(Shown {
        connections,
        state: None,
        owner: None,
        tenure: Tenure::wanted(&cluster, &name),
    }));
    loop {
        let cluster = Arc::clone(&cluster);
        next = match next {
            Next::Show(shown) => Edge::new(cluster, *shown).run(&mut task).await,
            Next::Own(room, tenure) => Owner::new(cluster, *room, tenure).run(&mut task).await,
            Next::End => return cluster.forget_room(&name),
        };
    }
}

#[cfg(test)]
mod tests;

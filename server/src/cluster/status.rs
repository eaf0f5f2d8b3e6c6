//! The servers of a cluster, and of a room, as the status page shows them.

use cubesync_cluster::{Cluster, Presence, RoomRole};
use cubesync_protocol::folded;
use cubesync_relay::label::Label;
use cubesync_relay::room::Role;
use serde::Serialize;

/// The maximum number of servers listed. With about 200 bytes each, they stay a small part of an
/// event.
const MAX_SERVERS: usize = 50;

/// The current state of the cluster.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct ClusterNow {
    /// Whether this server reaches the bus.
    is_connected: bool,
    /// The number of servers.
    count: usize,
    /// The number of players' connections on all of them.
    players: u64,
    /// The traffic of all of them on the bus.
    sent_bytes_per_s: u64,
    /// The servers, this one first.
    servers: Vec<ServerNow>,
}

/// One server of the cluster.
#[derive(Debug, PartialEq, Serialize)]
struct ServerNow {
    /// The address of its pages; empty if unknown.
    web: String,
    version: String,
    players: u32,
    rooms: u32,
    sent_bytes_per_s: u64,
    received_bytes_per_s: u64,
}

/// The servers of a room.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RoomServers {
    /// The part of this server: `owner`, `edge` or `island`.
    role: &'static str,
    /// The owner if it is another server: the address of its pages, or its id.
    owner: Option<String>,
    /// The servers with players in the room, this one first.
    players: Vec<PlayersAt>,
}

/// The players of a room at one server.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct PlayersAt {
    /// The address of the server's pages. `None`: it is this server.
    web: Option<String>,
    players: u32,
}

impl ClusterNow {
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self::new(cluster.servers(), cluster.bus().is_connected())
    }

    fn new(servers: Vec<Presence>, is_connected: bool) -> Self {
        Self {
            is_connected,
            count: servers.len(),
            players: servers.iter().map(|server| u64::from(server.players)).sum(),
            sent_bytes_per_s: servers
                .iter()
                .map(|server| server.sent_bytes_per_s)
                .fold(0, u64::saturating_add),
            servers: servers
                .into_iter()
                .take(MAX_SERVERS)
                .map(ServerNow::from)
                .collect(),
        }
    }
}

impl From<Presence> for ServerNow {
    fn from(server: Presence) -> Self {
        Self {
            web: server.address.web,
            version: server.version,
            players: server.players,
            rooms: server.room_count,
            sent_bytes_per_s: server.sent_bytes_per_s,
            received_bytes_per_s: server.received_bytes_per_s,
        }
    }
}

impl RoomServers {
    /// Creates the view of a room from the presences of all servers, this one first.
    pub(super) fn new(name: &str, role: &Role, servers: &[Presence]) -> Self {
        let name = folded(name);
        let players = servers.iter().enumerate().filter_map(|(index, server)| {
            let room = server
                .rooms
                .iter()
                .find(|room| folded(&room.name) == name)?;
            let web = (index > 0).then(|| server.address.web.clone());
            let players = room.players;
            (players > 0).then_some(PlayersAt { web, players })
        });
        Self {
            role: RoomRole::from(role).as_str(),
            owner: match role {
                Role::Edge { owner } => Some(owner.clone()),
                Role::Owner | Role::Island => None,
            },
            players: players.take(MAX_SERVERS).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cubesync_cluster::testing::presence;

    #[test]
    fn all_servers_are_summed_up_and_the_first_ones_listed() {
        let server = |id| {
            let mut server = presence(id);
            (server.players, server.sent_bytes_per_s) = (2, 10);
            server
        };
        let now = ClusterNow::new((0..60).map(server).collect(), true);
        assert_eq!(
            (now.count, now.players, now.sent_bytes_per_s),
            (60, 120, 600)
        );
        assert_eq!(now.servers.len(), MAX_SERVERS);
        assert_eq!(now.servers[0].web, presence(0).address.web);
    }

    #[test]
    fn a_room_shows_its_owner_and_where_its_players_are() {
        let mut servers = [presence(1), presence(2), presence(3)];
        servers[0].rooms[0].players = 2;
        servers[2].rooms[0].players = 5;
        let [_, owner, third] = servers.each_ref().map(|server| server.address.web.clone());
        let role = Role::Edge { owner };
        let room = RoomServers::new("lobby", &role, &servers);
        let expected = serde_json::json!({
            "role": "edge",
            "owner": presence(2).address.web,
            "players": [{ "web": null, "players": 2 }, { "web": third, "players": 5 }],
        });
        assert_eq!(serde_json::to_value(room).unwrap(), expected);
        assert_eq!(
            RoomServers::new("attic", &Role::Island, &servers).players,
            []
        );
    }
}

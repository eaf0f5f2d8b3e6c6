//! The operator's commands, and what they print.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use cubesync_arguments::time;
use cubesync_protocol::text::clusters;
use cubesync_protocol::{clean_name, clean_reason, clean_room};
use jiff::SignedDuration;
use serde::Serialize;

pub use super::message::{Answer, Order};
use super::message::{BanLine, Place, PlayerLine, Who};
use cubesync_relay::network::Network;

/// Where the systemd unit in docs/ops has the socket.
const USUAL_PATH: &str = "/run/cubesync/control.sock";

/// Shortest time of a ban.
const SHORTEST_BAN: Duration = Duration::from_secs(1);

/// Longest time of a ban that ends: a year.
const LONGEST_BAN: Duration = Duration::from_secs(31_557_600);

/// How long a ban lasts, unless the operator says otherwise: a troll has gone to bed, and whoever gets the
/// address next is not shut out for long.
const USUAL_BAN: &str = "1h";

/// A command for a running server.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// List the players of the server that runs here: ids, rooms, addresses
    Players {
        /// The server.
        #[command(flatten)]
        server: Server,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Remove a player from their room, and tell them why. They can join again: ban keeps them out
    Kick {
        /// The player.
        #[command(flatten)]
        who: Player,
        /// Remove all players who are connected from this address or network
        #[arg(long, value_name = "ADDR[/BITS]", conflicts_with_all = ["name", "id"])]
        address: Option<Network>,
        /// The reason.
        #[command(flatten)]
        reason: Reason,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Remove the players of an address, and let nobody in from there, on any port
    Ban {
        /// The address or network. Of IPv6, at least a /64 network is banned
        #[arg(value_name = "ADDR[/BITS]", required_unless_present_any = ["name", "id"])]
        #[arg(conflicts_with_all = ["name", "id"])]
        address: Option<Network>,
        /// Ban the address from which the player of this name is connected
        #[arg(id = "name", long = "player", value_name = "NAME", value_parser = clean_name)]
        #[arg(conflicts_with = "id")]
        player: Option<String>,
        /// The same of the player with this id
        #[arg(long, value_name = "ID")]
        id: Option<u64>,
        /// The player's room, where several have one of that name or id
        #[arg(long, value_name = "ROOM", value_parser = clean_room)]
        room: Option<String>,
        /// How long, 1s to 1year, or: ever
        #[arg(long = "for", value_name = "TIME|ever", default_value = USUAL_BAN, value_parser = ban_time)]
        time: BanTime,
        /// The reason.
        #[command(flatten)]
        reason: Reason,
        /// Also if it bans this machine's own addresses or a proxy (--trust-proxy)
        #[arg(long)]
        force: bool,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Lift a ban
    Unban {
        /// The address or network, as `bans` lists it
        #[arg(value_name = "ADDR[/BITS]")]
        address: Network,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// List the bans
    Bans {
        /// The server.
        #[command(flatten)]
        server: Server,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
}

/// The server that a command is for.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Server {
    /// The control socket of the server, as its own --control says
    #[arg(long, value_name = "PATH", env = "CUBESYNC_CONTROL", default_value = USUAL_PATH)]
    control: PathBuf,
}

/// One player.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Player {
    /// The player's name, or one that looks like it
    #[arg(value_name = "NAME", value_parser = clean_name)]
    #[arg(required_unless_present_any = ["id", "address"])]
    name: Option<String>,
    /// The player's id instead of the name, as `players` lists it
    #[arg(long, value_name = "ID", conflicts_with = "name")]
    id: Option<u64>,
    /// The player's room, where several have one of that name or id
    #[arg(long, value_name = "ROOM", value_parser = clean_room)]
    room: Option<String>,
}

/// What the players are told.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Reason {
    /// What the players are told, at most 200 characters
    #[arg(long = "reason", value_name = "TEXT", value_parser = clean_reason)]
    reason: Option<String>,
}

/// How long a ban lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BanTime {
    /// Until it is lifted.
    Ever,
    /// For so long.
    Time(Duration),
}

fn ban_time(text: &str) -> Result<BanTime, String> {
    match text.trim() {
        "ever" => Ok(BanTime::Ever),
        text => time(SHORTEST_BAN..=LONGEST_BAN)(text)
            .map(BanTime::Time)
            .map_err(|problem| format!("{problem}, or: ever")),
    }
}

impl Command {
    /// Gives the order to the server, and returns what to print.
    ///
    /// # Errors
    /// There is no server, or it refuses, in words.
    pub fn run(self) -> anyhow::Result<String> {
        let is_json = matches!(
            self,
            Self::Players { json: true, .. } | Self::Bans { json: true, .. }
        );
        let (path, order) = self.order();
        match super::ask(&path, &order)? {
            Answer::Done(sentence) => Ok(format!("{sentence}\n")),
            Answer::Failed(problem) => bail!(problem),
            Answer::Players(players) if is_json => Ok(json(&players)),
            Answer::Players(players) => Ok(show_players(&players)),
            Answer::Bans(bans) if is_json => Ok(json(&bans)),
            Answer::Bans(bans) => Ok(show_bans(&bans)),
        }
    }

    /// Returns the server's socket and the order.
    pub fn order(self) -> (PathBuf, Order) {
        match self {
            Self::Players { server, .. } => (server.control, Order::Players {}),
            Self::Kick {
                who,
                address,
                reason,
                server,
            } => {
                let Player { name, id, room } = who;
                let who = who_is_meant(address, name, id);
                let reason = reason.reason;
                (server.control, Order::Kick { who, room, reason })
            }
            Self::Ban {
                address,
                player,
                id,
                room,
                time,
                reason,
                force,
                server,
            } => {
                let order = Order::Ban {
                    who: who_is_meant(address, player, id),
                    room,
                    reason: reason.reason,
                    seconds: match time {
                        BanTime::Ever => None,
                        BanTime::Time(time) => Some(time.as_secs()),
                    },
                    force,
                };
                (server.control, order)
            }
            Self::Unban { address, server } => {
                let network = address;
                (server.control, Order::Unban { network })
            }
            Self::Bans { server, .. } => (server.control, Order::Bans {}),
        }
    }
}

fn who_is_meant(address: Option<Network>, name: Option<String>, id: Option<u64>) -> Who {
    let address = address.map(Who::Address);
    let name = || name.map(Who::Name);
    address
        .or_else(name)
        .or(id.map(Who::Id))
        .expect("the parser asks for one of them")
}

fn json(lines: &impl Serialize) -> String {
    let json = serde_json::to_string_pretty(lines);
    json.expect("it has nothing that JSON cannot say") + "\n"
}

fn show_players(players: &[PlayerLine]) -> String {
    let row = |player: &PlayerLine| {
        let connected = player.connected_s.map(short_time).unwrap_or_default();
        let from = match (&player.place, &player.address) {
            (Place::Here, Some(address)) => address.clone(),
            (Place::Elsewhere { owner: Some(owner) }, _) if !owner.is_empty() => {
                format!("another server (owner: {owner})")
            }
            (Place::Elsewhere { .. }, _) => "another server".to_owned(),
            (Place::Recording, _) => "a recording".to_owned(),
            (Place::Here | Place::Away, _) => "away".to_owned(),
        };
        [
            player.id.to_string(),
            player.room.clone(),
            player.name.clone(),
            from,
            player.transport.clone().unwrap_or_default(),
            connected,
        ]
    };
    let heads = ["ID", "ROOM", "NAME", "FROM", "OVER", "CONNECTED"];
    match players {
        [] => "nobody plays here\n".to_owned(),
        players => table(heads, players.iter().map(row)),
    }
}

fn show_bans(bans: &[BanLine]) -> String {
    let row = |ban: &BanLine| {
        [
            ban.network.to_string(),
            ban.until.clone().unwrap_or("for ever".to_owned()),
            ban.reason.clone().unwrap_or_default(),
        ]
    };
    match bans {
        [] => "nobody is banned\n".to_owned(),
        bans => table(["ADDRESS", "UNTIL", "REASON"], bans.iter().map(row)),
    }
}

/// Returns a time in its two largest units.
fn short_time(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let time = match seconds {
        0..3_600 => seconds,
        3_600.. => seconds / 60 * 60,
        _ => 0,
    };
    format!("{:#}", SignedDuration::from_secs(time))
}

/// Returns lines of columns.
fn table<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = [heads.map(str::to_owned)].into_iter().chain(rows).collect();
    let width = |text: &str| clusters(text).count();
    let widths: [usize; N] =
        std::array::from_fn(|at| rows.iter().map(|row| width(&row[at])).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, wide)| cell.clone() + &" ".repeat(wide - width(cell)));
        let line = cells.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

//! What goes through the control socket: an order, then an answer, each a line of JSON with the version of
//! both.

use cubesync_relay::network::Network;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of orders and answers. The command and the server are the same program, but an operator may
/// have put a newer one in place of the one that runs.
const VERSION: u32 = 1;

/// Longest line of an order: a reason of the longest kind, escaped, and a name.
pub(super) const MAX_ORDER_BYTES: u64 = 16 * 1024;

/// Longest line of an answer: 10,000 players with the longest names, or 10,000 bans with the longest
/// reasons.
pub(super) const MAX_ANSWER_BYTES: u64 = 32 * 1024 * 1024;

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Say who is in the rooms.
    Players {},
    /// Remove players from their rooms.
    Kick {
        /// The players.
        who: Who,
        /// The room in which they are; `None`: any.
        room: Option<String>,
        /// What they are told.
        reason: Option<String>,
    },
    /// Remove the players of an address, and let nobody in from there.
    Ban {
        /// The address, or a player who is connected from there.
        who: Who,
        /// The player's room; `None`: any.
        room: Option<String>,
        /// What the players are told.
        reason: Option<String>,
        /// For how many seconds; `None`: for ever.
        seconds: Option<u64>,
        /// Whether addresses of this machine and of proxies may be among the banned ones.
        force: bool,
    },
    /// Lift a ban.
    Unban {
        /// The addresses of the ban.
        network: Network,
    },
    /// Say which bans there are.
    Bans {},
}

/// A player, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The one of a name that looks like this one.
    Name(String),
    /// The one whose own cube has this id.
    Id(u64),
    /// All who are connected from there.
    Address(Network),
}

/// The server's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done: a sentence for the operator.
    Done(String),
    /// It is not done: why, in a sentence.
    Failed(String),
    /// The players in all rooms.
    Players(Vec<PlayerLine>),
    /// The bans by network.
    Bans(Vec<BanLine>),
}

/// A player, as `players --json` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayerLine {
    /// The room.
    pub room: String,
    /// The id of the player's own cube, of which the room has no second one.
    pub id: u64,
    /// The name.
    pub name: String,
    /// Where the player is connected.
    pub place: Place,
    /// The address from which they are connected to this server; of IPv6 the network.
    pub address: Option<String>,
    /// What carries their messages.
    pub transport: Option<String>,
    /// For how many seconds they have been connected to this server.
    pub connected_s: Option<u64>,
}

/// Where a player is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// To this server.
    Here,
    /// Nowhere: the player plays in a recording.
    Recording,
    /// Nowhere at the moment: the player may come back.
    Away,
    /// To another server. Its operator can remove the player, or that of the room's owner: this server, if
    /// `owner` is `None`.
    Elsewhere {
        /// The owner's pages, or its id; empty while it is being looked for.
        owner: Option<String>,
    },
}

/// A ban, as `bans --json` shows it and as the file of `--bans` keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanLine {
    /// The addresses.
    pub network: Network,
    /// When it ends (RFC 3339); `None`: never.
    pub until: Option<String>,
    /// The operator's reason.
    pub reason: Option<String>,
}

/// A line with its version.
#[derive(Serialize, Deserialize)]
struct Versioned<Content> {
    version: u32,
    #[serde(flatten)]
    content: Content,
}

/// Writes a line with its end.
pub(super) fn write<Content: Serialize>(content: Content) -> Vec<u8> {
    let version = VERSION;
    let versioned = Versioned { version, content };
    let mut line = serde_json::to_vec(&versioned).expect("it has nothing that JSON cannot say");
    line.push(b'\n');
    line
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it, for the operator.
pub(super) fn read<Content: DeserializeOwned>(line: &[u8]) -> Result<Content, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let malformed = |error: serde_json::Error| format!("no line of the control socket: {error}");
    let Version { version } = serde_json::from_slice(line).map_err(malformed)?;
    if version != VERSION {
        return Err(format!(
            "the command and the server are of different versions ({version}, {VERSION}): use the program that \
             runs as the server"
        ));
    }
    let versioned: Versioned<Content> = serde_json::from_slice(line).map_err(malformed)?;
    Ok(versioned.content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_with_a_version() {
        for (order, line) in [
            (Order::Players {}, r#"{"version":1,"players":{}}"#),
            (
                Order::Kick {
                    who: Who::Name("Anna".into()),
                    room: None,
                    reason: Some("no".into()),
                },
                r#"{"version":1,"kick":{"who":{"name":"Anna"},"room":null,"reason":"no"}}"#,
            ),
            (
                Order::Unban {
                    network: "10.0.0.0/8".parse().unwrap(),
                },
                r#"{"version":1,"unban":{"network":"10.0.0.0/8"}}"#,
            ),
        ] {
            assert_eq!(write(&order), format!("{line}\n").as_bytes());
            assert_eq!(read(line.as_bytes()), Ok(order));
        }
    }

    #[test]
    fn another_version_and_other_bytes_are_refused_in_words() {
        for (line, hint) in [
            (r#"{"version":2,"dance":{}}"#, "different versions (2, 1)"),
            (
                r#"{"version":1,"dance":{}}"#,
                "no line of the control socket",
            ),
            (r#"{"version":1}"#, "no line of the control socket"),
            (r#"{"players":{}}"#, "missing field `version`"),
            (r#"{"version":-1}"#, "no line of the control socket"),
            (
                r#"{"version":1,"unban":{"network":"10.0.0.0/33"}}"#,
                "from 0 to 32",
            ),
            ("GET / HTTP/1.1", "no line of the control socket"),
            ("", "no line of the control socket"),
        ] {
            let problem = read::<Order>(line.as_bytes()).unwrap_err();
            assert!(problem.contains(hint), "{line}: {problem}");
        }
        let deep = "[".repeat(10_000);
        assert!(read::<Order>(deep.as_bytes()).is_err());
    }
}

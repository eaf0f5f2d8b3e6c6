//! The configuration: every value has a flag, an environment variable and a default.

#[cfg(feature = "cluster")]
mod cluster;
mod udp;

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use cubesync_protocol::cells::Grid;
use cubesync_protocol::limits::{DEAD_AFTER, HELLO_DEADLINE, MAX_CUBES_PER_ROOM, TICK_HZ_RANGE};

#[cfg(feature = "cluster")]
pub use self::cluster::ClusterOptions;
pub use self::udp::UdpAddress;
use crate::logging::LogFormat;
use cubesync_relay::admission::Count;
use cubesync_relay::host::HostSettings;
use cubesync_relay::key::{Key, RoomKey};
use cubesync_relay::room::quanta;
use cubesync_relay::rooms::RoomsSettings;
use cubesync_relay::session::SessionSettings;

/// Descriptors kept for listeners and files when the connection limit is derived.
const RESERVED_DESCRIPTORS: usize = 64;
const DEFAULT_MAX_CONNECTIONS: usize = 10_000;

/// The groups of flags in `--help`.
const ADDRESSES: &str = "Addresses";
const GAME: &str = "The game";
const ACCESS: &str = "Access";
const ENCRYPTION: &str = "Encryption";
const RECORDINGS: &str = "Recordings";
const OPERATION: &str = "Operation";
#[cfg(feature = "cluster")]
const SEVERAL: &str = "Several servers";
const PLAYER_LIMITS: &str = "Limits for players (largest values)";
const PAGE_LIMITS: &str = "Limits for pages (largest values)";

/// Relays the positions of cubes: clients join over TCP or WebSocket, and everybody sees everybody's cube move.
#[derive(Debug, Clone, Parser)]
#[command(name = "cubesync-server", version, about, max_term_width = 100)]
pub struct Config {
    /// Address on which the server accepts clients (TCP)
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:14900")]
    #[arg(env = "CUBESYNC_LISTEN")]
    #[arg(help_heading = ADDRESSES)]
    pub listen: SocketAddr,

    /// Address on which the server serves pages, the browser's game and metrics (HTTP)
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080")]
    #[arg(env = "CUBESYNC_HTTP")]
    #[arg(help_heading = ADDRESSES)]
    pub http: SocketAddr,

    /// Address of the line protocol for nc and telnet; off unless given. It is never encrypted, and
    /// its players can put their cube anywhere at once: keep it local
    #[arg(long, value_name = "ADDR:PORT", env = "CUBESYNC_TEXT")]
    #[arg(help_heading = ADDRESSES)]
    pub text: Option<SocketAddr>,

    /// Address for the datagrams (UDP) that bring players what is newest sooner; off: everything goes
    /// over their connections [default: the address of --listen]
    #[arg(long, value_name = "ADDR:PORT|off", env = "CUBESYNC_UDP")]
    #[arg(help_heading = ADDRESSES)]
    pub udp: Option<UdpAddress>,

    /// Ticks per second, 1 to 128
    #[arg(long, value_name = "HZ", default_value_t = 30, env = "CUBESYNC_TICK")]
    #[arg(value_parser = clap::value_parser!(u8).range(tick_range()))]
    #[arg(help_heading = GAME)]
    pub tick: u8,

    /// Top speed of a cube in metres per second; 0 is unlimited
    #[arg(
        long,
        value_name = "M/S",
        default_value_t = 40.0,
        env = "CUBESYNC_MAX_SPEED"
    )]
    #[arg(value_parser = speed)]
    #[arg(help_heading = GAME)]
    pub max_speed: f32,

    /// Players see only cubes within this many metres, and cubes beyond half of it at a lower rate;
    /// for rooms of hundreds of players and more [default: everything]
    #[arg(long, value_name = "METRES", env = "CUBESYNC_VIEW_DISTANCE")]
    #[arg(value_parser = view_distance)]
    #[arg(help_heading = GAME)]
    pub view_distance: Option<f32>,

    /// How long the cube of a player whose connection is lost stays as a ghost, to which the player
    /// can come back
    #[arg(long, value_name = "TIME", default_value_t = Duration::from_secs(15).into())]
    #[arg(env = "CUBESYNC_RESUME_WITHIN")]
    #[arg(help_heading = GAME)]
    pub resume_within: humantime::Duration,

    /// Key that clients must show; without it anybody may join
    #[arg(
        long,
        value_name = "KEY",
        env = "CUBESYNC_JOIN_KEY",
        hide_env_values = true
    )]
    #[arg(help_heading = ACCESS)]
    pub join_key: Option<Key>,

    /// A room and the key that counts there instead of the server's; repeat it for more rooms
    #[arg(
        long,
        value_name = "ROOM=KEY",
        env = "CUBESYNC_ROOM_KEY",
        hide_env_values = true,
        value_delimiter = ','
    )]
    #[arg(help_heading = ACCESS)]
    pub room_key: Vec<RoomKey>,

    /// Origin of a page on another site that may connect to /ws, such as `https://game.example`;
    /// repeat it for more
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "CUBESYNC_ALLOW_ORIGIN",
        value_delimiter = ','
    )]
    #[arg(help_heading = ACCESS)]
    pub allow_origin: Vec<String>,

    /// Address of a reverse proxy in front of the pages, such as 127.0.0.1: its visitors are limited
    /// by the address that it notes in X-Forwarded-For; repeat it for more
    #[arg(
        long,
        value_name = "ADDR",
        env = "CUBESYNC_TRUST_PROXY",
        value_delimiter = ','
    )]
    #[arg(help_heading = ACCESS)]
    pub trust_proxy: Vec<IpAddr>,

    /// Certificate (PEM, the whole chain) that encrypts the connections of clients and pages; read
    /// again at SIGHUP
    #[arg(long, value_name = "FILE", env = "CUBESYNC_TLS_CERT")]
    #[arg(help_heading = ENCRYPTION, requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM, without a passphrase)
    #[arg(long, value_name = "FILE", env = "CUBESYNC_TLS_KEY")]
    #[arg(help_heading = ENCRYPTION, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Encrypt with a certificate that the server makes itself, for a network without an authority:
    /// browsers warn of it, other clients need it as --ca. With --tls-cert and --tls-key it is
    /// written to those files and used again at the next start
    #[arg(long, env = "CUBESYNC_TLS_SELF_SIGNED", help_heading = ENCRYPTION)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub tls_self_signed: bool,

    /// Record the room lobby into this file; if it exists, into the next free name, such as
    /// lobby-2.rec
    #[arg(long, value_name = "FILE", env = "CUBESYNC_RECORD")]
    #[arg(help_heading = RECORDINGS)]
    pub record: Option<PathBuf>,

    /// Largest size of the recording's file; beyond it the oldest part is dropped
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64M",
        env = "CUBESYNC_RECORD_MAX"
    )]
    #[arg(value_parser = cubesync_recording::parse_size)]
    #[arg(help_heading = RECORDINGS)]
    pub record_max: u64,

    /// Play a recording in the room lobby, again and again, at the tick rate it was made with
    #[arg(
        long,
        value_name = "FILE",
        env = "CUBESYNC_REPLAY",
        conflicts_with = "tick"
    )]
    #[arg(help_heading = RECORDINGS)]
    pub replay: Option<PathBuf>,

    /// Format of the log on standard error: text for people, json for programs. CUBESYNC_LOG=debug
    /// logs more, CUBESYNC_LOG=warn less
    #[arg(long, value_name = "FORMAT", env = "CUBESYNC_LOG_FORMAT")]
    #[arg(value_enum, default_value_t = LogFormat::Text, hide_possible_values = true)]
    #[arg(help_heading = OPERATION)]
    pub log_format: LogFormat,

    /// Print no QR code of the address to open; without a terminal it is never printed
    #[arg(long, env = "CUBESYNC_NO_QR")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    #[arg(help_heading = OPERATION)]
    pub no_qr: bool,

    /// How long a stopping server tries to deliver its last messages
    #[arg(long, value_name = "TIME", default_value_t = Duration::from_secs(15).into())]
    #[arg(env = "CUBESYNC_DRAIN")]
    #[arg(help_heading = OPERATION)]
    pub drain: humantime::Duration,

    /// The flags of a server that is one of several.
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub cluster: ClusterOptions,

    /// Players' connections [default: 10000, or fewer if the limit on open files is low]
    #[arg(long, value_name = "COUNT", env = "CUBESYNC_MAX_CONNECTIONS")]
    #[arg(help_heading = PLAYER_LIMITS)]
    pub max_connections: Option<usize>,

    /// Players' connections from one address (of IPv6: one /64 network); loopback is exempt
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    #[arg(env = "CUBESYNC_MAX_CONNECTIONS_PER_ADDRESS", help_heading = PLAYER_LIMITS)]
    pub max_connections_per_address: usize,

    /// Connections that have not sent their Hello yet
    #[arg(long, value_name = "COUNT", default_value_t = 2_048)]
    #[arg(env = "CUBESYNC_MAX_PENDING", help_heading = PLAYER_LIMITS)]
    pub max_pending: usize,

    /// Connections from one address that have not sent their Hello yet; loopback is exempt
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    #[arg(env = "CUBESYNC_MAX_PENDING_PER_ADDRESS", help_heading = PLAYER_LIMITS)]
    pub max_pending_per_address: usize,

    /// New connections a second from one address, with bursts of 16 times as many; loopback is exempt
    #[arg(long, value_name = "COUNT", default_value = "4")]
    #[arg(env = "CUBESYNC_MAX_ARRIVALS_PER_ADDRESS", help_heading = PLAYER_LIMITS)]
    pub max_arrivals_per_address: NonZeroU32,

    /// Time within which a new connection must send its Hello
    #[arg(long, value_name = "TIME", default_value_t = HELLO_DEADLINE.into())]
    #[arg(env = "CUBESYNC_HELLO_DEADLINE", help_heading = PLAYER_LIMITS)]
    pub hello_deadline: humantime::Duration,

    /// Messages a second from one client, with bursts of twice as many
    #[arg(long, value_name = "COUNT", default_value = "256")]
    #[arg(env = "CUBESYNC_MAX_MESSAGES", help_heading = PLAYER_LIMITS)]
    pub max_messages: NonZeroU32,

    /// Bytes a second from one client, at least 4096, with bursts of twice as many
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    #[arg(env = "CUBESYNC_MAX_BYTES", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = max_bytes)]
    pub max_bytes: NonZeroU32,

    /// Rooms
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    #[arg(env = "CUBESYNC_MAX_ROOMS", help_heading = PLAYER_LIMITS)]
    pub max_rooms: usize,

    /// Rooms that one address has opened and that still exist; loopback is exempt
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    #[arg(env = "CUBESYNC_MAX_ROOMS_PER_ADDRESS", help_heading = PLAYER_LIMITS)]
    pub max_rooms_per_address: usize,

    /// Cubes in one room, the free one included, 2 to 5000
    #[arg(long, value_name = "COUNT", default_value_t = MAX_CUBES_PER_ROOM)]
    #[arg(env = "CUBESYNC_MAX_CUBES", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = max_cubes)]
    pub max_cubes: usize,

    /// Silence after which a client is considered gone
    #[arg(long, value_name = "TIME", default_value_t = DEAD_AFTER.into())]
    #[arg(env = "CUBESYNC_DEAD_AFTER", help_heading = PLAYER_LIMITS)]
    pub dead_after: humantime::Duration,

    /// Time after which a client that reads nothing is disconnected
    #[arg(long, value_name = "TIME", default_value_t = Duration::from_secs(5).into())]
    #[arg(env = "CUBESYNC_SLOW_READER_AFTER", help_heading = PLAYER_LIMITS)]
    pub slow_reader_after: humantime::Duration,

    /// HTTP connections, WebSockets not counted
    #[arg(long, value_name = "COUNT", default_value_t = 512)]
    #[arg(env = "CUBESYNC_MAX_HTTP_CONNECTIONS", help_heading = PAGE_LIMITS)]
    pub max_http_connections: usize,

    /// HTTP connections from one address; loopback is exempt
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    #[arg(env = "CUBESYNC_MAX_HTTP_CONNECTIONS_PER_ADDRESS", help_heading = PAGE_LIMITS)]
    pub max_http_connections_per_address: usize,

    /// Requests a second from one address, with bursts of 16 times as many; loopback is exempt
    #[arg(long, value_name = "COUNT", default_value = "16")]
    #[arg(env = "CUBESYNC_MAX_REQUESTS_PER_ADDRESS", help_heading = PAGE_LIMITS)]
    pub max_requests_per_address: NonZeroU32,

    /// Time after which an HTTP connection is closed, whatever it carries
    #[arg(long, value_name = "TIME", default_value_t = Duration::from_secs(60).into())]
    #[arg(env = "CUBESYNC_HTTP_LIFETIME", help_heading = PAGE_LIMITS)]
    pub http_lifetime: humantime::Duration,
}

impl Config {
    /// The connection limit: the given one, or what the process may open. Raises the process'
    /// limit on open files as far as the system allows.
    pub fn connection_limit(&self) -> usize {
        let descriptors = rlimit::increase_nofile_limit(u64::MAX).map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        let possible = descriptors
            .saturating_sub(self.reserved_descriptors())
            .max(1);
        self.max_connections
            .unwrap_or_else(|| DEFAULT_MAX_CONNECTIONS.min(possible))
    }

    /// The address for datagrams; `None` when they are off.
    pub(crate) fn udp_address(&self) -> Option<SocketAddr> {
        match self.udp {
            None => Some(self.listen),
            Some(UdpAddress::At(address)) => Some(address),
            Some(UdpAddress::Off) => None,
        }
    }

    /// Descriptors that are kept for all but players' connections.
    pub(crate) fn reserved_descriptors(&self) -> usize {
        RESERVED_DESCRIPTORS.saturating_add(self.max_http_connections)
    }

    /// Checks the values that must not be printed, which the parser's own errors would print.
    ///
    /// # Errors
    /// The flag and its problem, in words.
    pub fn check_secrets(&self) -> Result<(), String> {
        let join_key = self.join_key.iter().map(|key| ("--join-key", key.check()));
        let room_keys = self.room_key.iter().map(|key| ("--room-key", key.check()));
        for (flag, checked) in join_key.chain(room_keys) {
            checked.map_err(|problem| format!("invalid value for {flag}: {problem}"))?;
        }
        #[cfg(feature = "cluster")]
        self.cluster.check_secrets()?;
        Ok(())
    }

    /// The top speed in metres per second; `None` is unlimited.
    pub fn top_speed_mps(&self) -> Option<f32> {
        (self.max_speed > 0.0).then_some(self.max_speed)
    }
}

/// The settings of rooms, sessions and the connection with other servers.
impl Config {
    /// Returns how the host of this server serves.
    pub(crate) fn host_settings(&self) -> HostSettings {
        HostSettings {
            rooms: RoomsSettings {
                tick_hz: self.tick,
                top_speed: self.top_speed_mps().map(quanta),
                grid: self.grid(),
                slow_reader_after: *self.slow_reader_after,
                resume_within: *self.resume_within,
                drain: *self.drain,
                max_cubes: self.max_cubes,
                max_rooms: self.max_rooms,
                max_rooms_per_address: self.max_rooms_per_address,
            },
            sessions: SessionSettings {
                hello_deadline: *self.hello_deadline,
                max_messages_per_second: self.max_messages,
                max_bytes_per_second: self.max_bytes,
                dead_after: *self.dead_after,
                slow_reader_after: *self.slow_reader_after,
            },
            connections: Count {
                open: self.connection_limit(),
                pending: self.max_pending,
            },
            connections_per_address: Count {
                open: self.max_connections_per_address,
                pending: self.max_pending_per_address,
            },
            arrivals_per_address: self.max_arrivals_per_address,
            join_key: self.join_key.clone(),
            room_keys: self.room_key.clone(),
        }
    }

    /// Returns how the floor of each room is divided into cells.
    pub(crate) fn grid(&self) -> Grid {
        self.view_distance_quanta().map_or(Grid::WHOLE, Grid::new)
    }

    /// Returns how far players see, in quanta; `None`: the whole room.
    pub(crate) fn view_distance_quanta(&self) -> Option<u32> {
        self.view_distance.map(quanta)
    }
}

fn tick_range() -> std::ops::RangeInclusive<i64> {
    (*TICK_HZ_RANGE.start()).into()..=(*TICK_HZ_RANGE.end()).into()
}

fn speed(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(speed) if speed == 0.0 || (0.01..=1e6).contains(&speed) => Ok(speed),
        _ => Err("expected metres per second from 0.01 to 1000000, or 0 for unlimited".into()),
    }
}

fn view_distance(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(distance) if (1.0..=1e6).contains(&distance) => Ok(distance),
        _ => Err("expected metres from 1 to 1000000".into()),
    }
}

/// A whole number within bounds.
fn within<Number>(text: &str, range: impl RangeBounds<Number> + Debug) -> Result<Number, String>
where
    Number: FromStr + PartialOrd,
{
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("expected a whole number within {range:?}")),
    }
}

fn max_bytes(text: &str) -> Result<NonZeroU32, String> {
    let least = NonZeroU32::new(4_096).expect("it is not zero");
    within(text, least..)
}

fn max_cubes(text: &str) -> Result<usize, String> {
    within(text, 2..=MAX_CUBES_PER_ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = Config::parse_from(["cubesync-server"]);
        assert_eq!(config.listen.to_string(), "0.0.0.0:14900");
        assert_eq!(config.http.to_string(), "0.0.0.0:8080");
        assert_eq!((config.text, config.tick), (None, 30));
        assert_eq!(config.udp_address(), Some(config.listen));
        assert_eq!(*config.hello_deadline, Duration::from_secs(2));
        assert_eq!(*config.dead_after, Duration::from_secs(15));
        assert!((1..=10_000).contains(&config.connection_limit()));
    }

    #[test]
    fn datagrams_have_an_address_of_their_own_or_none() {
        let udp = |flags: &[&str]| {
            let config = Config::parse_from(["cubesync-server"].iter().chain(flags));
            config.udp_address().map(|address| address.to_string())
        };
        let local = ["--listen", "127.0.0.1:7"];
        assert_eq!(udp(&local).as_deref(), Some("127.0.0.1:7"));
        assert_eq!(udp(&["--udp", "[::]:9"]).as_deref(), Some("[::]:9"));
        assert_eq!(udp(&["--udp", "off"]), None);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for arguments in [
            ["--tick", "0"],
            ["--tick", "129"],
            ["--max-speed", "-1"],
            ["--max-speed", "NaN"],
            ["--view-distance", "0"],
            ["--view-distance", "far"],
            ["--listen", "14900"],
            ["--udp", "on"],
            ["--drain", "soon"],
            ["--max-messages", "0"],
            ["--tls-cert", "without-a-key.pem"],
            ["--tls-key", "without-a-certificate.pem"],
            ["--max-bytes", "100"],
            ["--max-cubes", "1"],
        ] {
            let result = Config::try_parse_from(["cubesync-server"].into_iter().chain(arguments));
            assert!(result.is_err(), "{arguments:?}");
        }
    }
}

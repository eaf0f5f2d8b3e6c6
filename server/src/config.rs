//! What can be set: every value has a flag, an environment variable and a default.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use cubesync_protocol::limits::{
    DEAD_AFTER, HELLO_DEADLINE, MAX_CLIENT_PAYLOAD_BYTES, MAX_CUBES_PER_ROOM, TICK_HZ_RANGE,
};

use crate::bus::{BusAddress, cluster_name};
use crate::cluster::host_and_port;
use crate::key::{Key, RoomKey};
use crate::logging::LogFormat;

/// Descriptors kept for listeners and files when the connection limit is derived.
const RESERVED_DESCRIPTORS: usize = 64;
const DEFAULT_MAX_CONNECTIONS: usize = 10_000;

/// The longest `Hello` must fit.
const MIN_FRAME_BYTES: usize = 512;

/// The HTTP library works with no less.
const MIN_HTTP_HEAD_BYTES: usize = 8 * 1024;

/// Where `--help` lists them.
const LIMITS: &str = "Limits";
const ENCRYPTION: &str = "Encryption";
const SEVERAL: &str = "Several servers";

/// Relays where cubes are: clients join over TCP, everybody sees everybody's cube, live.
#[derive(Debug, Clone, Parser)]
#[command(name = "cubesync-server", version, about, max_term_width = 100)]
pub struct Config {
    /// Address for clients (TCP)
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:14900")]
    #[arg(env = "CUBESYNC_LISTEN")]
    pub listen: SocketAddr,

    /// Address for pages and metrics (HTTP)
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080")]
    #[arg(env = "CUBESYNC_HTTP")]
    pub http: SocketAddr,

    /// Address for the line protocol that nc and telnet speak; off unless given. Whoever reaches it
    /// can move a cube anywhere at once, and it is never encrypted, so keep it local
    #[arg(long, value_name = "ADDR:PORT", env = "CUBESYNC_TEXT")]
    pub text: Option<SocketAddr>,

    /// Ticks per second, 1 to 128
    #[arg(long, value_name = "HZ", default_value_t = 30, env = "CUBESYNC_TICK")]
    #[arg(value_parser = clap::value_parser!(u8).range(tick_range()))]
    pub tick: u8,

    /// Top speed of a cube in metres per second; 0 is unlimited
    #[arg(
        long,
        value_name = "M/S",
        default_value_t = 40.0,
        env = "CUBESYNC_MAX_SPEED"
    )]
    #[arg(value_parser = speed)]
    pub max_speed: f32,

    /// Players are told only of cubes within this many metres, and more rarely beyond half of it;
    /// for rooms of hundreds and more [default: everything]
    #[arg(long, value_name = "METRES", env = "CUBESYNC_VIEW_DISTANCE")]
    #[arg(value_parser = view_distance)]
    pub view_distance: Option<f32>,

    /// Key that clients must show; anybody may join unless it is given
    #[arg(
        long,
        value_name = "KEY",
        env = "CUBESYNC_JOIN_KEY",
        hide_env_values = true
    )]
    pub join_key: Option<Key>,

    /// A room and its own key, which stands in for the server's there; repeat it for more
    #[arg(
        long,
        value_name = "ROOM=KEY",
        env = "CUBESYNC_ROOM_KEY",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub room_key: Vec<RoomKey>,

    /// Certificate (PEM, the whole chain) with which the connections of clients and pages are
    /// encrypted; read again at SIGHUP
    #[arg(long, value_name = "FILE", env = "CUBESYNC_TLS_CERT")]
    #[arg(help_heading = ENCRYPTION, requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM, without a passphrase)
    #[arg(long, value_name = "FILE", env = "CUBESYNC_TLS_KEY")]
    #[arg(help_heading = ENCRYPTION, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Encrypt with a certificate of the server's own, for a network where nobody gives one out:
    /// browsers warn of it, other clients need it as --ca. With --tls-cert and --tls-key it is
    /// written there and used again at the next start
    #[arg(long, env = "CUBESYNC_TLS_SELF_SIGNED", help_heading = ENCRYPTION)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub tls_self_signed: bool,

    /// Origin of a page that may connect to /ws from elsewhere, such as `https://game.example`;
    /// repeat it for more
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "CUBESYNC_ALLOW_ORIGIN",
        value_delimiter = ','
    )]
    pub allow_origin: Vec<String>,

    /// Address of a reverse proxy in front of the pages, such as 127.0.0.1: who comes through it is
    /// limited by the address that it notes in X-Forwarded-For; repeat it for more
    #[arg(
        long,
        value_name = "ADDR",
        env = "CUBESYNC_TRUST_PROXY",
        value_delimiter = ','
    )]
    pub trust_proxy: Vec<IpAddr>,

    /// A player whose connection is lost can come back to their cube for this long; meanwhile it
    /// stands there as a ghost
    #[arg(long, value_name = "TIME", default_value_t = Duration::from_secs(15).into())]
    #[arg(env = "CUBESYNC_RESUME_WITHIN")]
    pub resume_within: humantime::Duration,

    /// Record what happens in the room lobby into this file
    #[arg(long, value_name = "FILE", env = "CUBESYNC_RECORD")]
    pub record: Option<PathBuf>,

    /// Length of the recording's file at most; over it the oldest part is dropped
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64M",
        env = "CUBESYNC_RECORD_MAX"
    )]
    #[arg(value_parser = cubesync_recording::parse_size)]
    pub record_max: u64,

    /// Play a recording in the room lobby, again and again, at the tick rate it was made with
    #[arg(
        long,
        value_name = "FILE",
        env = "CUBESYNC_REPLAY",
        conflicts_with = "tick"
    )]
    pub replay: Option<PathBuf>,

    /// How the log looks, on standard error: text for people, json for programs. CUBESYNC_LOG=debug
    /// says more, CUBESYNC_LOG=warn less
    #[arg(long, value_name = "FORMAT", env = "CUBESYNC_LOG_FORMAT")]
    #[arg(value_enum, default_value_t = LogFormat::Text, hide_possible_values = true)]
    pub log_format: LogFormat,

    /// Print no QR code of the address to open; without a terminal there is none anyway
    #[arg(long, env = "CUBESYNC_NO_QR")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub no_qr: bool,

    /// Time to deliver the last words when the server stops
    #[arg(long, value_name = "TIME", default_value_t = Duration::from_secs(15).into())]
    #[arg(env = "CUBESYNC_DRAIN")]
    pub drain: humantime::Duration,

    /// NATS on which this server meets others that show the same rooms, such as nats://10.0.0.7:4222;
    /// tls:// to have it encrypted, user:password@ or token@ before the host to log in; commas between
    /// the members of a NATS cluster. Whoever can speak there is trusted: keep it private
    #[arg(
        long,
        value_name = "URL",
        env = "CUBESYNC_BUS",
        hide_env_values = true,
        value_delimiter = ','
    )]
    #[arg(help_heading = SEVERAL)]
    pub bus: Vec<BusAddress>,

    /// Which servers belong together, where several worlds share one NATS
    #[arg(long, value_name = "NAME", default_value = "cubesync")]
    #[arg(env = "CUBESYNC_CLUSTER_NAME", help_heading = SEVERAL, value_parser = cluster_name)]
    pub cluster_name: String,

    /// With what to log in to NATS: a file of credentials (.creds), or one with the seed of an NKey
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_CREDENTIALS")]
    #[arg(help_heading = SEVERAL, requires = "bus")]
    pub bus_credentials: Option<PathBuf>,

    /// Certificate of the authority that NATS's own must be of (PEM) [default: what the system trusts]
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_CA")]
    #[arg(help_heading = SEVERAL, requires = "bus")]
    pub bus_ca: Option<PathBuf>,

    /// This server's own certificate for NATS (PEM), where that asks for one
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_CERT")]
    #[arg(help_heading = SEVERAL, requires = "bus", requires = "bus_key")]
    pub bus_cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_KEY")]
    #[arg(help_heading = SEVERAL, requires = "bus", requires = "bus_cert")]
    pub bus_key: Option<PathBuf>,

    /// Where players reach this server over TCP: what others tell theirs, for when those must go
    /// elsewhere [default: the address it listens at]
    #[arg(long, value_name = "HOST:PORT", env = "CUBESYNC_PUBLIC_ADDRESS")]
    #[arg(help_heading = SEVERAL, value_parser = host_and_port)]
    pub public_address: Option<String>,

    /// Where browsers reach it [default: the address it listens at]
    #[arg(long, value_name = "HOST:PORT", env = "CUBESYNC_PUBLIC_HTTP")]
    #[arg(help_heading = SEVERAL, value_parser = host_and_port)]
    pub public_http: Option<String>,

    /// Connections of players at most [default: 10000, or what the limit on open files leaves]
    #[arg(long, value_name = "COUNT", env = "CUBESYNC_MAX_CONNECTIONS")]
    #[arg(help_heading = LIMITS)]
    pub max_connections: Option<usize>,

    /// The same from one address (of IPv6: one /64 network); this machine's own are exempt
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    #[arg(env = "CUBESYNC_MAX_CONNECTIONS_PER_ADDRESS", help_heading = LIMITS)]
    pub max_connections_per_address: usize,

    /// Connections at most that have not introduced themselves yet
    #[arg(long, value_name = "COUNT", default_value_t = 2_048)]
    #[arg(env = "CUBESYNC_MAX_PENDING", help_heading = LIMITS)]
    pub max_pending: usize,

    /// The same from one address; this machine's own are exempt
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    #[arg(env = "CUBESYNC_MAX_PENDING_PER_ADDRESS", help_heading = LIMITS)]
    pub max_pending_per_address: usize,

    /// Connections a second at most from one address, 16 seconds' worth at once; this machine's own
    /// are exempt
    #[arg(long, value_name = "COUNT", default_value = "4")]
    #[arg(env = "CUBESYNC_MAX_ARRIVALS_PER_ADDRESS", help_heading = LIMITS)]
    pub max_arrivals_per_address: NonZeroU32,

    /// A connection must have introduced itself within this time
    #[arg(long, value_name = "TIME", default_value_t = HELLO_DEADLINE.into())]
    #[arg(env = "CUBESYNC_HELLO_DEADLINE", help_heading = LIMITS)]
    pub hello_deadline: humantime::Duration,

    /// Bytes of a client's frame at most, 512 to 4096
    #[arg(long, value_name = "BYTES", default_value_t = MAX_CLIENT_PAYLOAD_BYTES)]
    #[arg(env = "CUBESYNC_MAX_FRAME", help_heading = LIMITS)]
    #[arg(value_parser = max_frame)]
    pub max_frame: usize,

    /// A frame that was begun must end within this time
    #[arg(long, value_name = "TIME", default_value_t = Duration::from_secs(2).into())]
    #[arg(env = "CUBESYNC_FRAME_DEADLINE", help_heading = LIMITS)]
    pub frame_deadline: humantime::Duration,

    /// Messages a second at most from one client; twice as many may come at once
    #[arg(long, value_name = "COUNT", default_value = "256")]
    #[arg(env = "CUBESYNC_MAX_MESSAGES", help_heading = LIMITS)]
    pub max_messages: NonZeroU32,

    /// Bytes a second at most from one client, 4096 and more; twice as many may come at once
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    #[arg(env = "CUBESYNC_MAX_BYTES", help_heading = LIMITS)]
    #[arg(value_parser = max_bytes)]
    pub max_bytes: NonZeroU32,

    /// Rooms at most
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    #[arg(env = "CUBESYNC_MAX_ROOMS", help_heading = LIMITS)]
    pub max_rooms: usize,

    /// Rooms at most that one address has opened and that still exist; this machine's own are exempt
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    #[arg(env = "CUBESYNC_MAX_ROOMS_PER_ADDRESS", help_heading = LIMITS)]
    pub max_rooms_per_address: usize,

    /// Cubes in one room at most, the free one included, 2 to 5000
    #[arg(long, value_name = "COUNT", default_value_t = MAX_CUBES_PER_ROOM)]
    #[arg(env = "CUBESYNC_MAX_CUBES", help_heading = LIMITS)]
    #[arg(value_parser = max_cubes)]
    pub max_cubes: usize,

    /// A client that was silent for this long is gone
    #[arg(long, value_name = "TIME", default_value_t = DEAD_AFTER.into())]
    #[arg(env = "CUBESYNC_DEAD_AFTER", help_heading = LIMITS)]
    pub dead_after: humantime::Duration,

    /// A client that has not read anything for this long is cut
    #[arg(long, value_name = "TIME", default_value_t = Duration::from_secs(5).into())]
    #[arg(env = "CUBESYNC_SLOW_READER_AFTER", help_heading = LIMITS)]
    pub slow_reader_after: humantime::Duration,

    /// Bytes of a WebSocket's message at most, its fragments together
    #[arg(long, value_name = "BYTES", default_value_t = 4 * MAX_CLIENT_PAYLOAD_BYTES)]
    #[arg(env = "CUBESYNC_MAX_WS_MESSAGE", help_heading = LIMITS)]
    pub max_ws_message: usize,

    /// HTTP connections at most, WebSockets not counted
    #[arg(long, value_name = "COUNT", default_value_t = 512)]
    #[arg(env = "CUBESYNC_MAX_HTTP_CONNECTIONS", help_heading = LIMITS)]
    pub max_http_connections: usize,

    /// The same from one address; this machine's own are exempt
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    #[arg(env = "CUBESYNC_MAX_HTTP_CONNECTIONS_PER_ADDRESS", help_heading = LIMITS)]
    pub max_http_connections_per_address: usize,

    /// Requests a second at most from one address, 16 seconds' worth at once; this machine's own are
    /// exempt
    #[arg(long, value_name = "COUNT", default_value = "16")]
    #[arg(env = "CUBESYNC_MAX_REQUESTS_PER_ADDRESS", help_heading = LIMITS)]
    pub max_requests_per_address: NonZeroU32,

    /// Headers of a request at most
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    #[arg(env = "CUBESYNC_MAX_HTTP_HEADERS", help_heading = LIMITS)]
    pub max_http_headers: usize,

    /// Bytes of a request's head at most, 8192 and more
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024)]
    #[arg(env = "CUBESYNC_MAX_HTTP_HEAD", help_heading = LIMITS)]
    #[arg(value_parser = max_http_head)]
    pub max_http_head: usize,

    /// A request's head must be complete within this time, and the next one begun
    #[arg(long, value_name = "TIME", default_value_t = Duration::from_secs(5).into())]
    #[arg(env = "CUBESYNC_HTTP_HEAD_DEADLINE", help_heading = LIMITS)]
    pub http_head_deadline: humantime::Duration,

    /// An HTTP connection is cut after this time, whatever it carries
    #[arg(long, value_name = "TIME", default_value_t = Duration::from_secs(60).into())]
    #[arg(env = "CUBESYNC_HTTP_LIFETIME", help_heading = LIMITS)]
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

    /// Descriptors that are kept for all but players' connections.
    pub(crate) fn reserved_descriptors(&self) -> usize {
        RESERVED_DESCRIPTORS.saturating_add(self.max_http_connections)
    }

    /// What is wrong with a value that must not be printed: the parser would.
    ///
    /// # Errors
    /// The flag, and what is wrong.
    pub fn check_secrets(&self) -> Result<(), String> {
        let join_key = self.join_key.iter().map(|key| ("--join-key", key.check()));
        let room_keys = self.room_key.iter().map(|key| ("--room-key", key.check()));
        let bus = self.bus.iter().map(|address| ("--bus", address.check()));
        for (flag, checked) in join_key.chain(room_keys).chain(bus) {
            checked.map_err(|problem| format!("invalid value for {flag}: {problem}"))?;
        }
        Ok(())
    }

    /// The top speed in metres per second; `None` is unlimited.
    pub fn top_speed_mps(&self) -> Option<f32> {
        (self.max_speed > 0.0).then_some(self.max_speed)
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

fn max_frame(text: &str) -> Result<usize, String> {
    within(text, MIN_FRAME_BYTES..=MAX_CLIENT_PAYLOAD_BYTES)
}

fn max_bytes(text: &str) -> Result<NonZeroU32, String> {
    let least = NonZeroU32::new(4_096).expect("it is not zero");
    within(text, least..)
}

fn max_cubes(text: &str) -> Result<usize, String> {
    within(text, 2..=MAX_CUBES_PER_ROOM)
}

fn max_http_head(text: &str) -> Result<usize, String> {
    within(text, MIN_HTTP_HEAD_BYTES..)
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
        assert_eq!(*config.hello_deadline, Duration::from_secs(2));
        assert_eq!(*config.dead_after, Duration::from_secs(15));
        assert!((1..=10_000).contains(&config.connection_limit()));
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
            ["--drain", "soon"],
            ["--max-messages", "0"],
            ["--tls-cert", "without-a-key.pem"],
            ["--tls-key", "without-a-certificate.pem"],
            ["--max-bytes", "100"],
            ["--max-frame", "5000"],
            ["--max-cubes", "1"],
            ["--max-http-head", "100"],
        ] {
            let result = Config::try_parse_from(["cubesync-server"].into_iter().chain(arguments));
            assert!(result.is_err(), "{arguments:?}");
        }
    }
}

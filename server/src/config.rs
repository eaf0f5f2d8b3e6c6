//! The configuration: every value has a flag, an environment variable and a default.

#[cfg(feature = "cluster")]
mod cluster;
mod origin;
mod pages_path;
mod udp;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use clap::builder::{PathBufValueParser, TypedValueParser};
use cubesync_arguments::{
    LONGEST_TIME, MAX_COUNT, SecretFile, decimal, listen_address, time, whole,
};
use cubesync_protocol::cells::Grid;
use cubesync_protocol::folded;
use cubesync_protocol::limits::{MAX_CUBES_PER_ROOM, MAX_LOOSE_CUBES, TICK_HZ_RANGE};
use cubesync_recording::DEFAULT_MAX_BYTES;

#[cfg(feature = "cluster")]
pub use self::cluster::ClusterOptions;
pub use self::origin::Origin;
pub use self::pages_path::PagesPath;
pub use self::udp::UdpAddress;
use crate::logging::LogFormat;
use cubesync_relay::admission::Count;
use cubesync_relay::budget::WorkLimits;
use cubesync_relay::host::HostSettings;
use cubesync_relay::key::{Key, RoomKey};
use cubesync_relay::mechanics::Field;
pub use cubesync_relay::network::Network;
use cubesync_relay::room::quanta;
use cubesync_relay::rooms::RoomsSettings;
use cubesync_relay::session::SessionSettings;

/// Descriptors kept for listeners and files when the connection limit is derived.
const RESERVED_DESCRIPTORS: usize = 64;
const DEFAULT_MAX_CONNECTIONS: usize = 10_000;

/// Loose cubes of a room: a wall, a pyramid and three big ones.
const DEFAULT_CUBES: usize = if cfg!(feature = "mechanics") { 60 } else { 0 };

/// Shortest time for a Hello. A shorter one would pass before anybody's came.
const SHORTEST_DEADLINE: Duration = Duration::from_millis(10);

/// Shortest time after which a silent connection can end. Any network is silent for less.
const SHORTEST_SILENCE: Duration = Duration::from_millis(100);

/// Largest rate of a limit.
const MAX_RATE: NonZeroU32 = NonZeroU32::new(MAX_COUNT).expect("it is not zero");

/// Messages that a player sends in a tick: one by datagram and one over the connection.
const MESSAGES_PER_TICK: u32 = 2;

/// Smallest rate of messages of an address that is derived.
const MIN_MESSAGES_PER_ADDRESS: NonZeroU32 = NonZeroU32::new(4_096).expect("it is not zero");

/// Smallest rate of bytes with which a client can play.
const MIN_BYTE_RATE: NonZeroU32 = NonZeroU32::new(4_096).expect("it is not zero");

/// The groups of flags in `--help`.
const ADDRESSES: &str = "Addresses";
const GAME: &str = "The game";
const ACCESS: &str = "Access";
const ENCRYPTION: &str = "Encryption";
const RECORDINGS: &str = "Recordings";
const OPERATION: &str = "Operation";
#[cfg(feature = "cluster")]
const SEVERAL: &str = "Several servers";
const PLAYER_LIMITS: &str = "Limits for players (largest values; a COUNT is 1 to 1000000000)";
const PAGE_LIMITS: &str = "Limits for pages (largest values; a COUNT is 1 to 1000000000)";

/// Relays the positions of cubes: clients join over TCP or WebSocket, and everybody sees everybody's cube move.
#[derive(Debug, Clone, Parser)]
#[command(name = "cubesync-server", version, about, max_term_width = 100)]
pub struct Config {
    /// Address on which the server accepts clients (TCP). ADDR is an address or a name of this machine,
    /// such as localhost; without it (14900, :14900) the port is open at all addresses of IPv4, with
    /// `[::]` at all of IPv6 too. Port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:14900")]
    #[arg(env = "CUBESYNC_LISTEN")]
    #[arg(help_heading = ADDRESSES)]
    #[arg(value_parser = listen_address)]
    pub listen: SocketAddr,

    /// Address on which the server serves pages, the browser's game and metrics (HTTP)
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080")]
    #[arg(env = "CUBESYNC_HTTP")]
    #[arg(help_heading = ADDRESSES)]
    #[arg(value_parser = listen_address)]
    pub http: SocketAddr,

    /// Address of the line protocol for nc and telnet; off unless given. It is never encrypted, and
    /// its players can put their cube anywhere at once: keep it local. Players who type no line for
    /// 10 minutes are told, and end
    #[arg(long, value_name = "ADDR:PORT", env = "CUBESYNC_TEXT")]
    #[arg(help_heading = ADDRESSES)]
    #[arg(value_parser = listen_address)]
    pub text: Option<SocketAddr>,

    /// Address for the datagrams (UDP) that bring players what is newest sooner; off: everything goes
    /// over their connections [default: the address of --listen]
    #[arg(long, value_name = "ADDR:PORT|off", env = "CUBESYNC_UDP")]
    #[arg(help_heading = ADDRESSES)]
    pub udp: Option<UdpAddress>,

    /// Ticks per second, 1 to 128
    #[arg(long, value_name = "HZ", default_value_t = 30, env = "CUBESYNC_TICK")]
    #[arg(value_parser = whole(TICK_HZ_RANGE))]
    #[arg(help_heading = GAME)]
    pub tick: u8,

    /// Top speed of a cube in metres per second, 0.01 to 1000000; 0 is unlimited
    #[arg(
        long,
        value_name = "M/S",
        default_value_t = 40.0,
        env = "CUBESYNC_MAX_SPEED"
    )]
    #[arg(value_parser = speed)]
    #[arg(help_heading = GAME)]
    pub max_speed: f32,

    /// Players see only cubes within this many metres, 1 to 1000000, and cubes beyond half of it at a lower rate;
    /// for rooms of hundreds of players and more [default: everything]
    #[arg(long, value_name = "METRES", env = "CUBESYNC_VIEW_DISTANCE")]
    #[arg(value_parser = decimal(1.0..=1e6, "metres"))]
    #[arg(help_heading = GAME)]
    pub view_distance: Option<f32>,

    /// Loose cubes in each room, 0 to 2000: they fall and roll, players push them about, carry and throw them. 0: one
    /// free cube that stays where it is put
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_CUBES, env = "CUBESYNC_CUBES")]
    #[arg(value_parser = whole(0..=MAX_LOOSE_CUBES))]
    #[arg(help_heading = GAME)]
    pub cubes: usize,

    /// File that keeps where the loose cubes of the room lobby are, every 30 seconds and when the server stops; without
    /// it they begin anew with the server
    #[arg(
        long,
        value_name = "FILE",
        env = "CUBESYNC_WORLD",
        conflicts_with = "replay"
    )]
    #[arg(help_heading = GAME)]
    pub world: Option<PathBuf>,

    /// How long the cube of a player whose connection is lost stays as a ghost, to which the player
    /// can come back, at most 1 day; 0s: it goes at once
    #[arg(long, value_name = "TIME", default_value = "15s")]
    #[arg(value_parser = time(Duration::ZERO..=LONGEST_TIME))]
    #[arg(env = "CUBESYNC_RESUME_WITHIN")]
    #[arg(help_heading = GAME)]
    pub resume_within: Duration,

    /// Key that clients must show; without it anybody may join. 1 to 128 bytes in one line that people
    /// can type. Every user of the machine can read it here, so prefer the file or the variable
    #[arg(
        long,
        value_name = "KEY",
        env = "CUBESYNC_JOIN_KEY",
        hide_env_values = true
    )]
    #[arg(help_heading = ACCESS)]
    pub join_key: Option<Key>,

    /// File with that key
    #[arg(long, value_name = "FILE", env = "CUBESYNC_JOIN_KEY_FILE")]
    #[arg(help_heading = ACCESS, value_parser = secret_file(), conflicts_with = "join_key")]
    pub join_key_file: Option<SecretFile>,

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

    /// File with rooms and their keys, a ROOM=KEY on each line
    #[arg(long, value_name = "FILE", env = "CUBESYNC_ROOM_KEY_FILE")]
    #[arg(help_heading = ACCESS, value_parser = secret_file(), conflicts_with = "room_key")]
    pub room_key_file: Option<SecretFile>,

    /// Origin of a page on another site that may connect to /ws, such as `https://game.example`;
    /// repeat it for more
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "CUBESYNC_ALLOW_ORIGIN",
        value_delimiter = ','
    )]
    #[arg(help_heading = ACCESS)]
    pub allow_origin: Vec<Origin>,

    /// Address or network of a reverse proxy in front of the pages, such as 127.0.0.1 or 10.0.0.0/8: its
    /// visitors are limited by the address that it notes in X-Forwarded-For; repeat it for more
    #[arg(
        long,
        value_name = "ADDR[/BITS]",
        env = "CUBESYNC_TRUST_PROXY",
        value_delimiter = ','
    )]
    #[arg(help_heading = ACCESS)]
    pub trust_proxy: Vec<Network>,

    /// Path under which a reverse proxy has the pages, such as /game, if it passes that path on. The
    /// pages are at / too
    #[arg(long, value_name = "PATH", env = "CUBESYNC_HTTP_PATH")]
    #[arg(help_heading = ACCESS)]
    pub http_path: Option<PagesPath>,

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

    /// Largest size of the recording's file, 1M or more; beyond it the oldest part is dropped [default: 64M]
    #[arg(long, value_name = "SIZE", env = "CUBESYNC_RECORD_MAX")]
    #[arg(value_parser = cubesync_recording::parse_size)]
    #[arg(help_heading = RECORDINGS)]
    pub record_max: Option<u64>,

    /// Play a recording in the room lobby, again and again, at the tick rate it was made with
    #[arg(
        long,
        value_name = "FILE",
        env = "CUBESYNC_REPLAY",
        conflicts_with = "tick"
    )]
    #[arg(help_heading = RECORDINGS)]
    pub replay: Option<PathBuf>,

    /// Unix socket for the commands players, kick, ban, unban and bans, which only the server's user and root can use;
    /// off unless given
    #[arg(long, value_name = "PATH", env = "CUBESYNC_CONTROL")]
    #[arg(help_heading = OPERATION)]
    pub control: Option<PathBuf>,

    /// File that keeps the bans; without it they end with the server
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BANS")]
    #[arg(help_heading = OPERATION)]
    pub bans: Option<PathBuf>,

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

    /// How long a stopping server tries to deliver its last messages, at most 1 day
    #[arg(long, value_name = "TIME", default_value = "15s")]
    #[arg(value_parser = time(Duration::ZERO..=LONGEST_TIME))]
    #[arg(env = "CUBESYNC_DRAIN")]
    #[arg(help_heading = OPERATION)]
    pub drain: Duration,

    /// The flags of a server that is one of several.
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub cluster: ClusterOptions,

    /// Players' connections [default: 10000, or fewer if the limit on open files is low]
    #[arg(long, value_name = "COUNT", env = "CUBESYNC_MAX_CONNECTIONS")]
    #[arg(help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = count)]
    pub max_connections: Option<usize>,

    /// Players' connections from one address (of IPv6: one /64 network); loopback is exempt
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    #[arg(env = "CUBESYNC_MAX_CONNECTIONS_PER_ADDRESS", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = count)]
    pub max_connections_per_address: usize,

    /// Connections that have not sent their Hello yet
    #[arg(long, value_name = "COUNT", default_value_t = 2_048)]
    #[arg(env = "CUBESYNC_MAX_PENDING", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = count)]
    pub max_pending: usize,

    /// Connections from one address that have not sent their Hello yet; loopback is exempt
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    #[arg(env = "CUBESYNC_MAX_PENDING_PER_ADDRESS", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = count)]
    pub max_pending_per_address: usize,

    /// New connections a second from one address, with bursts of 16 times as many; loopback is exempt
    #[arg(long, value_name = "COUNT", default_value = "4")]
    #[arg(env = "CUBESYNC_MAX_ARRIVALS_PER_ADDRESS", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = rate)]
    pub max_arrivals_per_address: NonZeroU32,

    /// Time within which a new connection must send its Hello, 10ms to 1 day
    #[arg(long, value_name = "TIME", default_value = "2s")]
    #[arg(value_parser = time(SHORTEST_DEADLINE..=LONGEST_TIME))]
    #[arg(env = "CUBESYNC_HELLO_DEADLINE", help_heading = PLAYER_LIMITS)]
    pub hello_deadline: Duration,

    /// Messages a second from one client, with bursts of twice as many
    #[arg(long, value_name = "COUNT", default_value = "256")]
    #[arg(env = "CUBESYNC_MAX_MESSAGES", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = rate)]
    pub max_messages: NonZeroU32,

    /// Bytes a second from one client, at least 4096, with bursts of twice as many
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    #[arg(env = "CUBESYNC_MAX_BYTES", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = byte_rate)]
    pub max_bytes: NonZeroU32,

    /// Messages a second from all clients of one address together, with bursts of twice as many; beyond
    /// it they are read later, and datagrams are dropped; loopback is exempt [default: two a tick for
    /// each of --max-connections-per-address, at least 4096]
    #[arg(long, value_name = "COUNT")]
    #[arg(env = "CUBESYNC_MAX_MESSAGES_PER_ADDRESS", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = rate)]
    pub max_messages_per_address: Option<NonZeroU32>,

    /// Bytes a second from all clients of one address together, at least 4096, with bursts of twice as
    /// many; beyond it they are read later; loopback is exempt
    #[arg(long, value_name = "BYTES", default_value = "524288")]
    #[arg(env = "CUBESYNC_MAX_BYTES_PER_ADDRESS", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = byte_rate)]
    pub max_bytes_per_address: NonZeroU32,

    /// Rooms; those that nobody is in make place for others
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    #[arg(env = "CUBESYNC_MAX_ROOMS", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = count)]
    pub max_rooms: usize,

    /// Rooms that one address has opened and that still exist, fewer while the last quarter of
    /// `--max-rooms` is in use; loopback is exempt
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    #[arg(env = "CUBESYNC_MAX_ROOMS_PER_ADDRESS", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = count)]
    pub max_rooms_per_address: usize,

    /// Cubes in one room, 2 to 5000; all free ones count as one
    #[arg(long, value_name = "COUNT", default_value_t = MAX_CUBES_PER_ROOM)]
    #[arg(env = "CUBESYNC_MAX_CUBES", help_heading = PLAYER_LIMITS)]
    #[arg(value_parser = whole(2..=MAX_CUBES_PER_ROOM))]
    pub max_cubes: usize,

    /// Silence after which a client is considered gone, 100ms to 1 day
    #[arg(long, value_name = "TIME", default_value = "15s")]
    #[arg(value_parser = time(SHORTEST_SILENCE..=LONGEST_TIME))]
    #[arg(env = "CUBESYNC_DEAD_AFTER", help_heading = PLAYER_LIMITS)]
    pub dead_after: Duration,

    /// Time after which a client that reads less than 2 kB/s of what waits is disconnected, 100ms to 1 day
    #[arg(long, value_name = "TIME", default_value = "5s")]
    #[arg(value_parser = time(SHORTEST_SILENCE..=LONGEST_TIME))]
    #[arg(env = "CUBESYNC_SLOW_READER_AFTER", help_heading = PLAYER_LIMITS)]
    pub slow_reader_after: Duration,

    /// HTTP connections, WebSockets not counted
    #[arg(long, value_name = "COUNT", default_value_t = 512)]
    #[arg(env = "CUBESYNC_MAX_HTTP_CONNECTIONS", help_heading = PAGE_LIMITS)]
    #[arg(value_parser = count)]
    pub max_http_connections: usize,

    /// HTTP connections from one address; loopback is exempt
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    #[arg(env = "CUBESYNC_MAX_HTTP_CONNECTIONS_PER_ADDRESS", help_heading = PAGE_LIMITS)]
    #[arg(value_parser = count)]
    pub max_http_connections_per_address: usize,

    /// Requests a second from one address, with bursts of 16 times as many; loopback is exempt
    #[arg(long, value_name = "COUNT", default_value = "16")]
    #[arg(env = "CUBESYNC_MAX_REQUESTS_PER_ADDRESS", help_heading = PAGE_LIMITS)]
    #[arg(value_parser = rate)]
    pub max_requests_per_address: NonZeroU32,

    /// Time after which an HTTP connection is closed, whatever it carries, 100ms to 1 day
    #[arg(long, value_name = "TIME", default_value = "1m")]
    #[arg(value_parser = time(SHORTEST_SILENCE..=LONGEST_TIME))]
    #[arg(env = "CUBESYNC_HTTP_LIFETIME", help_heading = PAGE_LIMITS)]
    pub http_lifetime: Duration,
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

    /// Returns how many messages a second all clients of one address may send: the given number, or what as many
    /// as it may have send at the tick rate.
    pub(crate) fn messages_per_address(&self) -> NonZeroU32 {
        let players = u32::try_from(self.max_connections_per_address).unwrap_or(u32::MAX);
        let messages = players.saturating_mul(MESSAGES_PER_TICK * u32::from(self.tick));
        let derived = NonZeroU32::new(messages).unwrap_or(MIN_MESSAGES_PER_ADDRESS);
        self.max_messages_per_address
            .unwrap_or_else(|| derived.clamp(MIN_MESSAGES_PER_ADDRESS, MAX_RATE))
    }

    /// Returns the key of all rooms, from its flag or its file.
    pub fn join_key(&self) -> Option<Key> {
        let in_file = self.join_key_file.as_ref().map(|file| file.text().into());
        self.join_key.clone().or(in_file)
    }

    /// Returns the keys of single rooms, from their flags or their file.
    pub fn room_keys(&self) -> Vec<RoomKey> {
        let in_file = self.room_key_file.iter().flat_map(SecretFile::lines);
        let in_flags = self.room_key.iter().cloned();
        in_flags.chain(in_file.map(RoomKey::from)).collect()
    }

    /// Returns whether some room asks for a key.
    pub fn has_key(&self) -> bool {
        self.join_key().is_some() || !self.room_keys().is_empty()
    }

    /// Returns whether connections are encrypted.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls_cert.is_some() || self.tls_self_signed
    }

    /// Returns the files that only the server should be able to read.
    pub(crate) fn secret_files(&self) -> Vec<&Path> {
        let keys = [&self.join_key_file, &self.room_key_file]
            .into_iter()
            .flatten();
        let mut files: Vec<_> = keys.map(SecretFile::path).collect();
        files.extend(self.tls_key.as_deref());
        #[cfg(feature = "cluster")]
        files.extend(self.cluster.secret_files());
        files
    }

    /// Returns the largest size of a recording in bytes.
    pub(crate) fn record_max_bytes(&self) -> u64 {
        self.record_max.unwrap_or(DEFAULT_MAX_BYTES)
    }

    /// Checks that no two listeners have the same port.
    ///
    /// # Errors
    /// The flags and their address, in words.
    pub fn check_ports(&self) -> Result<(), String> {
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        let text = self.text.map(|text| ("--text", text));
        let listeners = [("--listen", self.listen), ("--http", self.http)];
        for (flag, address) in listeners.into_iter().chain(text) {
            if let Some((other, _)) = taken.iter().find(|(_, other)| overlap(*other, address)) {
                return Err(format!(
                    "{other} and {flag} are both at port {}: give each a port of its own",
                    address.port()
                ));
            }
            taken.push((flag, address));
        }
        Ok(())
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
        if let Some(key) = self.join_key() {
            let flag = flag_or_file("--join-key", self.join_key_file.as_ref());
            key.check()
                .map_err(|problem| format!("invalid value for {flag}: {problem}"))?;
        }
        let flag = flag_or_file("--room-key", self.room_key_file.as_ref());
        let mut rooms = BTreeSet::new();
        for key in self.room_keys() {
            key.check()
                .map_err(|problem| format!("invalid value for {flag}: {problem}"))?;
            if !rooms.insert(folded(&key.room)) {
                let room = key.room;
                return Err(format!(
                    "invalid value for {flag}: the room {room} has two keys"
                ));
            }
        }
        #[cfg(feature = "cluster")]
        self.cluster.check_secrets()?;
        Ok(())
    }

    /// Checks that this program can do with loose cubes what is asked: it may have been built without the feature.
    ///
    /// # Errors
    /// A sentence for a person.
    pub fn check_loose_cubes(&self) -> Result<(), String> {
        self.check_loose_cubes_with(cfg!(feature = "mechanics"))
    }

    fn check_loose_cubes_with(&self, has_mechanics: bool) -> Result<(), String> {
        match (self.cubes, &self.world) {
            (1.., _) if !has_mechanics => Err(format!(
                "invalid value {} for --cubes: this program was built without the feature \"mechanics\", so it can only be 0",
                self.cubes
            )),
            (0, Some(_)) if has_mechanics => Err(
                "--world keeps where loose cubes are, and with --cubes 0 there are none: give it a number, or leave --world out"
                    .to_owned(),
            ),
            (0, Some(_)) => Err(
                "--world keeps where loose cubes are: this program was built without the feature \"mechanics\", and has none"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// Returns the loose cubes of rooms.
    #[cfg(feature = "mechanics")]
    pub(crate) fn field(&self) -> Option<Field> {
        (self.cubes > 0).then(|| Field {
            cubes: cubesync_mechanics::arrangement(self.cubes).into(),
            create: Some(cubesync_mechanics::create),
            kept: None,
        })
    }

    #[cfg(not(feature = "mechanics"))]
    pub(crate) fn field(&self) -> Option<Field> {
        None
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
                slow_reader_after: self.slow_reader_after,
                resume_within: self.resume_within,
                drain: self.drain,
                max_cubes: self.max_cubes,
                field: self.field(),
                default_field: self.field(),
                max_rooms: self.max_rooms,
                max_rooms_per_address: self.max_rooms_per_address,
            },
            sessions: SessionSettings {
                hello_deadline: self.hello_deadline,
                max_messages_per_second: self.max_messages,
                max_bytes_per_second: self.max_bytes,
                dead_after: self.dead_after,
                other_ports: None,
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
            work_per_address: WorkLimits {
                messages: self.messages_per_address(),
                bytes: self.max_bytes_per_address,
            },
            join_key: self.join_key(),
            room_keys: self.room_keys(),
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

/// Returns whether one listener excludes the other.
pub(crate) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    // At all addresses of IPv6, a listener accepts IPv4 as well.
    let has = |a: SocketAddr, b: SocketAddr| {
        a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4()) || a.ip() == b.ip()
    };
    a.port() == b.port() && a.port() != 0 && (has(a, b) || has(b, a))
}

/// Returns how an error names a secret that a flag, its variable or a file may have given.
fn flag_or_file(flag: &str, file: Option<&SecretFile>) -> String {
    match file {
        Some(file) => format!("{flag}-file ({})", file.path().display()),
        None => {
            let variable = flag.trim_start_matches('-').replace('-', "_");
            format!("{flag} or CUBESYNC_{}", variable.to_ascii_uppercase())
        }
    }
}

/// Returns a parser that reads the file of a secret.
fn secret_file() -> impl TypedValueParser<Value = SecretFile> {
    PathBufValueParser::new().try_map(SecretFile::read)
}

fn speed(text: &str) -> Result<f32, String> {
    match text.trim().parse::<f32>() {
        Ok(speed) if speed == 0.0 || (0.01..=1e6).contains(&speed) => Ok(speed),
        _ => Err("expected metres per second from 0.01 to 1000000, or 0 for unlimited".into()),
    }
}

fn count(text: &str) -> Result<usize, String> {
    whole(1..=MAX_COUNT as usize)(text)
}

fn rate(text: &str) -> Result<NonZeroU32, String> {
    whole(NonZeroU32::MIN..=MAX_RATE)(text)
}

fn byte_rate(text: &str) -> Result<NonZeroU32, String> {
    whole(MIN_BYTE_RATE..=MAX_RATE)(text)
}

#[cfg(test)]
mod tests {
    use cubesync_protocol::limits::{DEAD_AFTER, HELLO_DEADLINE};

    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = Config::parse_from(["cubesync-server"]);
        assert_eq!(config.listen.to_string(), "0.0.0.0:14900");
        assert_eq!(config.http.to_string(), "0.0.0.0:8080");
        assert_eq!((config.text, config.tick), (None, 30));
        assert_eq!(config.udp_address(), Some(config.listen));
        assert_eq!(config.hello_deadline, HELLO_DEADLINE);
        assert_eq!(config.dead_after, DEAD_AFTER);
        assert!((1..=10_000).contains(&config.connection_limit()));
    }

    #[test]
    fn the_messages_of_an_address_suffice_for_all_players_that_it_may_have() {
        for (flags, expected) in [
            (&[][..], 4_096),
            (&["--tick", "60"], 2 * 64 * 60),
            (&["--max-connections-per-address", "1000"], 60_000),
            (&["--max-connections-per-address", "1000000000"], MAX_COUNT),
            (&["--tick", "60", "--max-messages-per-address", "7"], 7),
        ] {
            let config = Config::parse_from(["cubesync-server"].iter().chain(flags));
            assert_eq!(config.messages_per_address().get(), expected, "{flags:?}");
        }
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
    fn listeners_at_the_same_port_are_refused() {
        let check = |listen: &str, http: &str| {
            let flags = ["cubesync-server", "--listen", listen, "--http", http];
            Config::parse_from(flags).check_ports()
        };
        for (listen, http) in [
            ("8080", "8080"),
            ("8080", "127.0.0.1:8080"),
            ("127.0.0.1:8080", "[::]:8080"),
            ("[::1]:8080", "[::1]:8080"),
        ] {
            let problem = check(listen, http).unwrap_err();
            assert!(problem.starts_with("--listen and --http"), "{problem}");
        }
        for (listen, http) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("8080", "[::1]:8080"),
            ("8080", "8081"),
        ] {
            assert_eq!(check(listen, http), Ok(()), "{listen} {http}");
        }
    }

    #[test]
    fn loose_cubes_need_the_feature_that_moves_them() {
        let check = |flags: &[&str], has_mechanics| {
            let config = Config::parse_from([&["cubesync-server"], flags].concat());
            config.check_loose_cubes_with(has_mechanics)
        };
        let kept = ["--cubes", "0", "--world", "field.world"];
        assert_eq!(check(&["--cubes", "1"], true), Ok(()));
        assert_eq!(check(&["--cubes", "0"], false), Ok(()));
        for (flags, has_mechanics, hint) in [
            (
                &["--cubes", "1"][..],
                false,
                "the feature \"mechanics\", so it can only be 0",
            ),
            (&kept, false, "the feature \"mechanics\", and has none"),
            (&kept, true, "with --cubes 0 there are none"),
        ] {
            let problem = check(flags, has_mechanics).unwrap_err();
            assert!(problem.contains(hint), "{problem}");
        }
    }

    #[test]
    fn secrets_come_from_flags_or_files_and_not_from_both() {
        let folder = std::env::temp_dir().join(format!("cubesync-config-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            folder.join(name).to_str().unwrap().to_owned()
        };
        let parse = |flags: &[&str]| Config::try_parse_from([&["cubesync-server"], flags].concat());
        let key = file("key", "\u{FEFF}open sesame\r\n");
        let config = parse(&["--join-key-file", &key]).unwrap();
        assert_eq!(config.check_secrets(), Ok(()));
        assert_eq!(config.join_key().as_deref(), Some("open sesame"));
        assert!(parse(&["--join-key-file", &key, "--join-key", "a"]).is_err());
        assert!(parse(&["--join-key-file", "/nowhere/key"]).is_err());

        let rooms = file("rooms", "den=a,b\r\n\r\n cellar =c=d\n");
        let config = parse(&["--room-key-file", &rooms]).unwrap();
        let keys: Vec<_> = config
            .room_keys()
            .into_iter()
            .map(|key| (key.room, key.key))
            .collect();
        assert_eq!(
            keys,
            [
                ("den".into(), "a,b".into()),
                ("cellar".into(), "c=d".into())
            ]
        );
        assert_eq!(config.check_secrets(), Ok(()));
        assert!(parse(&["--room-key-file", &rooms, "--room-key", "a=b"]).is_err());

        for (flag, text, hint) in [
            ("--join-key-file", "sesame \n", "begin or end with a blank"),
            ("--join-key-file", "\"sesame\"\n", "without the quotes"),
            ("--join-key-file", "sesame\nsesame\n", "one line"),
            ("--room-key-file", "den=sesame\nden=other\n", "two keys"),
            ("--room-key-file", "sesame\n", "ROOM=KEY"),
        ] {
            let path = file("wrong", text);
            let problem = parse(&[flag, &path]).unwrap().check_secrets().unwrap_err();
            assert!(
                problem.contains(hint) && problem.contains(&path),
                "{problem}"
            );
            assert!(!problem.contains("sesame"), "{problem}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
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
            ["--listen", "0.0.0.0"],
            ["--udp", "on"],
            ["--drain", "soon"],
            ["--max-messages", "0"],
            ["--tls-cert", "without-a-key.pem"],
            ["--tls-key", "without-a-certificate.pem"],
            ["--max-bytes", "100"],
            ["--max-bytes-per-address", "100"],
            ["--max-messages-per-address", "0"],
            ["--max-cubes", "1"],
        ] {
            let result = Config::try_parse_from(["cubesync-server"].into_iter().chain(arguments));
            assert!(result.is_err(), "{arguments:?}");
        }
    }
}

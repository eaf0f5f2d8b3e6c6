//! The command line, and the player's name when it gives none.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Parser;
use cubesync_client::ClientOptions;
use cubesync_client::protocol::help::FOR_PLAYERS;
use cubesync_client::protocol::{Colour, clean_name, clean_room};
use cubesync_recording::parse_size;

use super::place::{Desk, WindowFlags, WindowPlace};
use crate::flags::{DatagramFlags, KeyFlags, LabFlags, TlsFlags};
use crate::theme::PALETTE;

/// The default server in the join screen.
const DEFAULT_SERVER: &str = "localhost:14900";
/// The default port of servers.
pub(super) const DEFAULT_PORT: u16 = 14_900;

/// Join a cubesync server and show its cubes in a window.
#[derive(Debug, Parser)]
#[command(name = "cubesync-client", version)]
#[command(after_help = format!("When something does not work: {FOR_PLAYERS}"))]
pub(crate) struct Options {
    /// Join this server at once, without the join screen; with tls:// in front the connection is
    /// encrypted
    #[arg(long, value_name = "HOST:PORT", env = "CUBESYNC_SERVER", value_parser = parse_server)]
    server: Option<String>,
    /// Your name, shown above your cube [default: your user name]
    #[arg(long, env = "CUBESYNC_NAME", value_parser = parse_name)]
    name: Option<String>,
    /// The room to join; it is created if it does not exist
    #[arg(long, env = "CUBESYNC_ROOM", default_value = "lobby", value_parser = parse_room)]
    room: String,
    /// The colour of your cube, for example '#e08020' [default: a random one]
    #[arg(long, value_name = "#RRGGBB", env = "CUBESYNC_COLOUR")]
    colour: Option<Colour>,
    #[command(flatten)]
    key: KeyFlags,
    /// Samples per pixel, 1 to 16: more make smoother edges, 1 is fastest [default: 4, or 1 without a
    /// graphics card]
    #[arg(long, value_name = "COUNT", env = "CUBESYNC_SAMPLES", value_parser = clap::value_parser!(i32).range(1..=16))]
    samples: Option<i32>,
    /// Record everything that is sent and received into this file, for a bug report; if it exists,
    /// into the next free name, such as game-2.rec
    #[arg(long, value_name = "FILE", env = "CUBESYNC_RECORD")]
    record: Option<PathBuf>,
    /// Largest size of the recording, 1M or more; beyond it the oldest part is dropped
    #[arg(
        long,
        value_name = "SIZE",
        env = "CUBESYNC_RECORD_MAX",
        default_value = "64M"
    )]
    #[arg(value_parser = parse_size)]
    record_max: u64,
    /// Play a recording of a client or of a server instead of joining
    #[arg(
        long,
        value_name = "FILE",
        env = "CUBESYNC_REPLAY",
        conflicts_with = "record"
    )]
    replay: Option<PathBuf>,
    #[command(flatten)]
    datagrams: DatagramFlags,
    #[command(flatten)]
    window: WindowFlags,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    lab: LabFlags,
}

impl Options {
    /// Whether to join at once.
    pub(crate) fn skips_the_join_screen(&self) -> bool {
        self.server.is_some()
    }

    /// Returns the file to record into, and its largest size.
    pub(crate) fn record(&self) -> Option<(&Path, u64)> {
        Some((self.record.as_deref()?, self.record_max))
    }

    /// Returns the recording to play.
    pub(crate) fn replay(&self) -> Option<&Path> {
        self.replay.as_deref()
    }

    /// Returns the window's title, which cannot change later.
    pub(crate) fn window_title(&self) -> String {
        match (&self.replay, &self.name) {
            (Some(path), _) => format!("cubesync — {}", path.display()),
            (None, Some(name)) => format!("cubesync — {name}"),
            (None, None) => "cubesync".to_owned(),
        }
    }

    /// Returns where the window goes on a desk.
    ///
    /// # Errors
    /// In words: it would be outside the screen.
    pub(crate) fn window(&self, desk: Option<&Desk>) -> Result<WindowPlace, String> {
        self.window.place(desk)
    }

    /// Returns the samples per pixel.
    pub(crate) fn sample_count(&self) -> i32 {
        // Drawing in software is twice as fast without multisampling (measured with llvmpipe).
        let in_software = cfg!(target_os = "linux") && !Path::new("/dev/dri").exists();
        let usual = if in_software { 1 } else { 4 };
        self.samples.unwrap_or(usual)
    }

    /// Returns where to connect and as which player, with defaults for missing flags.
    pub(crate) fn client_options(self) -> ClientOptions {
        let any = fastrand::choice(PALETTE).unwrap_or(PALETTE[0]);
        let server = self.server.unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let mut options = ClientOptions {
            room: self.room,
            colour: self.colour.unwrap_or(any),
            ..ClientOptions::new(server, self.name.unwrap_or_else(default_name))
        };
        self.key
            .apply(&mut options)
            .unwrap_or_else(|error| error.exit());
        self.tls.warn(&options.server);
        self.tls.apply(&mut options);
        self.lab.apply(&mut options, 0);
        self.datagrams.apply(&mut options);
        options
    }
}

/// Returns an address as a person writes it, with the usual port if it has none.
pub(crate) fn with_port(server: &str) -> String {
    let server = server.trim();
    if let Some(server) = server.strip_prefix(ClientOptions::TLS) {
        return ClientOptions::TLS.to_owned() + &with_port(server);
    }
    if let Ok(address) = server.parse::<IpAddr>() {
        return SocketAddr::new(address, DEFAULT_PORT).to_string();
    }
    // In an IPv6 address colons before the bracket are no port's.
    let after_bracket = server.rsplit(']').next().unwrap_or(server);
    match after_bracket.contains(':') {
        true => server.to_owned(),
        false => format!("{server}:{DEFAULT_PORT}"),
    }
}

fn parse_server(text: &str) -> Result<String, String> {
    match text.trim() {
        "" | ClientOptions::TLS => {
            Err("it is empty; write it as host:port, for example localhost:14900".to_owned())
        }
        server => Ok(with_port(server)),
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    clean_name(text).map_err(|error| error.to_string())
}

fn parse_room(text: &str) -> Result<String, String> {
    clean_room(text).map_err(|error| error.to_string())
}

/// Returns the user's name with a capital letter, or a name with a number.
fn default_name() -> String {
    let user = ["USER", "USERNAME"]
        .into_iter()
        .find_map(|variable| std::env::var(variable).ok());
    user.as_deref()
        .and_then(friendly_name)
        .unwrap_or_else(|| format!("Player {}", fastrand::u8(10..100)))
}

/// Returns Anna for "anna.schmidt", and nothing for a system account.
fn friendly_name(user: &str) -> Option<String> {
    let name = clean_name(user).ok()?;
    let first = name.split(['.', '_', '-', ' ']).next()?;
    if matches!(first, "" | "root" | "nobody") {
        return None;
    }
    let mut characters = first.chars();
    let capital = characters.next()?.to_uppercase();
    Some(capital.chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn hostile_values_are_refused_or_work() {
        use cubesync_arguments::testing::{accepted, without_range};
        for (given, options) in accepted::<Options>() {
            if let Err(error) = options.key.apply(&mut ClientOptions::new("host:1", "Anna")) {
                assert_eq!(error.exit_code(), 2, "{given}");
                continue;
            }
            options.client_options();
        }
        assert_eq!(without_range(&Options::command()), [""; 0]);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn names_that_nobody_may_have_are_usage_errors() {
        let parse = |name| Options::try_parse_from(["client", "--name", name]);
        assert!(parse("Вася").is_ok());
        let error = parse("  ").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains("needs at least one visible character")
        );
    }

    #[test]
    fn the_port_may_be_left_out() {
        for (written, expected) in [
            (" example.org ", "example.org:14900"),
            ("example.org:1", "example.org:1"),
            ("10.0.0.1", "10.0.0.1:14900"),
            ("::1", "[::1]:14900"),
            ("[::1]", "[::1]:14900"),
            ("[::1]:5", "[::1]:5"),
            ("tls://example.org", "tls://example.org:14900"),
            ("tls://[::1]:5", "tls://[::1]:5"),
        ] {
            assert_eq!(with_port(written), expected);
        }
    }

    #[test]
    fn a_user_becomes_a_first_name_and_root_becomes_nobody() {
        assert_eq!(friendly_name("anna.schmidt").as_deref(), Some("Anna"));
        assert_eq!(friendly_name("вася").as_deref(), Some("Вася"));
        for nobody in ["root", "", "_www"] {
            assert_eq!(friendly_name(nobody), None, "{nobody}");
        }
    }
}

//! The command line, and the player's name when it gives none.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use cubesync_client::protocol::help::FOR_PLAYERS;
use cubesync_client::protocol::{Colour, clean_name, clean_room};
use cubesync_client::{ClientOptions, Target};
use cubesync_recording::{DEFAULT_MAX_BYTES, parse_size};

use super::place::{Desk, WindowFlags, WindowPlace};
use crate::flags::{DatagramFlags, KeyFlags, LabFlags, TlsFlags};
use crate::theme::PALETTE;

/// The default server in the join screen.
const DEFAULT_SERVER: &str = "localhost:14900";

/// Join a cubesync server and show its cubes in a window.
#[derive(Debug, Parser)]
#[command(name = "cubesync-client", version)]
#[command(after_help = format!("When something does not work: {FOR_PLAYERS}"))]
pub(crate) struct Options {
    /// Join this server at once, without the join screen; with tls:// in front the connection is
    /// encrypted. An invite link will do as well
    #[arg(long, value_name = "HOST:PORT", env = "CUBESYNC_SERVER", value_parser = Target::read)]
    server: Option<Target>,
    /// Your name, shown above your cube [default: your user name]
    #[arg(long, env = "CUBESYNC_NAME", value_parser = parse_name)]
    name: Option<String>,
    /// The room to join; it is created if it does not exist [default: lobby]
    #[arg(long, env = "CUBESYNC_ROOM", value_parser = parse_room)]
    room: Option<String>,
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
    /// Largest size of the recording, 1M or more; beyond it the oldest part is dropped [default: 64M]
    #[arg(long, value_name = "SIZE", env = "CUBESYNC_RECORD_MAX", value_parser = parse_size)]
    record_max: Option<u64>,
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
        let max_bytes = self.record_max.unwrap_or(DEFAULT_MAX_BYTES);
        Some((self.record.as_deref()?, max_bytes))
    }

    /// Returns the recording to play.
    pub(crate) fn replay(&self) -> Option<&Path> {
        self.replay.as_deref()
    }

    /// Warns on standard error of flags that have no effect beside the others.
    pub(crate) fn warn(&self) {
        if self.record.is_none() && self.record_max.is_some() {
            eprintln!("warning: --record-max has no effect without --record");
        }
        if self.replay.is_some() && self.server.is_some() {
            eprintln!("warning: --server has no effect beside --replay, which joins no server");
        }
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
    ///
    /// # Errors
    /// Two flags contradict each other, or the key cannot be read.
    pub(crate) fn client_options(self) -> Result<ClientOptions, clap::Error> {
        let any = fastrand::choice(PALETTE).unwrap_or(PALETTE[0]);
        let server = || Target::server(DEFAULT_SERVER.to_owned());
        let link = self.server.unwrap_or_else(server);
        let room = link.room(self.room).map_err(|problem| {
            Self::command().error(ErrorKind::ArgumentConflict, format!("{problem}\n"))
        })?;
        let name = self.name.or(link.name).unwrap_or_else(default_name);
        let mut options = ClientOptions {
            colour: self.colour.unwrap_or(any),
            ..ClientOptions::new(link.server, name)
        };
        if let Some(room) = room {
            options.room = room;
        }
        self.key.apply(&mut options)?;
        self.tls.warn(&options.server);
        self.tls.apply(&mut options);
        self.lab.apply(&mut options, 0);
        self.datagrams.apply(&mut options);
        Ok(options)
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
    use super::*;

    #[test]
    fn hostile_values_are_refused_or_work() {
        use cubesync_arguments::testing::{accepted, without_range};
        for (given, options) in accepted::<Options>() {
            if let Err(error) = options.client_options() {
                assert_eq!(error.exit_code(), 2, "{given}");
            }
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
    fn an_invite_link_names_the_server_and_the_room() {
        let options = |arguments: &[&str]| {
            let arguments = [&["client"], arguments].concat();
            Options::try_parse_from(arguments).and_then(Options::client_options)
        };
        let link = "http://10.0.0.5:8080/?room=Den&name=Anna";
        let invited = options(&["--server", link]).unwrap();
        assert_eq!(invited.server, "10.0.0.5:14900");
        assert_eq!((&*invited.room, &*invited.name), ("Den", "Anna"));
        let own_name = options(&["--server", link, "--name", "Bea", "--room", "den"]).unwrap();
        assert_eq!((&*own_name.room, &*own_name.name), ("den", "Bea"));
        let plain = options(&["--server", "tls://h"]).unwrap();
        assert_eq!((&*plain.server, &*plain.room), ("tls://h:14900", "lobby"));
        for wrong in [
            &["--server", link, "--room", "attic"][..],
            &["--server", "http://h/?room=%E2%A0%80"],
            &["--server", "http://h:9000/"],
            &["--server", ""],
        ] {
            let error = options(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
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

//! The native window.

use std::fs::File;
use std::io::{BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cubesync_arguments::{parse, warn_of_unknown_variables};
use cubesync_client::Trust;
use cubesync_client::protocol::ResumeToken;
use cubesync_client::protocol::help::FOR_THE_WINDOW;
pub(crate) use cubesync_client::protocol::{clean_name, clean_room};
use cubesync_client::recorder::Recorder;
use cubesync_client::{Client, ClientOptions, Target};
use cubesync_network::Network;
pub(crate) use cubesync_recording::Recording;
use macroquad::math::Rect;
use macroquad::miniquad::window;

pub(crate) use super::display::{copy, paste, with_accents};
use super::icon::icon;
use super::options::Options;
use super::place::{Goal, WindowPlace};
use super::{Invite, Start, display, opening};

/// Whether a person chooses the server.
pub(crate) const CHOOSES_SERVER: bool = true;
/// The hint in the server's empty field.
pub(crate) const SERVER_HINT: &str = "host:port, or tls://host:port to encrypt";
/// Whether the program can end itself.
pub(crate) const CAN_QUIT: bool = true;

/// Shortest frame that vsync can have paced. There is no vsync on a virtual display and with some
/// drivers, and the loop would take a whole core.
const UNPACED: Duration = Duration::from_micros(1_000_000 / 160);
/// Length to which frames without vsync are slowed down.
const PACE: Duration = Duration::from_micros(1_000_000 / 120);
/// The port on which servers have their pages by default.
const PAGES_PORT: u16 = 8080;
/// The port of servers by default.
const DEFAULT_PORT: u16 = 14_900;

/// The running recording. It is static because Ctrl-C and errors must finish it.
static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);
/// The origin of the program's time.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Where the window is to go once it is open, and its title.
static GOAL: OnceLock<(Option<Goal>, String)> = OnceLock::new();
static IS_FULLSCREEN: AtomicBool = AtomicBool::new(false);

/// Reads the command line, and begins to record if it asks for that.
pub(crate) fn start() -> Start {
    let options: Options = parse();
    warn_of_unknown_variables();
    options.warn();
    let desk = display::desk().unwrap_or_else(|reason| fail(&reason));
    let place = options.window(desk.as_ref());
    let WindowPlace {
        width,
        height,
        goal,
    } = place.unwrap_or_else(|reason| fail(&reason));
    let title = options.window_title();
    let _ = GOAL.set((goal, title.clone()));
    let to_record = options.record();
    let to_record = to_record.map(|(path, max_bytes)| (path.to_owned(), max_bytes));
    opening::begin(fail);
    let start = Start {
        recording: options.replay().map(open),
        joins_at_once: options.skips_the_join_screen(),
        title,
        size: (width as i32, height as i32),
        icon: Some(icon()),
        sample_count: options.sample_count(),
        trouble: None,
        options: options
            .client_options()
            .unwrap_or_else(|error| error.exit()),
    };
    // A wrong flag has ended the program by now, and leaves no recording of nothing.
    if let Some((path, max_bytes)) = to_record {
        record(&path, max_bytes);
    }
    start
}

/// Moves the window, which is open now, to where a flag says.
pub(crate) fn opened() {
    opening::succeeded();
    if let Some((goal, title)) = GOAL.get() {
        display::arrange(*goal, title);
    }
}

/// A guard that finishes the recording when it is dropped.
pub(crate) struct AtEnd;

impl Drop for AtEnd {
    fn drop(&mut self) {
        finish();
    }
}

/// Creates a client. What it sends and receives goes into the recording, if there is one.
pub(crate) fn client(options: ClientOptions) -> Client {
    let mut client = Client::new(options, seed());
    if let Some(recorder) = &*recorder() {
        client.record(recorder.tap());
    }
    client
}

/// Returns the time since the program's start.
pub(crate) fn now() -> Duration {
    BEGAN.elapsed()
}

/// Returns a random number that differs from start to start.
pub(crate) fn seed() -> u64 {
    fastrand::u64(..)
}

/// Sleeps after a frame of this length if it was too short for vsync.
pub(crate) fn pace(elapsed: Duration) {
    if let Some(pause) = pause_after(elapsed) {
        thread::sleep(pause);
    }
}

/// Prints a line, for a person or a program that watches standard output.
pub(crate) fn tell(line: &str) {
    // Unlike `println!`, this does not end the game when the reader is gone.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints an error in one line and ends the program.
pub(crate) fn fail(reason: &str) -> ! {
    eprintln!("error: {reason}\nmore help: {FOR_THE_WINDOW}");
    finish();
    process::exit(1);
}

/// Whether nobody can see what is drawn. A native window does not know.
pub(crate) fn is_hidden() -> bool {
    false
}

/// Whether people are likely to use fingers, before the first touch.
pub(crate) fn prefers_touch() -> bool {
    false
}

/// Does nothing: only a browser tab stores who plays where.
pub(crate) fn joined(_options: &ClientOptions, _name: &str) {}

/// Does nothing: only a browser tab stores how to come back.
pub(crate) fn can_resume(_token: Option<ResumeToken>) {}

/// Does nothing: only a browser tab stores that the game is over.
pub(crate) fn left(_by_choice: bool) {}

/// Whether a connection is encrypted but the server's identity is not verified.
pub(crate) fn is_unverified(options: &ClientOptions) -> bool {
    options.server.starts_with(ClientOptions::TLS) && options.trust == Trust::Anybody
}

/// Returns the address for other people, if the server has the default port: only then is the port
/// of its pages known as well. A server on this machine is reached at the address that it names as
/// the likeliest itself.
pub(crate) fn invite(options: &ClientOptions) -> Option<Invite> {
    invite_from(options, Network::now)
}

fn invite_from(options: &ClientOptions, network: impl Fn() -> Network) -> Option<Invite> {
    let (scheme, address) = match options.server.strip_prefix(ClientOptions::TLS) {
        Some(address) => ("https", address),
        None => ("http", options.server.as_str()),
    };
    let (host, port) = address.rsplit_once(':')?;
    if port.parse() != Ok(DEFAULT_PORT) {
        return None;
    }
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let everywhere = Ipv4Addr::UNSPECIFIED.into();
    let outside = is_local.then(|| network().likeliest(everywhere)).flatten();
    let host = outside.map_or(host.to_owned(), |address| address.to_string());
    let mut link = format!("{scheme}://{host}:{PAGES_PORT}/");
    if options.room != "lobby" {
        link.push_str("?room=");
        link.push_str(&percent_encoded(&options.room));
    }
    Some(Invite {
        link,
        is_local: is_local && outside.is_none(),
    })
}

/// Whether the window can fill the screen.
pub(crate) fn can_fullscreen() -> bool {
    true
}

/// Enters or leaves full screen.
pub(crate) fn toggle_fullscreen() {
    let was_fullscreen = IS_FULLSCREEN.fetch_xor(true, Ordering::Relaxed);
    window::set_fullscreen(!was_fullscreen);
}

/// Returns a field's text if something other than key events changed it. Here nothing does.
pub(crate) fn typed(_index: usize, _area: Rect, _text: &str) -> Option<String> {
    None
}

/// Converts a wheel event into notches. Some systems report a notch as 1, others as 120.
pub(crate) fn notches(wheel: f32) -> f32 {
    wheel.clamp(-1.0, 1.0)
}

/// Reads a server as a person gives it: its address, or an invite link.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn target(text: &str) -> Result<Target, String> {
    Target::read(text)
}

/// Begins to record. Ctrl-C in the terminal finishes the recording before it ends the program.
fn record(path: &Path, max_bytes: u64) {
    let say = |reason| eprintln!("warning: {reason}");
    match Recorder::create(path, max_bytes, say) {
        Ok(made) => {
            tell(&format!("recording into {}", made.path().display()));
            *recorder() = Some(made);
        }
        Err(error) => fail(&format!("cannot record into {}: {error}", path.display())),
    }
    let stopped = ctrlc::set_handler(|| {
        finish();
        process::exit(130);
    });
    if let Err(error) = stopped {
        fail(&format!("cannot listen for Ctrl-C: {error}"));
    }
}

/// Finishes the recording, and waits until it is written.
fn finish() {
    let made = recorder().take();
    drop(made);
}

fn recorder() -> MutexGuard<'static, Option<Recorder>> {
    RECORDER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the recording to play, or ends the program if it cannot be read.
fn open(path: &Path) -> Recording {
    let opened = File::open(path).map_err(|error| error.to_string());
    let read = opened.and_then(|file| {
        let recording = Recording::read(BufReader::new(file));
        recording.map_err(|error| error.to_string())
    });
    let recording =
        read.unwrap_or_else(|reason| fail(&format!("cannot play {}: {reason}", path.display())));
    if let Some(damage) = recording.damage() {
        tell(&damage);
    }
    recording
}

/// Returns how long to sleep after a frame of this length.
fn pause_after(elapsed: Duration) -> Option<Duration> {
    (elapsed < UNPACED).then(|| PACE - elapsed)
}

/// Encodes a part of a link. No punctuation is left that readers would take for the end of a sentence.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_without_vsync_are_followed_by_a_pause() {
        assert_eq!(
            pause_after(Duration::from_millis(2)),
            Some(PACE - Duration::from_millis(2))
        );
        for hertz in [60, 75, 120, 144] {
            assert_eq!(
                pause_after(Duration::from_secs(1) / hertz),
                None,
                "{hertz} Hz"
            );
        }
    }

    #[test]
    fn an_invite_names_the_servers_pages_and_the_room() {
        let link = |server: &str, room: &str| {
            let mut options = ClientOptions::new(server, "Anna");
            options.room = room.to_owned();
            invite(&options).map(|invite| invite.link)
        };
        let expected = "http://10.0.0.5:8080/".to_owned();
        assert_eq!(link("10.0.0.5:14900", "lobby"), Some(expected));
        let expected = "http://[fe80::1]:8080/?room=%D0%B4%D0%B2%D0%B0%20b".to_owned();
        assert_eq!(link("[fe80::1]:14900", "два b"), Some(expected));
        let expected = "https://10.0.0.5:8080/".to_owned();
        assert_eq!(link("tls://10.0.0.5:14900", "lobby"), Some(expected));
        // Nobody knows where this server's pages are.
        assert_eq!(link("10.0.0.5:4000", "lobby"), None);
    }

    #[test]
    fn an_invite_to_a_server_on_this_machine_names_what_others_reach() {
        let invited = |server: &str, addresses: &[&str]| {
            let options = ClientOptions::new(server, "Anna");
            let invite = invite_from(&options, || Network::of(addresses)).unwrap();
            (invite.link, invite.is_local)
        };
        for server in ["localhost:14900", "127.0.0.1:14900", "[::1]:14900"] {
            let expected = ("http://192.168.4.1:8080/".to_owned(), false);
            // Nothing routes beyond a hotspot.
            assert_eq!(invited(server, &["192.168.4.1"]), expected, "{server}");
        }
        let expected = ("http://localhost:8080/".to_owned(), true);
        assert_eq!(invited("localhost:14900", &[]), expected);
    }
}

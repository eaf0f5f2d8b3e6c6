//! The native window.

use std::fs::File;
use std::io::{BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use cubesync_client::Trust;
use cubesync_client::recorder::Recorder;
use cubesync_client::{Client, ClientOptions};
pub(crate) use cubesync_recording::Recording;
use macroquad::math::Rect;
use macroquad::miniquad::window;

use super::icon::icon;
use super::options::{DEFAULT_PORT, Options};
use super::{Invite, Start};

/// Whether a person says which server to join.
pub(crate) const CHOOSES_SERVER: bool = true;
/// What such a person can write.
pub(crate) const SERVER_HINT: &str = "host:port, or tls://host:port to encrypt";
/// Whether the program can end itself.
pub(crate) const CAN_QUIT: bool = true;

/// Frames faster than this are not held back by a screen: there is no vsync, as on a virtual
/// display or behind some drivers, and the loop would take a whole core.
const UNPACED: Duration = Duration::from_micros(1_000_000 / 160);
/// What such frames are slowed down to.
const PACE: Duration = Duration::from_micros(1_000_000 / 120);
/// Where servers have their pages unless told otherwise.
const PAGES_PORT: u16 = 8080;

/// What is recorded, if anything is.
static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
static IS_FULLSCREEN: AtomicBool = AtomicBool::new(false);

/// Reads the command line.
pub(crate) fn start() -> Start {
    let options = Options::parse();
    if cfg!(target_os = "linux") && std::env::var_os("DISPLAY").is_none_or(|name| name.is_empty()) {
        fail("no display to open a window on: set DISPLAY, or use cubesync-bots without one");
    }
    if let Some((path, max_bytes)) = options.record() {
        record(path, max_bytes);
    }
    Start {
        recording: options.replay().map(open),
        joins_at_once: options.skips_the_join_screen(),
        title: options.window_title(),
        icon: Some(icon()),
        sample_count: options.sample_count(),
        options: options.client_options(),
    }
}

/// Held by whoever may be the last to run: what is recorded is whole when it goes.
pub(crate) struct AtEnd;

impl Drop for AtEnd {
    fn drop(&mut self) {
        finish();
    }
}

/// A client that joins; what it says and hears is recorded where that was asked for.
pub(crate) fn client(options: ClientOptions) -> Client {
    let mut client = Client::new(options, seed());
    if let Some(recorder) = &*recorder() {
        client.record(recorder.tap());
    }
    client
}

/// The time since the program's start.
pub(crate) fn now() -> Duration {
    BEGAN.elapsed()
}

/// A number that differs from start to start.
pub(crate) fn seed() -> u64 {
    fastrand::u64(..)
}

/// Rests after a frame that took this long, when frames come too fast.
pub(crate) fn pace(elapsed: Duration) {
    if let Some(rest) = rest(elapsed) {
        thread::sleep(rest);
    }
}

/// A line on standard output, for a person or a program that watches; nobody needs to.
pub(crate) fn tell(line: &str) {
    // Unlike `println!`, this does not end the game when the reader is gone.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Ends the program with one line that a person can act on.
pub(crate) fn fail(reason: &str) -> ! {
    eprintln!("error: {reason}");
    finish();
    process::exit(1);
}

/// Whether nobody can see what is drawn; a window does not know.
pub(crate) fn is_hidden() -> bool {
    false
}

/// Whether fingers are what people have here, before the first touch.
pub(crate) fn prefers_touch() -> bool {
    false
}

/// Takes note of who plays where, for the next start.
pub(crate) fn joined(_options: &ClientOptions, _name: &str) {}

/// Takes note that the game is over, and whether the person wished it.
pub(crate) fn left(_by_choice: bool) {}

/// Whether nobody has verified that this is the server it is meant to be.
pub(crate) fn is_unverified(options: &ClientOptions) -> bool {
    options.server.starts_with(ClientOptions::TLS) && options.trust == Trust::Anybody
}

/// The address for others, when the server is where servers are unless told otherwise: only then
/// is it known where its pages are.
pub(crate) fn invite(options: &ClientOptions) -> Option<Invite> {
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
    let outside = if is_local { network_address() } else { None };
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

/// Puts a text into the clipboard.
pub(crate) fn copy(text: &str) {
    window::clipboard_set(text);
}

/// Whether the window can fill the screen.
pub(crate) fn can_fullscreen() -> bool {
    true
}

/// Fills the screen, or no more.
pub(crate) fn toggle_fullscreen() {
    let was_fullscreen = IS_FULLSCREEN.fetch_xor(true, Ordering::Relaxed);
    window::set_fullscreen(!was_fullscreen);
}

/// What was typed into a field by other means than key events.
pub(crate) fn typed(_index: usize, _area: Rect, _text: &str) -> Option<String> {
    None
}

/// Notches of a mouse wheel; some systems count a notch as 1, others as 120.
pub(crate) fn notches(wheel: f32) -> f32 {
    wheel.clamp(-1.0, 1.0)
}

/// Begins to record; who ends the game in the terminal wants the recording as well.
fn record(path: &Path, max_bytes: u64) {
    let say = |reason| eprintln!("warning: {reason}");
    match Recorder::create(path, max_bytes, say) {
        Ok(made) => *recorder() = Some(made),
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

/// Writes what is left of a recording, and waits until it is.
fn finish() {
    let made = recorder().take();
    drop(made);
}

fn recorder() -> MutexGuard<'static, Option<Recorder>> {
    RECORDER.lock().unwrap_or_else(PoisonError::into_inner)
}

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

fn rest(elapsed: Duration) -> Option<Duration> {
    (elapsed < UNPACED).then(|| PACE - elapsed)
}

/// The address of this machine that others in its network reach. Nothing is sent for it: the
/// system only says from where it would send.
fn network_address() -> Option<IpAddr> {
    /// For documentation (RFC 5737): routed like any address, and nobody's.
    const ANYBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SocketAddr::from((ANYBODY, 9))).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_without_vsync_rest() {
        assert_eq!(
            rest(Duration::from_millis(2)),
            Some(PACE - Duration::from_millis(2))
        );
        for hertz in [60, 75, 120, 144] {
            assert_eq!(rest(Duration::from_secs(1) / hertz), None, "{hertz} Hz");
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
}

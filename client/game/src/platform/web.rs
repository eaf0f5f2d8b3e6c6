//! The browser tab. The page provides the settings, and stores them over a reload.

use std::time::Duration;

use cubesync_client::protocol::ResumeToken;
use cubesync_client::protocol::limits::MAX_JOIN_KEY_BYTES;
/// The server does the rest of the rule, whose tables a browser would have to load.
pub(crate) use cubesync_client::protocol::text::{
    typed_name as clean_name, typed_room as clean_room,
};
use cubesync_client::{Client, ClientOptions, Target};
use macroquad::math::Rect;
use macroquad::miniquad::window;

use super::{Invite, Start, browser};
use crate::theme::PALETTE;

/// Whether a person chooses the server. Here the page does.
pub(crate) const CHOOSES_SERVER: bool = false;
/// The hint in the server's field, which a browser tab does not have.
pub(crate) const SERVER_HINT: &str = "";
/// Whether the program can end itself.
pub(crate) const CAN_QUIT: bool = false;

/// Pixels that browsers report for one notch of a usual wheel.
const NOTCH_PX: f32 = 100.0;

/// A recording to play, which never exists in a browser tab.
pub(crate) enum Recording {}

/// A guard without a purpose here: no recording has to be finished.
pub(crate) struct AtEnd;

/// Creates a client.
pub(crate) fn client(options: ClientOptions) -> Client {
    Client::new(options, seed())
}

/// Reads the page's settings.
pub(crate) fn start() -> Start {
    // Without a seed the random numbers would be the same in every tab.
    fastrand::seed(seed());
    let (name, room) = (browser::setting("name"), browser::setting("room"));
    let checked = [
        name.as_deref().map(clean_name),
        room.as_deref().map(clean_room),
    ];
    let trouble = checked.into_iter().flatten().find_map(Result::err);
    let colour = browser::setting("colour").and_then(|colour| colour.parse().ok());
    let key = browser::setting("key").filter(|key| key.len() <= MAX_JOIN_KEY_BYTES);
    let resume = browser::setting("resume").and_then(|token| token_from(&token));
    let any = fastrand::choice(PALETTE).unwrap_or(PALETTE[0]);
    Start {
        recording: None,
        joins_at_once: browser::setting("join").is_some() && name.is_some() && trouble.is_none(),
        trouble: trouble.map(|error| error.to_string()),
        title: "cubesync".to_owned(),
        size: (0, 0),
        icon: None,
        // The page chooses the real number when it creates the drawing context.
        sample_count: 1,
        options: ClientOptions {
            room: room.unwrap_or_else(|| "lobby".to_owned()),
            colour: colour.unwrap_or(any),
            join_key: key,
            resume,
            ..ClientOptions::new(
                browser::address(),
                name.unwrap_or_else(|| format!("Player {}", fastrand::u8(10..100))),
            )
        },
    }
}

/// Does nothing: a tab is where the browser has it.
pub(crate) fn opened() {}

/// Returns the time since the page was opened.
pub(crate) fn now() -> Duration {
    browser::now()
}

/// Returns a random number that differs from start to start.
pub(crate) fn seed() -> u64 {
    u64::from(browser::random()) << 32 | u64::from(browser::random())
}

/// Does nothing: browsers pace frames.
pub(crate) fn pace(_elapsed: Duration) {}

/// Does nothing: nobody reads a tab's output.
pub(crate) fn tell(_line: &str) {}

/// Shows an error on the page and ends the game.
pub(crate) fn fail(reason: &str) -> ! {
    browser::fail(reason);
    std::process::abort()
}

/// Whether nobody can see what is drawn.
pub(crate) fn is_hidden() -> bool {
    browser::is_hidden()
}

/// Whether people are likely to use fingers, before the first touch.
pub(crate) fn prefers_touch() -> bool {
    browser::prefers_touch()
}

/// Stores who plays where for the next page in this tab, and sets the tab's title.
pub(crate) fn joined(options: &ClientOptions, name: &str) {
    let colour = options.colour.to_string();
    let key = options.join_key.as_deref().unwrap_or_default();
    browser::keep("name", &options.name);
    browser::keep("room", &options.room);
    browser::keep("colour", &colour);
    browser::keep("key", key);
    browser::keep("join", "1");
    browser::set_title(&format!("cubesync — {name}"));
}

/// Stores how this tab's next page comes back to the same cube.
pub(crate) fn can_resume(token: Option<ResumeToken>) {
    browser::keep("resume", &token.map(token_text).unwrap_or_default());
}

/// Stores that the game is over if the person chose to leave; then a reload shows the join screen.
/// After a failure a reload joins again, since that may work with the page of an updated server.
pub(crate) fn left(by_choice: bool) {
    if by_choice {
        browser::keep("resume", "");
        browser::keep("join", "");
    }
    browser::set_title("cubesync");
}

/// Whether the server's identity is not verified. Here the browser verifies it.
pub(crate) fn is_unverified(_options: &ClientOptions) -> bool {
    false
}

/// Returns the page's address for other people.
pub(crate) fn invite(options: &ClientOptions) -> Option<Invite> {
    let host = options.server.rsplit_once(':').map_or("", |(host, _)| host);
    Some(Invite {
        link: browser::invite_link(&options.room),
        is_local: host == "localhost" || host == "[::1]" || host.starts_with("127."),
    })
}

/// Copies a text to the clipboard.
pub(crate) fn copy(text: &str) {
    browser::copy(text);
}

/// Types a character. The browser has put the accents of dead keys on it already.
pub(crate) fn with_accents(character: char, _silent: u32, mut type_one: impl FnMut(char)) {
    type_one(character);
}

/// Returns the clipboard's text, which the page knows once somebody has pasted.
pub(crate) fn paste() -> Option<String> {
    window::clipboard_get()
}

/// Whether the page can fill the screen.
pub(crate) fn can_fullscreen() -> bool {
    browser::can_fullscreen()
}

/// Enters or leaves full screen.
pub(crate) fn toggle_fullscreen() {
    browser::toggle_fullscreen();
}

/// Returns a field's text if something other than key events changed it, as a phone's keyboard
/// does.
pub(crate) fn typed(index: usize, area: Rect, text: &str) -> Option<String> {
    let area = [area.x, area.y, area.w, area.h];
    browser::text_field(index as u32, area, text)
}

/// Converts a wheel event into notches. A touchpad reports small parts of one.
pub(crate) fn notches(wheel: f32) -> f32 {
    (wheel / NOTCH_PX).clamp(-1.0, 1.0)
}

/// Returns the page's server: nobody writes one in a browser tab.
pub(crate) fn target(server: &str) -> Result<Target, String> {
    Ok(Target::server(server.to_owned()))
}

fn token_text(ResumeToken(bytes): ResumeToken) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn token_from(text: &str) -> Option<ResumeToken> {
    let number = u128::from_str_radix(text, 16).ok()?;
    Some(ResumeToken(number.to_be_bytes()))
}

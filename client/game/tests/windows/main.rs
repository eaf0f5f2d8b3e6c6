//! The main task as a person sees it: a real server, and real windows on a virtual display.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod display;
#[cfg(target_os = "linux")]
mod linux;
mod names;
mod process;
mod server;
mod wall;

use display::{Patch, VirtualDisplay, Window};
use process::{Program, until};
use server::Server;

const WINDOW_WIDTH: u32 = 800;
const WINDOW_HEIGHT: u32 = 600;
/// Anna and her colour: nothing else in the world is magenta, so a picture shows where her cube is.
const ANNA: (&str, &str) = ("Anna", "#ff00ff");
/// Вася, whose name is not in Latin letters.
const VASYA: (&str, &str) = ("Вася", "#20b0a0");
/// Length of a walk that cannot be a wobble.
const WALK_METRES: f64 = 4.0;
/// Least distance that such a walk moves a cube in a window.
const WALK_PIXELS: f32 = 40.0;

#[test]
#[ignore = "opens windows; .ci/run installs what that needs and runs it"]
fn cube_moved_by_keys_in_one_window_moves_in_the_other() {
    let server = Server::start();
    let display = VirtualDisplay::start(2 * WINDOW_WIDTH, WINDOW_HEIGHT);
    let anna = join(&display, &server, ANNA);
    let vasya = join(&display, &server, VASYA);

    let before = find_anna(&vasya.window, "1-other-window-before");
    anna.window.focus();
    // She looks at the middle of the world, so her way leads past it.
    walk(&anna.window, "Right", &server);
    let after = until(
        "Anna's cube is at another place in Вася's window",
        || {
            let after = find_anna(&vasya.window, "2-other-window-after");
            (after.distance_pixels(&before) > WALK_PIXELS).then_some(after)
        },
    );
    anna.window.look("3-own-window-after");
    println!("in Вася's window Anna's cube went from {before:?} to {after:?}");
}

#[test]
#[ignore = "opens windows; .ci/run installs what that needs and runs it"]
fn windows_come_back_by_themselves_when_the_server_does() {
    let server = Server::start();
    let display = VirtualDisplay::start(2 * WINDOW_WIDTH, WINDOW_HEIGHT);
    let players = [ANNA, VASYA].map(|player| join(&display, &server, player));

    let server = server.restart(|| {
        for player in &players {
            player.program.wait_for_line("connection lost, retrying in");
        }
        players[0].window.look("4-connection-lost");
    });
    for player in &players {
        player.program.wait_for_line("joined room lobby as");
    }
    // The clients are not only connected again: keys move the cube of the new session.
    players[0].window.focus();
    walk(&players[0].window, "Up", &server);
    players[1].window.look("5-connected-again");
}

/// A client that has joined, and its window.
struct Player<'a> {
    program: Program,
    window: Window<'a>,
}

/// Opens a window that joins, in the next free half of the display.
fn join<'a>(
    display: &'a VirtualDisplay,
    server: &Server,
    (name, colour): (&str, &str),
) -> Player<'a> {
    let mut command = display.command(env!("CARGO_BIN_EXE_cubesync-client"));
    command
        .args(["--server", &server.tcp.to_string()])
        .args(["--name", name, "--colour", colour]);
    let program = Program::start(name, &mut command);
    let joined = program.wait_for_line("joined room lobby as");
    assert!(joined.contains(name), "{joined}");
    let window = display.window(name);
    let left = if name == ANNA.0 { 0 } else { WINDOW_WIDTH };
    window.place(left, 0, WINDOW_WIDTH, WINDOW_HEIGHT);
    Player { program, window }
}

/// Holds the key down until the server says that Anna's cube is somewhere else. Her window must
/// have the focus.
fn walk(window: &Window<'_>, key: &'static str, server: &Server) {
    let start = server.position(ANNA.0).expect("Anna is in the room");
    let _held = window.hold(key);
    until("Anna's cube has moved on the server", || {
        let position = server.position(ANNA.0)?;
        let metres = (position[0] - start[0]).hypot(position[1] - start[1]);
        (metres > WALK_METRES).then_some(())
    });
}

/// Returns where Anna's cube is in a window once two pictures agree, since the view turns at first
/// and cubes glide.
fn find_anna(window: &Window<'_>, picture: &str) -> Patch {
    let mut last: Option<Patch> = None;
    until("Anna's cube lies still in the window", || {
        let patch = window
            .look(picture)
            .find(is_magenta)
            .filter(|patch| patch.pixels > 50);
        let before = std::mem::replace(&mut last, patch);
        patch.filter(|patch| before.is_some_and(|before| patch.distance_pixels(&before) < 1.0))
    })
}

/// Whether a pixel is magenta: in light or in shadow, at any distance through the haze.
fn is_magenta([red, green, blue]: [u8; 3]) -> bool {
    let [red, green, blue] = [red, green, blue].map(i32::from);
    red > green + 60 && blue > green + 60 && (red - blue).abs() < 60
}

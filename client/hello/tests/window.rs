//! The smallest game as a person meets it: a real server, a real window on a virtual display, and
//! a headless client that sees what the window does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../game/tests/windows/display.rs"]
mod display;
#[path = "../../game/tests/windows/process.rs"]
mod process;
#[path = "../../game/tests/windows/server.rs"]
mod server;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use cubesync_client::protocol::CubeKind;
use cubesync_client::{Client, ClientOptions, CubeView};
use display::{Patch, VirtualDisplay, Window};
use process::{Program, until};
use server::Server;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cubesync-hello");
/// A name beyond Latin letters.
const NAME: &str = "Вася";
const WIDTH: u32 = 800;
const HEIGHT: u32 = 600;

#[test]
fn an_address_without_a_port_is_answered_in_one_line() {
    let output = Command::new(PROGRAM).arg("localhost").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.starts_with("error: \"localhost\" is no address; write it as host:port"));
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
#[ignore = "opens a window; .ci/run installs what that needs and runs it"]
fn hello_joins_moves_carries_the_free_cube_and_comes_back_after_a_loss() {
    let server = Server::start();
    let display = VirtualDisplay::start(WIDTH, HEIGHT);
    let mut command = display.command(PROGRAM);
    let _hello = Program::start("hello", command.arg(server.tcp.to_string()).arg(NAME));
    until("hello is in the room", || server.position(NAME));
    let window = display.window("hello");
    window.place(0, 0, WIDTH, HEIGHT);
    window.focus();
    let mut watcher = Watcher::join(server.tcp);

    // The camera follows the own cube, which therefore stays where it is in the window.
    let before = find_own_cube(&window, "hello-before");
    let start_m = server.position(NAME).unwrap()[0] as f32;
    let held = window.hold("Right");
    watcher.until("the cube has moved to the right", |cubes| {
        (own(cubes)?.position[0] > start_m + 4.0).then_some(())
    });
    drop(held);
    let after = find_own_cube(&window, "hello-after");
    assert!(
        after.distance_pixels(&before) < 40.0,
        "{before:?} {after:?}"
    );

    for (axis, keys) in [["Left", "Right"], ["Down", "Up"]].into_iter().enumerate() {
        watcher.walk_to_the_free_cube(&window, axis, keys);
    }
    for wanted in [true, false] {
        let pressed = window.hold("e");
        watcher.until("the free cube is taken, or dropped", |cubes| {
            let own = own(cubes)?.cube;
            let is_held = free(cubes)?.kind == CubeKind::Free { holder: Some(own) };
            (is_held == wanted).then_some(())
        });
        drop(pressed);
    }

    // While it is joined, its words are at the lower edge; a lost connection is told further up.
    let joined = find_words(&window, "hello-joined", |_| true);
    let server = server.restart(|| {
        find_words(&window, "hello-connection-lost", |words| {
            words.y < joined.y - 60.0
        });
    });
    until("hello is in the room again", || server.position(NAME));
    watcher.until("the cube is there again", |cubes| own(cubes).map(|_| ()));
}

/// A headless client in the same room.
struct Watcher {
    client: Client,
    start: Instant,
}

impl Watcher {
    fn join(server: SocketAddr) -> Self {
        Self {
            client: Client::new(ClientOptions::new(server.to_string(), "Watcher"), 1),
            start: Instant::now(),
        }
    }

    /// Plays on until `look` finds something among the cubes.
    fn until<T>(&mut self, what: &str, look: impl Fn(&[CubeView<'_>]) -> Option<T>) -> T {
        until(what, || {
            let now = self.start.elapsed();
            self.client.poll(now);
            while self.client.next_event().is_some() {}
            look(&self.client.cubes(now))
        })
    }

    /// Holds keys until the cubes are near each other on an axis.
    fn walk_to_the_free_cube(&mut self, window: &Window<'_>, axis: usize, keys: [&'static str; 2]) {
        let way_m =
            |cubes: &[CubeView<'_>]| Some(free(cubes)?.position[axis] - own(cubes)?.position[axis]);
        let ahead_m = self.until("both cubes are in sight", way_m);
        let _held = window.hold(keys[usize::from(ahead_m > 0.0)]);
        self.until("the cube has come to the free one", |cubes| {
            (way_m(cubes)? * ahead_m.signum() < 1.5).then_some(())
        });
    }
}

fn own<'a>(cubes: &'a [CubeView<'a>]) -> Option<&'a CubeView<'a>> {
    cubes.iter().find(|view| view.name == NAME)
}

fn free<'a>(cubes: &'a [CubeView<'a>]) -> Option<&'a CubeView<'a>> {
    let is_free = |view: &&CubeView<'_>| matches!(view.kind, CubeKind::Free { .. });
    cubes.iter().find(is_free)
}

/// Returns where the own cube is in the window, by its orange; the free cube's gold has more green.
fn find_own_cube(window: &Window<'_>, picture: &str) -> Patch {
    until("the own cube is in the window", || {
        let found = window.look(picture).find(|[red, green, blue]| {
            let [red, green, blue] = [red, green, blue].map(i32::from);
            red > 120 && 2 * red > 3 * green && green > blue + 40
        });
        found.filter(|patch| patch.pixels > 500)
    })
}

/// Returns where the window's white words are, once that is where they are `wanted`.
fn find_words(window: &Window<'_>, picture: &str, wanted: impl Fn(&Patch) -> bool) -> Patch {
    until(picture, || {
        let is_white = |pixel: [u8; 3]| pixel.into_iter().all(|part| part > 240);
        window.look(picture).find(is_white).filter(&wanted)
    })
}

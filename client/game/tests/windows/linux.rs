//! The window on an X11 display: what the display, the keyboard and other programs may do to it.

use std::ffi::OsString;
use std::process::Command;

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt, CreateWindowAux, WindowClass};
use x11rb::rust_connection::RustConnection;

use crate::display::{VirtualDisplay, Window};
use crate::process::{Program, until};
use crate::server::Server;
use crate::{ANNA, WINDOW_HEIGHT, WINDOW_WIDTH, join};

/// Less than the distance from the middle to the wall of the world.
const EDGE_METRES: f64 = 200.0;
/// The key left of Enter on a US keyboard.
const APOSTROPHE: &str = "48";
/// The W key of a US keyboard, whatever the layout makes of it.
const W: &str = "25";

#[test]
fn a_display_that_is_not_there_is_an_error_in_words() {
    for (display, expected) in [
        ("", "no display to open a window on"),
        ("nowhere", "cannot open the display nowhere"),
        ("localhost:4095", "cannot open the display localhost:4095"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_cubesync-client"))
            .env("DISPLAY", display)
            .env_remove("WAYLAND_DISPLAY")
            .output()
            .unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(
            words.contains(expected) && !words.contains("panicked"),
            "{words}"
        );
        assert_eq!(output.status.code(), Some(1), "{display}");
    }
}

#[test]
#[ignore = "opens windows; .ci/run installs what that needs and runs it"]
fn a_clipboard_whose_owner_hangs_does_not_stop_the_window() {
    let server = Server::start();
    let display = VirtualDisplay::start(WINDOW_WIDTH, WINDOW_HEIGHT);
    let _hanging = own_clipboard(&display);
    let (program, window) = open_form(&display);
    window.focus();
    press(&display, &["ctrl+v", "ctrl+v"]);
    fill_in_server(&display, &server);
    program.wait_for_line("joined room lobby as");
}

#[test]
#[ignore = "opens windows; .ci/run installs what that needs and runs it"]
fn a_key_that_is_held_while_the_layout_changes_is_released() {
    let server = Server::start();
    let display = VirtualDisplay::start(WINDOW_WIDTH, WINDOW_HEIGHT);
    set_layout(&display, &["us"]);
    let anna = join(&display, &server, ANNA);
    anna.window.focus();
    let place = || server.position(ANNA.0).expect("Anna is in the room");
    let start = place();
    let distance = |from: [f64; 3], to: [f64; 3]| (from[0] - to[0]).hypot(from[1] - to[1]);
    let held = anna.window.hold(W);
    until("Anna walks", || {
        (distance(start, place()) > 1.0).then_some(())
    });
    set_layout(&display, &["ru"]);
    drop(held);
    // The place changes once a tick only, so one look that finds the last one again says nothing.
    const LOOKS: u32 = 40;
    let (mut last, mut still) = (place(), 0);
    until("Anna stands still", || {
        let before = std::mem::replace(&mut last, place());
        still = if before == last { still + 1 } else { 0 };
        (still == LOOKS).then_some(())
    });
    // She would have gone on to the world's edge.
    assert!(last[0].abs().max(last[1].abs()) < EDGE_METRES, "{last:?}");
}

#[test]
#[ignore = "opens windows; .ci/run installs what that needs and runs it"]
fn three_windows_share_a_laptops_screen_side_by_side() {
    let server = Server::start();
    let display = VirtualDisplay::start(1366, 768);
    let names = ["Anna", "Bob", "Eve"];
    let players = [1, 2, 3].map(|number| {
        let mut command = display.command(env!("CARGO_BIN_EXE_cubesync-client"));
        command
            .args(["--server", &server.tcp.to_string()])
            .args(["--name", names[number - 1]])
            .args(["--window-tile", &format!("{number}/3")]);
        Program::start(names[number - 1], &mut command)
    });
    for player in &players {
        player.wait_for_line("joined room lobby as");
    }
    let windows = names.map(|name| display.window(name));
    let ends = until("the windows lie side by side", || {
        let places = names.map(|name| geometry(&display, name));
        let ends = places.map(|[left, _, width, _]| (left, left + width));
        let is_apart = ends.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        (is_apart && places.iter().all(|place| place[1] == places[0][1])).then_some(ends)
    });
    assert!(ends[0].0 >= 0 && ends[2].1 <= 1366 + 2, "{ends:?}");
    assert!(
        ends.iter().all(|(left, right)| right - left > 400),
        "{ends:?}"
    );
    windows[0].look("6-side-by-side");
}

#[test]
#[ignore = "opens windows; .ci/run installs what that needs and runs it"]
fn dead_keys_put_accents_on_letters() {
    let server = Server::start();
    let display = VirtualDisplay::start(WINDOW_WIDTH, WINDOW_HEIGHT);
    set_layout(&display, &["us", "-variant", "intl"]);
    let (program, window) = open_form(&display);
    window.focus();
    // With this layout, the key beside Enter is dead.
    press(&display, &["ctrl+u", "shift+j", "o", "s", APOSTROPHE, "e"]);
    fill_in_server(&display, &server);
    program.wait_for_line("joined room lobby as José");
}

/// Opens a window with the join screen.
fn open_form(display: &VirtualDisplay) -> (Program, Window<'_>) {
    let mut command = display.command(env!("CARGO_BIN_EXE_cubesync-client"));
    let program = Program::start("the form", command.args(["--window-size", "640x560"]));
    let window = display.window("cubesync");
    (program, window)
}

/// Types the server's address into its field, which is above the focused one, and joins.
fn fill_in_server(display: &VirtualDisplay, server: &Server) {
    let address = server.tcp.to_string();
    let digits = address.chars().map(|character| match character {
        '.' => "period".to_owned(),
        ':' => "colon".to_owned(),
        digit => digit.to_string(),
    });
    let digits: Vec<_> = digits.collect();
    let keys: Vec<_> = ["Up", "ctrl+u"]
        .into_iter()
        .chain(digits.iter().map(String::as_str))
        .chain(["Return"])
        .collect();
    press(display, &keys);
}

/// Owns the clipboard and never answers anybody, until the result is dropped.
fn own_clipboard(display: &VirtualDisplay) -> RustConnection {
    let (connection, screen) = x11rb::connect(name(display).to_str()).unwrap();
    let root = connection.setup().roots[screen].root;
    let window = connection.generate_id().unwrap();
    let class = WindowClass::INPUT_ONLY;
    let nothing = CreateWindowAux::new();
    connection
        .create_window(0, window, root, 0, 0, 1, 1, 0, class, 0, &nothing)
        .unwrap()
        .check()
        .unwrap();
    let clipboard = connection.intern_atom(false, b"CLIPBOARD").unwrap();
    let clipboard = clipboard.reply().unwrap().atom;
    connection
        .set_selection_owner(window, clipboard, 0u32)
        .unwrap()
        .check()
        .unwrap();
    connection
}

/// Gives the keyboard a layout, by the names that `setxkbmap` knows.
fn set_layout(display: &VirtualDisplay, names: &[&str]) {
    let set = display.command("setxkbmap").args(names).status();
    assert!(set.unwrap().success(), "no layout {names:?}");
}

/// Presses and releases keys, by X11's names or their numbers on the keyboard. The focused window gets
/// them.
fn press(display: &VirtualDisplay, keys: &[&str]) {
    let mut command = display.command("xdotool");
    let pressed = command.args(["key", "--delay", "50"]).args(keys).status();
    assert!(pressed.unwrap().success(), "{keys:?}");
}

/// Returns the left and top edge, the width and the height of a window, without its frame.
fn geometry(display: &VirtualDisplay, title: &str) -> [i32; 4] {
    let mut command = display.command("xdotool");
    command.args(["search", "--onlyvisible", "--name", title]);
    let shown = command.args(["getwindowgeometry", "--shell"]).output();
    let text = String::from_utf8(shown.unwrap().stdout).unwrap();
    ["X=", "Y=", "WIDTH=", "HEIGHT="].map(|name| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
        values.next().unwrap().parse().unwrap()
    })
}

/// Returns the display's name.
fn name(display: &VirtualDisplay) -> OsString {
    let command = display.command("xdotool");
    let mut variables = command.get_envs();
    let known = variables.find_map(|(variable, value)| value.filter(|_| variable == "DISPLAY"));
    known.unwrap().to_owned()
}

//! Names in many scripts above cubes, which need the system's fonts.

use std::io::Write;
use std::net::TcpStream;
use std::ops::Range;

use crate::display::{Picture, VirtualDisplay};
use crate::process::until;
use crate::server::Server;
use crate::{ANNA, WINDOW_HEIGHT, WINDOW_WIDTH, join};

/// A name in each script. What comes before them is as good as empty.
const NAMES: [(&str, &str); 13] = [
    ("chinese", "李小龍"),
    ("japanese", "さくら"),
    ("korean", "김민준"),
    ("hebrew", "דוד"),
    ("arabic", "محمد"),
    ("thai", "สมชาย"),
    ("hindi", "आर्यन"),
    ("vietnamese", "Nguyễn Ánh"),
    ("emoji", "😀👍"),
    ("joined-emoji", "👨\u{200d}👩\u{200d}👧🇩🇪"),
    ("cyrillic", "Вася"),
    ("greek", "Ελένη"),
    ("latin", "Zoë"),
];
const NEARLY_EMPTY: &str = ".";
/// Least number of pixels by which a name differs from one that is nearly empty.
const NAME_PIXELS: usize = 25;
/// How far in front of Anna the player is whose name is looked at.
const AHEAD_METRES: f64 = 9.0;
/// The columns and rows of the window where the name is, on a dark ground.
const LABEL: [Range<usize>; 2] = [260..400, 94..119];

#[test]
#[ignore = "opens windows and needs fonts; .ci/run installs what that needs and runs it"]
fn names_of_every_script_are_drawn() {
    let server = Server::start();
    let display = VirtualDisplay::start(WINDOW_WIDTH, WINDOW_HEIGHT);
    let anna = join(&display, &server, ANNA);
    let light = |picture: &str| {
        let Picture { width, pixels } = anna.window.look(picture);
        let [columns, rows] = LABEL;
        let label = rows.flat_map(|row| &pixels[row * width..][columns.clone()]);
        label
            .filter(|pixel| pixel.iter().any(|&part| part > 150))
            .count()
    };

    let mut player = enter(&server, NEARLY_EMPTY);
    let mut empty = 0;
    until("a name that is nearly empty lies still", || {
        let before = std::mem::replace(&mut empty, light("6-name-empty"));
        (empty > 0 && empty == before).then_some(())
    });
    let mut drawn = Vec::new();
    for (script, name) in NAMES {
        go(&mut player, &server, -AHEAD_METRES);
        until("the name before is out of sight", || {
            (light("6-name-none") < empty.max(NAME_PIXELS)).then_some(())
        });
        player = enter(&server, name);
        let picture = format!("6-name-{script}");
        let pixels = until(&format!("the {script} name {name} is drawn"), || {
            let pixels = light(&picture);
            (pixels >= empty + NAME_PIXELS).then_some(pixels)
        });
        drawn.push((script, pixels - empty));
    }
    println!("pixels of names beside the {empty} of a dot: {drawn:?}");
}

/// Lets a player of the text protocol into the room, to the place above which [`LABEL`] is.
fn enter(server: &Server, name: &str) -> TcpStream {
    let mut player = TcpStream::connect(server.text).unwrap();
    writeln!(player, "{name}").unwrap();
    go(&mut player, server, AHEAD_METRES);
    until("the player is at its place", || {
        let position = server.position(name)?;
        (position[2] > 2.0).then_some(())
    });
    player
}

/// Moves a player to a place in front of Anna, or out of her sight.
fn go(player: &mut TcpStream, server: &Server, ahead: f64) {
    // Anna looks at the middle of the world: forward is the way there.
    let [x, y, _] = server.position(ANNA.0).expect("Anna is in the room");
    let distance = x.hypot(y);
    let (ahead_x, ahead_y) = (-x / distance, -y / distance);
    let right = -2.0;
    let place = [
        x + ahead_x * ahead + ahead_y * right,
        y + ahead_y * ahead - ahead_x * right,
    ];
    writeln!(player, "{:.3} {:.3} 2.7", place[0], place[1]).unwrap();
}

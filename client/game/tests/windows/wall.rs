//! A wall of loose cubes that a player runs into, as two windows show it.

#[path = "../../src/camera.rs"]
#[allow(dead_code, reason = "the game does more with its camera")]
mod camera;

use camera::{Camera, CameraView};
use macroquad::math::{Vec2, Vec3, vec2, vec3};

use crate::display::{Picture, VirtualDisplay};
use crate::process::until;
use crate::server::{Server, place_of};
use crate::{ANNA, Player, VASYA, WINDOW_HEIGHT, WINDOW_WIDTH, join};

/// The loose cubes of a server without flags: a wall is among them.
const LOOSE_CUBES: usize = 60;
/// The colours of the wall's bricks, and of nothing else.
const BRICK_COLOURS: [&str; 2] = ["#c85a41", "#db865c"];
/// A brick that is so much lower has fallen.
const FALL_METRES: f32 = 0.4;
/// Least number of bricks that fall.
const FALLEN: usize = 8;
/// Least share of the bricks that a window shows where the server has them: players, names and other cubes hide some.
const SHOWN: f32 = 0.65;
/// Greatest share of the places from which bricks fell that still look like bricks: others lie in front of some, and stand
/// behind some.
const LEFT: f32 = 0.5;

#[test]
#[ignore = "opens windows; .ci/run installs what that needs and runs it"]
fn a_wall_that_is_pushed_in_one_window_falls_in_both() {
    let server = Server::with_loose_cubes(LOOSE_CUBES);
    let display = VirtualDisplay::start(2 * WINDOW_WIDTH, WINDOW_HEIGHT);
    let watchers = [ANNA, VASYA].map(|player| Watcher {
        player: join(&display, &server, player),
        name: player.0,
        start: place(&server, player.0),
    });
    let standing = bricks(&server);
    assert!(!standing.is_empty(), "there is no wall");

    // Both look at the middle of the world. Вася sees more from the side, and Anna's way there leads through the wall,
    // but for a few steps.
    let [anna, vasya] = &watchers;
    let middle = standing.iter().sum::<Vec3>() / standing.len() as f32;
    let beside = middle - vec3(9.0, 0.0, 0.0);
    vasya.walk(&server, Vec2::X, ["Left", "Right"], beside);
    anna.walk(&server, Vec2::X, ["Left", "Right"], middle);
    let lookout = place(&server, anna.name);
    for watcher in &watchers {
        watcher.wait_until_it_shows("8-wall-stands", &server, |picture, view| {
            share(picture, view, &standing) > SHOWN
        });
    }

    let fallen = || -> Vec<Vec3> {
        let pairs = standing.iter().zip(bricks(&server));
        let fallen = pairs.filter(|(before, after)| before.z - after.z > FALL_METRES);
        fallen.map(|(before, _)| *before).collect()
    };
    let held = anna.player.window.hold("Up");
    until("the wall has fallen on the server", || {
        (fallen().len() >= FALLEN).then_some(())
    });
    drop(held);
    anna.walk(&server, Vec2::Y, ["Down", "Up"], lookout);
    for watcher in &watchers {
        watcher.wait_until_it_shows("9-wall-fallen", &server, |picture, view| {
            let now = share(picture, view, &bricks(&server));
            let left = share(picture, view, &fallen());
            println!(
                "{now:.2} of the bricks are where the server has them, {left:.2} where they stood"
            );
            now > SHOWN && left < LEFT
        });
    }
}

/// A player's window, and where its player started.
struct Watcher<'a> {
    player: Player<'a>,
    name: &'static str,
    start: Vec3,
}

impl Watcher<'_> {
    /// Returns the camera as it is while the cube rests. Nobody has turned it.
    fn camera(&self, server: &Server) -> Camera {
        let mut camera = Camera::new(self.start);
        camera.jump_to(self.start);
        camera.follow(place(server, self.name), 60.0);
        camera
    }

    /// Holds one of two keys, which move the cube along an axis of the screen, until a place is no farther that way.
    fn walk(&self, server: &Server, axis: Vec2, [back, forth]: [&'static str; 2], goal: Vec3) {
        let axis = self.camera(server).on_floor(axis).extend(0.0);
        let way_m = || (goal - place(server, self.name)).dot(axis);
        let side = way_m().signum();
        self.player.window.focus();
        let _held = self
            .player
            .window
            .hold(if side > 0.0 { forth } else { back });
        until("the place is reached", || {
            (way_m() * side < 0.5).then_some(())
        });
    }

    /// Looks at the window until it shows what is expected.
    fn wait_until_it_shows(
        &self,
        name: &str,
        server: &Server,
        expected: impl Fn(&Picture, &CameraView) -> bool,
    ) {
        until(&format!("{}'s window shows {name}", self.name), || {
            let picture = self.player.window.look(&format!("{name}-{}", self.name));
            let screen = vec2(WINDOW_WIDTH as f32, WINDOW_HEIGHT as f32);
            expected(&picture, &self.camera(server).view(screen)).then_some(())
        });
    }
}

/// Returns where the wall's bricks are, in the order of their ids.
fn bricks(server: &Server) -> Vec<Vec3> {
    let cubes = server.cubes().into_iter();
    let bricks = cubes.filter(|cube| BRICK_COLOURS.iter().any(|colour| cube["colour"] == *colour));
    bricks.map(|brick| metres(place_of(&brick))).collect()
}

fn place(server: &Server, name: &str) -> Vec3 {
    metres(server.position(name).expect("the player is in the room"))
}

fn metres(place: [f64; 3]) -> Vec3 {
    place.map(|metres| metres as f32).into()
}

/// Returns the share of places at which a picture shows a brick.
fn share(picture: &Picture, view: &CameraView, places: &[Vec3]) -> f32 {
    let shows = |place: &&Vec3| {
        let Some((pixel, _)) = view.project(**place) else {
            return false;
        };
        let (x, y) = (pixel.x as usize, pixel.y as usize);
        x < picture.width
            && picture
                .pixels
                .get(y * picture.width + x)
                .is_some_and(is_brick)
    };
    places.iter().filter(shows).count() as f32 / places.len() as f32
}

/// Whether a pixel is of the wall's red: in light or in shadow, and neither gold nor magenta.
fn is_brick(&[red, green, blue]: &[u8; 3]) -> bool {
    let [red, green, blue] = [red, green, blue].map(i32::from);
    4 * red > 5 * green && green > blue && 2 * blue > green
}

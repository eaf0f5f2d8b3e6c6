//! The player's view: the floor, the cubes with their names, and how the connection is.

use std::time::Duration;

use cubesync_client::{Client, CubeView, Status};
use macroquad::prelude::*;

const KEYS: &str = "WASD or arrows: move and push    Space: jump    E: take a cube, throw it";
const SKY: Color = Color::new(0.55, 0.68, 0.80, 1.0);
const FLOOR: Color = Color::new(0.28, 0.38, 0.37, 1.0);
const TILE_M: f32 = 3.0;
const TILES: i32 = 14; // To each side; what is farther away vanishes in the haze.
const TO_LIGHT: Vec3 = Vec3::new(-0.3, -0.45, 0.84);

/// Loads the font of all texts: Latin, Cyrillic, Greek. Other scripts need `client/game/src/text/`.
pub(crate) fn load_font() {
    let font = include_bytes!("../../../assets/fonts/DejaVuSans-subset.ttf");
    set_default_font(load_ttf_font_from_bytes(font).expect("the font is part of the program"));
}

/// Draws a frame.
pub(crate) fn draw(client: &Client, news: &str, now: Duration) {
    // Where everybody is to be drawn *now*. The server sends the others' places thirty times a
    // second or so, and the network delivers them late and unevenly. So the library shows others a
    // moment in the past, the *playout delay*: then it has a place from before that moment and one
    // from after it, and moves the cube smoothly in between. Our own cube needs no delay.
    let cubes = client.cubes(now);
    let own = cubes.iter().find(|cube| cube.own);
    let middle = own.map_or(Vec3::ZERO, |cube| cube.position.into());
    let camera = Camera3D {
        position: middle + vec3(0.0, -9.0, 5.0),
        target: middle + vec3(0.0, 0.0, 1.0),
        up: Vec3::Z,
        ..Camera3D::default()
    };
    set_camera(&camera);
    clear_background(SKY);
    draw_floor(middle);
    cubes.iter().for_each(draw_cube);
    set_default_camera();
    let (width, height) = (screen_width(), screen_height());
    for cube in cubes.iter().filter(|cube| !cube.name.is_empty()) {
        let place = camera.matrix() * (Vec3::from(cube.position) + 1.1 * Vec3::Z).extend(1.0);
        // A place with a smaller `w` is behind the camera, or nearly.
        if place.w > 0.5 {
            let (x, y) = (1.0 + place.x / place.w, 1.0 - place.y / place.w);
            write(cube.name, x / 2.0 * width, y / 2.0 * height, 18);
        }
    }
    write(KEYS, width / 2.0, height - 20.0, 15);
    match client.status() {
        Status::Joined => write(news, width / 2.0, height - 52.0, 15),
        // Says why we are not in the room, and in how many seconds the next try follows.
        status => {
            let trouble = client.trouble().filter(|_| status == Status::Connecting);
            let text = trouble.map_or(status.to_string(), |trouble| format!("{trouble}; {status}"));
            let lines = text.replace(": ", ":\n").replace("; ", ";\n");
            for (row, line) in lines.lines().enumerate() {
                write(line, width / 2.0, height / 3.0 + 32.0 * row as f32, 20);
            }
        }
    }
}

/// Draws a chequered floor around a place.
fn draw_floor(middle: Vec3) {
    let tiles = |at_m: f32| (at_m / TILE_M) as i32 - TILES..(at_m / TILE_M) as i32 + TILES;
    for (x, y) in tiles(middle.x).flat_map(|x| tiles(middle.y).map(move |y| (x, y))) {
        let corner = vec3(x as f32, y as f32, 0.0) * TILE_M;
        let far = corner.distance(middle) / (TILE_M * (TILES - 1) as f32);
        let colour = mix(FLOOR, SKY, far + if (x + y) % 2 == 0 { 0.0 } else { 0.08 });
        draw_affine_parallelogram(corner, Vec3::X * TILE_M, Vec3::Y * TILE_M, None, colour);
    }
}

/// Draws a cube, each side as bright as it faces the light.
fn draw_cube(cube: &CubeView<'_>) {
    let (centre, turn) = (Vec3::from(cube.position), Quat::from_array(cube.rotation));
    let colour = Color::from_rgba(cube.colour.red, cube.colour.green, cube.colour.blue, 255);
    // A player of whom nothing has been heard for a while may be elsewhere, and is drawn paler.
    let colour = mix(colour, SKY, if cube.stale { 0.6 } else { 0.0 });
    for side in [Vec3::X, Vec3::Y, Vec3::Z, -Vec3::X, -Vec3::Y, -Vec3::Z] {
        let lit = mix(BLACK, colour, 0.7 + 0.3 * (turn * side).dot(TO_LIGHT));
        let side = side * cube.width_m;
        let (edge, other) = (side.yzx(), side.zxy());
        let corner = centre + turn * (side - edge - other) / 2.0;
        draw_affine_parallelogram(corner, turn * edge, turn * other, None, lit);
    }
}

/// Writes a text around a place, on a dark ground.
fn write(text: &str, x: f32, y: f32, font_size: u16) {
    let size = f32::from(font_size);
    let width = measure_text(text, None, font_size, 1.0).width;
    let ground = Color::new(0.05, 0.08, 0.12, 0.6);
    let (left, top) = (x - width / 2.0 - 8.0, y - size * 0.8);
    draw_rectangle(left, top, width + 16.0, size * 1.6, ground);
    draw_text(text, x - width / 2.0, y + size * 0.35, size, WHITE);
}

/// Returns a colour between two, `share` of the way.
fn mix(from: Color, to: Color, share: f32) -> Color {
    Color::from_vec(from.to_vec().lerp(to.to_vec(), share.clamp(0.0, 1.0)))
}

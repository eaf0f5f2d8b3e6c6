//! The smallest game on cubesync: your own cube, everybody else's, and loose cubes to fight for.
//! Start a server with `cargo server`, then run `cargo hello` in two terminals. To play with
//! somebody on another machine: `cargo hello 192.168.1.5:14900 Anna`.
//!
//! Begin here, with the loop that every networked game has. `player` is what you do, `picture` is
//! what you see. The network is the library's work: `Client` is all that this game knows of it.

mod picture;
mod player;

use std::time::Duration;

use cubesync_client::{Client, ClientOptions};
use macroquad::prelude::*;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or("localhost:14900".into());
    let options = ClientOptions::new(server, arguments.next().unwrap_or("Hello".into()));
    if let Err(error) = options.check_address() {
        eprintln!("error: {error}");
        std::process::exit(2);
    }
    let window = Conf {
        window_title: format!("cubesync hello — {}", options.name),
        sample_count: 4, // Smooth edges.
        ..Conf::default()
    };
    macroquad::Window::from_config(window, play(options));
}

/// Runs the game loop: network, player and picture, once for every frame that the screen shows.
async fn play(options: ClientOptions) {
    picture::load_font();
    let mut player = player::Player::default();
    // The seed varies the waits between tries to connect, so that players do not all try at once.
    let mut client = Client::new(options, miniquad::date::now() as u64);
    // Closing the window only sets a flag from now on, so that there is time to say goodbye.
    prevent_quit();
    while !is_quit_requested() {
        let now = Duration::from_secs_f64(get_time());
        // Connects, connects again after a loss, reads what has arrived and sends what is due. With
        // an ordinary socket a reader waits, and a game that waits is a frozen picture. The client's
        // never blocks: when nothing is there, `poll` returns at once and we draw what we know.
        client.poll(now);
        while let Some(event) = client.next_event() {
            player.on_event(event, &client);
        }
        player.step(&mut client, now);
        // Sends where we are now, if the server's next tick still lacks it. Drawing takes a while, so
        // we send first: without this line the next `poll` does it, a frame later for everybody else.
        client.send(now);
        picture::draw(&client, &player.news, now);
        // Most screens let us wait for their next frame. The others need no 1,000 frames a second.
        if get_frame_time() < 1.0 / 200.0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        next_frame().await;
    }
    // Without this the server would keep our cube for a while, in case we come back.
    client.close();
}

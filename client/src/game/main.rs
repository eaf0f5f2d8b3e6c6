//! The game window: joins a server and shows its cubes. `app` is the frame, `play` the game.

mod app;
mod camera;
mod canvas;
mod carry;
mod clock;
mod feed;
mod figures;
mod hud;
mod icon;
mod input;
mod join;
mod layer;
mod menu;
mod mesh;
mod names;
mod options;
mod play;
mod renderer;
mod scene;
mod text_field;
mod theme;
mod widgets;

use clap::Parser;
use macroquad::miniquad::conf::Platform;
use macroquad::window::{
    Conf, next_frame, request_new_screen_size, screen_dpi_scale, screen_width,
};

use crate::app::App;
use crate::options::Options;

/// The window's size at the start, in logical pixels.
const WINDOW_WIDTH: u16 = 1280;
const WINDOW_HEIGHT: u16 = 720;

fn main() {
    let options = Options::parse();
    if cfg!(target_os = "linux") && std::env::var_os("DISPLAY").is_none_or(|name| name.is_empty()) {
        fail("no display to open a window on: set DISPLAY, or use cubesync-bots without one");
    }
    let window = Conf {
        window_title: options.window_title(),
        window_width: WINDOW_WIDTH.into(),
        window_height: WINDOW_HEIGHT.into(),
        high_dpi: true,
        sample_count: options.sample_count(),
        icon: Some(icon::icon()),
        platform: Platform {
            linux_wm_class: "cubesync",
            ..Platform::default()
        },
        ..Conf::default()
    };
    macroquad::Window::from_config(window, async {
        if let Err(error) = run(options).await {
            fail(&format!("{error:#}"));
        }
    });
}

/// Ends the program with one line that a person can act on.
fn fail(reason: &str) -> ! {
    eprintln!("error: {reason}");
    std::process::exit(1);
}

async fn run(options: Options) -> anyhow::Result<()> {
    let joins_at_once = options.skips_the_join_screen();
    let mut app = App::new(options.client_options(), joins_at_once)?;
    // X11 takes the size as physical pixels: too small on a HiDPI screen.
    let (width, height) = (f32::from(WINDOW_WIDTH), f32::from(WINDOW_HEIGHT));
    if screen_dpi_scale() > 1.0 && screen_width() < width {
        request_new_screen_size(width, height);
    }
    while app.frame() {
        next_frame().await;
    }
    Ok(())
}

//! The game window: joins a server and shows its cubes. `app` runs the frames, `play` is the game.

mod app;
mod camera;
mod canvas;
mod carry;
mod clock;
mod fade;
mod feed;
mod figures;
#[cfg(not(target_arch = "wasm32"))]
#[path = "../../flags/mod.rs"]
mod flags;
mod hud;
mod input;
mod join;
mod lab;
mod layer;
mod menu;
mod mesh;
mod names;
mod net_graph;
mod platform;
mod play;
mod pointer;
mod renderer;
mod replay;
mod scene;
mod text;
mod text_field;
mod theme;
mod touch;
mod widgets;
mod wire_frames;

use macroquad::miniquad::conf::Platform;
use macroquad::window::{Conf, next_frame};

use crate::app::App;
use crate::platform::{Start, fail};

fn main() {
    let start = platform::start();
    let _at_end = platform::AtEnd;
    // Every field is given: the default holds miniquad's logo, 21 KB that a browser would load.
    let window = Conf {
        window_title: start.title.clone(),
        window_width: start.size.0,
        window_height: start.size.1,
        high_dpi: true,
        fullscreen: false,
        sample_count: start.sample_count,
        window_resizable: true,
        icon: start.icon.clone(),
        platform: Platform {
            linux_wm_class: "cubesync",
            ..Platform::default()
        },
    };
    macroquad::Window::from_config(window, async {
        if let Err(error) = run(start).await {
            fail(&format!("{error:#}"));
        }
    });
}

async fn run(start: Start) -> anyhow::Result<()> {
    let mut app = App::new(start)?;
    platform::opened();
    while app.frame() {
        next_frame().await;
    }
    Ok(())
}

//! A virtual X display, on which a test presses keys and looks at windows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::{Program, until};

/// A virtual display with a window manager, so that windows get the focus.
pub(crate) struct VirtualDisplay {
    name: String,
    // Fields are dropped in this order: the window manager before its display.
    _window_manager: Program,
    _server: Program,
}

impl VirtualDisplay {
    /// Starts Xvfb on a free display number, and the window manager.
    pub(crate) fn start(width: u32, height: u32) -> Self {
        let mut xvfb = Command::new("Xvfb");
        xvfb.args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0"])
            .arg(format!("{width}x{height}x24"));
        let server = Program::start("Xvfb", &mut xvfb);
        let number = server.wait_for("its number", |line| line.trim().parse::<u32>().ok());
        let name = format!(":{number}");
        // A window that opens while openbox starts may never be shown, so wait until it has.
        let mut openbox = Command::new("openbox");
        openbox.args(["--startup", "echo openbox runs"]);
        let window_manager = Program::start("openbox", openbox.env("DISPLAY", &name));
        window_manager.wait_for_line("openbox runs");
        Self {
            name,
            _window_manager: window_manager,
            _server: server,
        }
    }

    /// Returns a command that runs a program on this display.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env("DISPLAY", &self.name)
            .env("LIBGL_ALWAYS_SOFTWARE", "1");
        command
    }

    /// Waits for a visible window with `title` in its title, and returns it.
    pub(crate) fn window(&self, title: &str) -> Window<'_> {
        let id = until(&format!("the window {title} is visible"), || {
            let found = self.xdotool(&["search", "--onlyvisible", "--name", title]);
            let ids = String::from_utf8(found.stdout).unwrap();
            ids.lines().next().map(str::to_owned)
        });
        Window { display: self, id }
    }

    fn xdotool(&self, arguments: &[&str]) -> Output {
        self.command("xdotool").args(arguments).output().unwrap()
    }
}

/// A window on a display.
pub(crate) struct Window<'a> {
    display: &'a VirtualDisplay,
    id: String,
}

impl Window<'_> {
    /// Moves and resizes the window, so that no other one covers it.
    pub(crate) fn place(&self, left: u32, top: u32, width: u32, height: u32) {
        let (left, top) = (left.to_string(), top.to_string());
        let (width, height) = (width.to_string(), height.to_string());
        let placed = format!("WIDTH={width}\nHEIGHT={height}\n");
        until("the window has its place", || {
            self.display
                .xdotool(&["windowsize", &self.id, &width, &height]);
            self.display.xdotool(&["windowmove", &self.id, &left, &top]);
            let geometry = self
                .display
                .xdotool(&["getwindowgeometry", "--shell", &self.id]);
            String::from_utf8(geometry.stdout)
                .unwrap()
                .contains(&placed)
                .then_some(())
        });
    }

    /// Gives the window the keyboard.
    pub(crate) fn focus(&self) {
        until("the window has the focus", || {
            self.display.xdotool(&["windowactivate", &self.id]);
            let focused = self.display.xdotool(&["getwindowfocus"]);
            (String::from_utf8(focused.stdout).unwrap().trim() == self.id).then_some(())
        });
    }

    /// Presses a key, by X11's name, until the result is dropped. The focused window gets it.
    pub(crate) fn hold(&self, key: &'static str) -> HeldKey<'_> {
        assert!(self.display.xdotool(&["keydown", key]).status.success());
        HeldKey {
            display: self.display,
            key,
        }
    }

    /// Takes a picture of the window, and keeps it as `name`.png in the folder of CI's output.
    pub(crate) fn look(&self, name: &str) -> Picture {
        let file = output_folder().join(format!("{name}.png"));
        let import = self
            .display
            .command("import")
            .args(["-window", &self.id])
            .arg(&file)
            .status();
        assert!(import.unwrap().success(), "no screenshot of {name}");
        let convert = Command::new("convert")
            .arg(&file)
            .args(["-depth", "8", "ppm:-"])
            .output();
        Picture::from_ppm(&convert.unwrap().stdout)
    }
}

/// A key that is down.
pub(crate) struct HeldKey<'a> {
    display: &'a VirtualDisplay,
    key: &'static str,
}

impl Drop for HeldKey<'_> {
    fn drop(&mut self) {
        self.display.xdotool(&["keyup", self.key]);
    }
}

/// A picture of a window.
pub(crate) struct Picture {
    pub(crate) width: usize,
    /// Red, green and blue, row by row.
    pub(crate) pixels: Vec<[u8; 3]>,
}

/// The place of a colour in a picture, in pixels from its upper left corner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patch {
    pub(crate) x: f32,
    pub(crate) y: f32,
    /// The number of pixels with this colour.
    pub(crate) pixels: usize,
}

impl Patch {
    pub(crate) fn distance_pixels(&self, other: &Patch) -> f32 {
        (self.x - other.x).hypot(self.y - other.y)
    }
}

impl Picture {
    /// Reads ImageMagick's binary PPM: "P6", width and height, 255, each on a line, then the pixels.
    fn from_ppm(ppm: &[u8]) -> Self {
        let mut parts = ppm.splitn(4, |&byte| byte == b'\n');
        assert_eq!(parts.next(), Some(&b"P6"[..]), "no picture");
        let size = str::from_utf8(parts.next().unwrap()).unwrap();
        let width = size.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(parts.next(), Some(&b"255"[..]));
        let (pixels, _) = parts.next().unwrap().as_chunks();
        Self {
            width,
            pixels: pixels.to_vec(),
        }
    }

    /// Returns the centre of all pixels of a colour, or `None` if there are none.
    pub(crate) fn find(&self, is_it: impl Fn([u8; 3]) -> bool) -> Option<Patch> {
        let found = self
            .pixels
            .iter()
            .enumerate()
            .filter(|(_, pixel)| is_it(**pixel));
        let (mut x, mut y, mut pixels) = (0, 0, 0);
        for (index, _) in found {
            x += index % self.width;
            y += index / self.width;
            pixels += 1;
        }
        (pixels > 0).then(|| Patch {
            x: x as f32 / pixels as f32,
            y: y as f32 / pixels as f32,
            pixels,
        })
    }
}

/// Returns the folder for screenshots: the one that CI names, or one in the build folder.
fn output_folder() -> PathBuf {
    let folder = std::env::var_os("CUBESYNC_CI_OUTPUT").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).to_path_buf(),
        PathBuf::from,
    );
    fs::create_dir_all(&folder).unwrap();
    folder
}

//! The size of a native window and its place on the screen.

use std::str::FromStr;

use clap::Args;

/// The window's size without flags, in logical pixels.
const DEFAULT_SIZE: WindowSize = WindowSize {
    width: 1280,
    height: 720,
};
/// Least size that has room for the join screen, in logical pixels.
const MIN_SIZE: WindowSize = WindowSize {
    width: 320,
    height: 240,
};
/// Largest size: the largest screen on sale, 8K.
const MAX_SIZE: WindowSize = WindowSize {
    width: 7680,
    height: 4320,
};
/// Largest coordinate of X11.
const MAX_COORDINATE: u32 = 32_767;
/// Most tiles of a screen. More would be smaller than the least size everywhere.
const MAX_TILES: u32 = 64;
/// Height of a tile in relation to its width, at most: a column of the whole screen's height shows
/// more sky than cubes.
const TALLEST: f32 = 1.25;
/// Room for what a window manager draws around a window that fills the screen, in logical pixels.
const FRAME_PX: f32 = 48.0;

/// The flags about the window.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Window")]
pub(crate) struct WindowFlags {
    /// The window's size at the start, in logical pixels [default: 1280x720, or what the screen has
    /// room for]
    #[arg(long, value_name = "WIDTHxHEIGHT", env = "CUBESYNC_WINDOW_SIZE")]
    window_size: Option<WindowSize>,
    /// The place of the window's upper left corner, in pixels from the screen's [default: the
    /// system's choice]
    #[arg(long, value_name = "X,Y", env = "CUBESYNC_WINDOW_POSITION")]
    window_position: Option<WindowPosition>,
    /// Take one of several equal parts of the screen instead, so that windows lie side by side:
    /// 2/3 is the second of three
    #[arg(long, value_name = "NUMBER/COUNT", env = "CUBESYNC_WINDOW_TILE")]
    window_tile: Option<Tile>,
}

/// A size in logical pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WindowSize {
    width: u32,
    height: u32,
}

/// A place on the screen, in its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WindowPosition {
    x: u32,
    y: u32,
}

/// One of several equal parts of a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    /// From 1 to `count`.
    number: u32,
    count: u32,
}

/// A rectangle of the screen, in its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) x: i32,
    pub(crate) y: i32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// The screen on which a window opens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Desk {
    /// The size of all monitors together, in pixels.
    pub(crate) screen: (u32, u32),
    /// The part of one monitor that windows may fill.
    pub(crate) free: Area,
    /// Pixels of the screen per logical pixel.
    pub(crate) scale: f32,
}

/// The part of the screen that a window moves to once it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The window with its frame begins here, and keeps its size.
    Corner(i32, i32),
    /// The window with its frame fills this.
    Fill(Area),
}

/// The size with which a window opens, in the unit of the system, and where it goes then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowPlace {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) goal: Option<Goal>,
}

impl WindowFlags {
    /// Returns where the window goes on a desk. Where the system does not tell of its screens, tiles
    /// suit the smallest one of laptops.
    ///
    /// # Errors
    /// In words: the position is not on the screen.
    pub(crate) fn place(&self, desk: Option<&Desk>) -> Result<WindowPlace, String> {
        if let Some(tile) = self.window_tile {
            let smallest = Area {
                x: 0,
                y: 0,
                width: DEFAULT_SIZE.width,
                height: DEFAULT_SIZE.height,
            };
            let (free, scale) = desk.map_or((smallest, 1.0), |desk| (desk.free, desk.scale));
            let area = tile.within(free, scale);
            return Ok(WindowPlace {
                width: area.width,
                height: area.height,
                goal: Some(Goal::Fill(area)),
            });
        }
        let scale = desk.map_or(1.0, |desk| desk.scale);
        let scaled = |logical: u32| (logical as f32 * scale) as u32;
        let WindowSize { width, height } = self.window_size.unwrap_or(DEFAULT_SIZE);
        let (mut width, mut height) = (scaled(width), scaled(height));
        if let (None, Some(desk)) = (self.window_size, desk) {
            let frame = (FRAME_PX * scale) as u32;
            width = width.min(desk.free.width);
            height = height.min(desk.free.height.saturating_sub(frame).max(1));
        }
        let outside = |position: &WindowPosition, desk: &Desk| {
            position.x >= desk.screen.0 || position.y >= desk.screen.1
        };
        if let (Some(position), Some(desk)) = (self.window_position, desk)
            && outside(&position, desk)
        {
            let WindowPosition { x, y } = position;
            let (width, height) = desk.screen;
            return Err(format!(
                "--window-position {x},{y} is outside the screen, which has {width}x{height} pixels"
            ));
        }
        let corner = |WindowPosition { x, y }| Goal::Corner(x as i32, y as i32);
        Ok(WindowPlace {
            width,
            height,
            goal: self.window_position.map(corner),
        })
    }
}

impl Tile {
    /// Returns this part of an area. Tiles lie side by side; where they would be too narrow to play
    /// in, in rows.
    fn within(self, area: Area, scale: f32) -> Area {
        let least = (MIN_SIZE.width as f32 * scale) as u32;
        let columns = (area.width / least.max(1)).clamp(1, self.count);
        let rows = self.count.div_ceil(columns);
        let (width, height) = (area.width / columns, area.height / rows);
        let (column, row) = ((self.number - 1) % columns, (self.number - 1) / columns);
        Area {
            x: area.x + (column * width) as i32,
            y: area.y + (row * height) as i32,
            width: width.max(1),
            height: height.min((width as f32 * TALLEST) as u32).max(1),
        }
    }
}

impl FromStr for WindowSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = pair(text, &['x', 'X', '×']);
        let (width, height) = numbers.ok_or("write it as WIDTHxHEIGHT, such as 640x480")?;
        let (least, most) = (MIN_SIZE, MAX_SIZE);
        let fits = (least.width..=most.width).contains(&width)
            && (least.height..=most.height).contains(&height);
        if !fits {
            return Err(format!(
                "windows have {}x{} to {}x{} pixels",
                least.width, least.height, most.width, most.height
            ));
        }
        Ok(Self { width, height })
    }
}

impl FromStr for WindowPosition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = pair(text, &[',']).filter(|&(x, y)| x.max(y) <= MAX_COORDINATE);
        let (x, y) = numbers.ok_or_else(|| {
            format!("write it as X,Y, such as 0,0; each is at least 0 and at most {MAX_COORDINATE}")
        })?;
        Ok(Self { x, y })
    }
}

impl FromStr for Tile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_one =
            |&(number, count): &(u32, u32)| (1..=count).contains(&number) && count <= MAX_TILES;
        let numbers = pair(text, &['/']).filter(is_one);
        let (number, count) = numbers.ok_or_else(|| {
            format!("write it as NUMBER/COUNT, such as 2/3; there are at most {MAX_TILES}")
        })?;
        Ok(Self { number, count })
    }
}

/// Reads two numbers with one of these characters between them.
fn pair(text: &str, between: &[char]) -> Option<(u32, u32)> {
    let (first, second) = text.trim().split_once(between)?;
    let number = |text: &str| text.trim().parse().ok();
    Some((number(first)?, number(second)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        window: WindowFlags,
    }

    fn flags(flags: &[&str]) -> WindowFlags {
        Program::parse_from([&["program"], flags].concat()).window
    }

    fn desk(width: u32, height: u32, scale: f32) -> Desk {
        Desk {
            screen: (width, height),
            free: area(0, 0, width, height),
            scale,
        }
    }

    fn area(x: i32, y: i32, width: u32, height: u32) -> Area {
        Area {
            x,
            y,
            width,
            height,
        }
    }

    fn tiles(count: u32, within: Area, scale: f32) -> Vec<Area> {
        let tile = |number| Tile { number, count }.within(within, scale);
        (1..=count).map(tile).collect()
    }

    #[test]
    fn tiles_never_overlap_and_stay_on_their_monitor() {
        let monitors = [
            area(0, 0, 1366, 768),
            area(1366, 40, 1280, 720),
            area(0, 0, 800, 600),
            area(0, 0, 320, 240),
            area(0, 0, 1, 1),
            area(0, 0, 1080, 1920),
            area(0, 0, 7680, 4320),
        ];
        for monitor in monitors {
            for count in 1..=9 {
                let tiles = tiles(count, monitor, 1.0);
                for (index, tile) in tiles.iter().enumerate() {
                    let ends = |area: &Area| {
                        let Area { x, y, .. } = *area;
                        (x + area.width as i32, y + area.height as i32)
                    };
                    let ((right, bottom), limit) = (ends(tile), ends(&monitor));
                    let is_inside = right <= limit.0 && bottom <= limit.1;
                    assert!(is_inside || monitor.width == 1, "{tile:?} in {monitor:?}");
                    for other in tiles[..index].iter().filter(|_| monitor.width > 1) {
                        let (other_right, other_bottom) = ends(other);
                        let apart = other_right <= tile.x || other_bottom <= tile.y;
                        assert!(apart, "{other:?} and {tile:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn three_windows_lie_side_by_side_on_a_laptop_and_in_rows_where_that_is_too_narrow() {
        let laptop = tiles(3, area(0, 28, 1366, 740), 1.0);
        let expected = [0, 455, 910].map(|x| area(x, 28, 455, 568));
        assert_eq!(laptop, expected);
        let small = tiles(3, area(0, 0, 800, 600), 1.0);
        let expected = [(0, 0), (400, 0), (0, 300)].map(|(x, y)| area(x, y, 400, 300));
        assert_eq!(small, expected);
        // Twice the pixels, but not more room.
        let dense = tiles(3, area(0, 0, 1600, 1200), 2.0);
        assert_eq!(dense[2], area(0, 600, 800, 600));
    }

    #[test]
    fn the_usual_size_is_in_logical_pixels_and_fits_the_screen() {
        let size = |flags: WindowFlags, desk: Option<Desk>| {
            let place = flags.place(desk.as_ref()).unwrap();
            assert_eq!(place.goal, None);
            (place.width, place.height)
        };
        assert_eq!(size(flags(&[]), None), (1280, 720));
        assert_eq!(size(flags(&[]), Some(desk(3840, 2160, 2.0))), (2560, 1440));
        assert_eq!(size(flags(&[]), Some(desk(1366, 768, 1.0))), (1280, 720));
        assert_eq!(size(flags(&[]), Some(desk(1024, 600, 1.0))), (1024, 552));
        // What somebody asked for is not corrected.
        let asked = flags(&["--window-size", "1600x900"]);
        assert_eq!(size(asked, Some(desk(1024, 600, 1.0))), (1600, 900));
    }

    #[test]
    fn a_window_moves_to_where_a_flag_says_on_the_screen_only() {
        let asked = flags(&["--window-position", "0, 20"]);
        let place = asked.place(Some(&desk(800, 600, 1.0))).unwrap();
        assert_eq!(place.goal, Some(Goal::Corner(0, 20)));
        let outside = flags(&["--window-position", "800,0"]);
        let error = outside.place(Some(&desk(800, 600, 1.0))).unwrap_err();
        assert!(error.ends_with("which has 800x600 pixels"), "{error}");
        assert!(outside.place(None).is_ok());
    }

    #[test]
    fn values_that_make_no_sense_are_usage_errors() {
        for (flag, wrong) in [
            ("size", "0x0"),
            ("size", "640"),
            ("size", "640x"),
            ("size", "-640x480"),
            ("size", "319x480"),
            ("size", "99999x480"),
            ("size", "640x480x1"),
            ("position", "1"),
            ("position", "-1,0"),
            ("position", "1,2,3"),
            ("position", "0,32768"),
            ("tile", "0/3"),
            ("tile", "4/3"),
            ("tile", "1/0"),
            ("tile", "1/65"),
            ("tile", "one"),
        ] {
            let flag = format!("--window-{flag}={wrong}");
            let error = Program::try_parse_from(["program", &flag]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{flag}");
        }
        for size in ["640X480", "640×480", " 640 x 480 "] {
            let expected = WindowSize {
                width: 640,
                height: 480,
            };
            assert_eq!(size.parse(), Ok(expected));
        }
    }
}

//! The X11 display: whether there is one, what it has room for, and where this window is on it.

mod clipboard;
mod dead_keys;

use std::env;
use std::error::Error;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::protocol::randr::ConnectionExt as _;
use x11rb::protocol::res::{ClientIdMask, ClientIdSpec, ConnectionExt as _};
use x11rb::protocol::xproto::{AtomEnum, ConfigureWindowAux, ConnectionExt as _, MapState, Window};
use x11rb::resource_manager;
use x11rb::rust_connection::RustConnection;

pub(crate) use clipboard::{copy, paste};
pub(crate) use dead_keys::with_accents;

use crate::platform::place::{Area, Desk, Goal};

/// Longest wait for the display. One that is far away takes a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for the window manager to draw a frame around the window. There may be none.
const FRAME_PATIENCE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The dots per inch that mean one pixel per logical pixel.
const USUAL_DPI: f32 = 96.0;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Returns the screen on which the window will open.
///
/// # Errors
/// In words: there is no display, or it does not let us in.
pub(crate) fn desk() -> std::result::Result<Option<Desk>, String> {
    let Some(name) = env::var_os("DISPLAY").filter(|name| !name.is_empty()) else {
        return Err(match env::var_os("WAYLAND_DISPLAY") {
            Some(_) => {
                "this Wayland session has no X11 display to open a window on: start Xwayland, or \
                        play in a browser"
            }
            None => "no display to open a window on: set DISPLAY, or use cubesync-bots without one",
        }
        .to_owned());
    };
    let name = name.display().to_string();
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || {
        let desk = x11rb::connect(None)
            .map_err(|error| error.to_string())
            .map(|(connection, screen)| find_desk(&connection, screen).ok());
        let _ = sender.send(desk);
    });
    let desk = answer.recv_timeout(PATIENCE);
    let desk = desk.unwrap_or_else(|_| Err("it does not answer".to_owned()));
    desk.map_err(|reason| {
        format!(
            "cannot open the display {name} ({reason}): set DISPLAY to the one that you see, usually \
             :0, or use cubesync-bots without one"
        )
    })
}

/// Moves this program's window, which is open now, and hears its dead keys. A thread does that: the
/// window manager may take a while.
pub(crate) fn arrange(goal: Option<Goal>, title: &str) {
    let title = title.to_owned();
    thread::spawn(move || {
        if let Err(error) = find_and_arrange(goal, &title) {
            eprintln!("warning: the window stays where it is, and knows no dead keys: {error}");
        }
    });
}

fn find_and_arrange(goal: Option<Goal>, title: &str) -> Result<()> {
    let (connection, screen) = x11rb::connect(None)?;
    let root = connection.setup().roots[screen].root;
    let began = Instant::now();
    let window = loop {
        match find_window(&connection, root, title)? {
            Some(window) => break window,
            None if began.elapsed() > PATIENCE => return Err("it is not found".into()),
            None => thread::sleep(LOOK_EVERY),
        }
    };
    if let Some(goal) = goal {
        move_window(&connection, root, window, goal)?;
    }
    dead_keys::listen(connection, window)
}

fn find_desk(connection: &RustConnection, screen: usize) -> Result<Desk> {
    let screen = &connection.setup().roots[screen];
    let (width, height) = (screen.width_in_pixels, screen.height_in_pixels);
    let whole = area([0, 0, width.into(), height.into()]);
    let resources = resource_manager::new_from_resource_manager(connection)?;
    let dpi = resources.and_then(|known| known.get_value("Xft.dpi", "Xft.Dpi").ok().flatten());
    let mut free = monitor(connection, screen.root).unwrap_or(whole);
    // Panels and docks lie outside this.
    if let Ok(&[x, y, width, height, ..]) =
        numbers(connection, screen.root, "_NET_WORKAREA").as_deref()
    {
        free = common(free, area([x, y, width, height])).unwrap_or(free);
    }
    Ok(Desk {
        screen: (width.into(), height.into()),
        free,
        scale: dpi
            .unwrap_or(USUAL_DPI)
            .clamp(USUAL_DPI / 2.0, USUAL_DPI * 8.0)
            / USUAL_DPI,
    })
}

/// Returns the monitor with the mouse pointer, where the person is likely to look.
fn monitor(connection: &RustConnection, root: Window) -> Option<Area> {
    let monitors = connection
        .randr_get_monitors(root, true)
        .ok()?
        .reply()
        .ok()?;
    let areas = monitors.monitors.iter().map(|monitor| Area {
        x: monitor.x.into(),
        y: monitor.y.into(),
        width: monitor.width.into(),
        height: monitor.height.into(),
    });
    let areas: Vec<_> = areas
        .filter(|area| area.width > 0 && area.height > 0)
        .collect();
    let pointer = connection.query_pointer(root).ok()?.reply().ok()?;
    let (x, y) = (pointer.root_x.into(), pointer.root_y.into());
    let pointed = areas.iter().find(|area| {
        (area.x..area.x + area.width as i32).contains(&x)
            && (area.y..area.y + area.height as i32).contains(&y)
    });
    pointed.or(areas.first()).copied()
}

fn move_window(
    connection: &RustConnection,
    root: Window,
    window: Window,
    goal: Goal,
) -> Result<()> {
    let [left, right, top, bottom] = frame(connection, root, window)?;
    let values = match goal {
        Goal::Corner(x, y) => ConfigureWindowAux::new()
            .x(x + left as i32)
            .y(y + top as i32),
        Goal::Fill(area) => ConfigureWindowAux::new()
            .x(area.x + left as i32)
            .y(area.y + top as i32)
            .width(area.width.saturating_sub(left + right).max(1))
            .height(area.height.saturating_sub(top + bottom).max(1)),
    };
    connection.configure_window(window, &values)?.check()?;
    Ok(())
}

/// Returns this process's window. A display that is reached over the network does not know the
/// process, and goes by the title.
fn find_window(connection: &RustConnection, root: Window, title: &str) -> Result<Option<Window>> {
    let managed = numbers(connection, root, "_NET_CLIENT_LIST")?;
    let windows = match managed.is_empty() {
        true => connection.query_tree(root)?.reply()?.children,
        false => managed,
    };
    let mut with_title = None;
    for window in windows {
        // A window may be gone before we ask.
        let shown = connection.get_window_attributes(window)?.reply();
        if !shown.is_ok_and(|shown| shown.map_state == MapState::VIEWABLE) {
            continue;
        }
        if process(connection, window)? == Some(std::process::id()) {
            return Ok(Some(window));
        }
        let name = atom(connection, "_NET_WM_NAME")?;
        let name = connection.get_property(false, window, name, AtomEnum::ANY, 0, 256)?;
        if name
            .reply()
            .is_ok_and(|name| name.value == title.as_bytes())
        {
            with_title = Some(window);
        }
    }
    Ok(with_title)
}

/// Returns the process of a window's program, if it runs on the display's machine.
fn process(connection: &RustConnection, window: Window) -> Result<Option<u32>> {
    let spec = ClientIdSpec {
        client: window,
        mask: ClientIdMask::LOCAL_CLIENT_PID,
    };
    let Ok(cookie) = connection.res_query_client_ids(&[spec]) else {
        return Ok(None);
    };
    let ids = cookie.reply().map(|reply| reply.ids).unwrap_or_default();
    Ok(ids.first().and_then(|id| id.value.first().copied()))
}

/// Returns the width of the frame around a window: left, right, top and bottom. Waits for the window
/// manager, if there is one.
fn frame(connection: &RustConnection, root: Window, window: Window) -> Result<[u32; 4]> {
    let began = Instant::now();
    let is_managed = !numbers(connection, root, "_NET_SUPPORTING_WM_CHECK")?.is_empty();
    loop {
        if let [left, right, top, bottom] = numbers(connection, window, "_NET_FRAME_EXTENTS")?[..] {
            return Ok([left, right, top, bottom]);
        }
        if !is_managed || began.elapsed() > FRAME_PATIENCE {
            return Ok([0; 4]);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Returns a property that consists of numbers; a missing one is empty.
fn numbers(connection: &RustConnection, window: Window, name: &str) -> Result<Vec<u32>> {
    const MOST: u32 = 4_096;
    let name = atom(connection, name)?;
    let property = connection.get_property(false, window, name, AtomEnum::ANY, 0, MOST)?;
    let values = property.reply()?.value32().map(Iterator::collect);
    Ok(values.unwrap_or_default())
}

fn atom(connection: &RustConnection, name: &str) -> Result<u32> {
    Ok(connection
        .intern_atom(false, name.as_bytes())?
        .reply()?
        .atom)
}

fn area([x, y, width, height]: [u32; 4]) -> Area {
    Area {
        x: x as i32,
        y: y as i32,
        width,
        height,
    }
}

/// Returns what two areas have in common.
fn common(a: Area, b: Area) -> Option<Area> {
    let (x, y) = (a.x.max(b.x), a.y.max(b.y));
    let right = (a.x + a.width as i32).min(b.x + b.width as i32);
    let bottom = (a.y + a.height as i32).min(b.y + b.height as i32);
    (right > x && bottom > y).then(|| Area {
        x,
        y,
        width: (right - x) as u32,
        height: (bottom - y) as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_loses_what_panels_take_and_nothing_on_another_one() {
        let monitor = area([1366, 0, 1280, 720]);
        let work_area = area([0, 30, 2646, 690]);
        assert_eq!(
            common(monitor, work_area),
            Some(area([1366, 30, 1280, 690]))
        );
        assert_eq!(common(monitor, area([0, 0, 1366, 768])), None);
    }
}

//! The input of a frame: keys, characters, the mouse and fingers.
//!
//! This module collects key events instead of asking macroquad which keys are down, because only
//! events keep their order, repeat at the keyboard's own rate, and distinguish a Ctrl+V from a v.

use std::collections::HashSet;

use macroquad::input::utils::{register_input_subscriber, repeat_all_miniquad_input};
use macroquad::input::{
    KeyCode, MouseButton, is_mouse_button_down, is_mouse_button_pressed, mouse_position,
    simulate_mouse_with_touch,
};
use macroquad::math::{Vec2, vec2};
use macroquad::miniquad::{EventHandler, KeyMods, TouchPhase};
use macroquad::window::screen_dpi_scale;

use crate::platform;
use crate::pointer::{Fingers, TouchEvent};

/// Collects the window's events from frame to frame.
#[derive(Debug)]
pub(crate) struct InputReader {
    subscriber: usize,
    keys: KeyState,
    drag_from: Option<Vec2>,
}

/// One frame's input.
#[derive(Debug, Default, Clone)]
pub(crate) struct InputFrame {
    /// The keys that went down, without repetition.
    pub(crate) pressed: HashSet<KeyCode>,
    /// The edits for controls, in order and with repetition: several may come in a frame.
    pub(crate) edits: Vec<Edit>,
    /// The direction of the movement keys: to the right and forward, at most 1 long.
    pub(crate) direction: Vec2,
    /// Whether Space is down.
    pub(crate) jump: bool,
    /// Whether Shift is down.
    pub(crate) fast: bool,
    /// Whether E went down.
    pub(crate) take: bool,
    /// The place of the mouse or of a finger, in logical pixels.
    pub(crate) mouse: Vec2,
    /// Whether the left button went down or a finger tapped.
    pub(crate) clicked: bool,
    /// The way of the mouse with a button held, in logical pixels.
    pub(crate) drag: Vec2,
    /// The wheel's turn away from the person, in notches.
    pub(crate) wheel: f32,
    /// The changes of fingers, in order.
    pub(crate) touches: Vec<TouchEvent>,
    /// Whether fingers are in use instead of a mouse.
    pub(crate) by_touch: bool,
}

/// One step of editing a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    /// Insert a visible character.
    Type(char),
    /// Insert the clipboard.
    Paste,
    /// Delete the character before the caret.
    Backspace,
    /// Delete the character after the caret.
    Delete,
    /// Delete everything before the caret.
    Clear,
    /// Move the caret to the left by a character.
    Left,
    /// Move the caret to the right by a character.
    Right,
    /// Move the caret to the start.
    Home,
    /// Move the caret to the end.
    End,
    /// Focus the control below.
    Next,
    /// Focus the control above.
    Previous,
    /// Activate the focused control.
    Confirm,
}

/// The keys that are down, and the events since the last frame.
#[derive(Debug, Default)]
struct KeyState {
    /// Each key once, but keys without a code as often as one of them is down.
    down: Vec<KeyCode>,
    /// The keys that were down when the keyboard went to another window: X11 takes their next press
    /// for a repetition.
    lost: HashSet<KeyCode>,
    pressed: HashSet<KeyCode>,
    edits: Vec<Edit>,
    /// Whether the key whose press comes next has typed a character: X11 tells that first.
    has_typed: bool,
    /// The keys since the last character that may have been dead ones.
    silent: u32,
    take: bool,
    wheel: f32,
    fingers: Fingers,
}

impl InputReader {
    /// Creates a reader of all events from now on. The window must exist.
    pub(crate) fn new() -> Self {
        simulate_mouse_with_touch(false);
        Self {
            subscriber: register_input_subscriber(),
            keys: KeyState {
                fingers: Fingers::new(platform::prefers_touch()),
                ..KeyState::default()
            },
            drag_from: None,
        }
    }

    /// Returns the input since the last call, which is to be made once a frame.
    pub(crate) fn read(&mut self) -> InputFrame {
        repeat_all_miniquad_input(&mut self.keys, self.subscriber);
        let mouse = Vec2::from(mouse_position());
        let held = [MouseButton::Left, MouseButton::Right, MouseButton::Middle]
            .into_iter()
            .any(is_mouse_button_down);
        let drag = match self.drag_from.filter(|_| held) {
            Some(from) => mouse - from,
            None => Vec2::ZERO,
        };
        self.drag_from = held.then_some(mouse);
        let frame = InputFrame {
            mouse,
            clicked: is_mouse_button_pressed(MouseButton::Left),
            drag,
            ..self.keys.take_frame()
        };
        match self.keys.fingers.take_frame() {
            Some(fingers) => InputFrame {
                mouse: fingers.place,
                clicked: fingers.tapped,
                drag: Vec2::ZERO,
                touches: fingers.touches,
                by_touch: true,
                ..frame
            },
            None => frame,
        }
    }
}

impl InputFrame {
    /// Whether the key went down in this frame.
    pub(crate) fn is_pressed(&self, key: KeyCode) -> bool {
        self.pressed.contains(&key)
    }
}

impl KeyState {
    fn take_frame(&mut self) -> InputFrame {
        let any = |keys: &[KeyCode]| keys.iter().any(|key| self.down.contains(key));
        let axis = |plus: bool, minus: bool| f32::from(u8::from(plus)) - f32::from(u8::from(minus));
        let direction = vec2(
            axis(
                any(&[KeyCode::D, KeyCode::Right]),
                any(&[KeyCode::A, KeyCode::Left]),
            ),
            axis(
                any(&[KeyCode::W, KeyCode::Up]),
                any(&[KeyCode::S, KeyCode::Down]),
            ),
        );
        InputFrame {
            direction: direction.clamp_length_max(1.0),
            jump: any(&[KeyCode::Space]),
            fast: any(&[KeyCode::LeftShift, KeyCode::RightShift]),
            pressed: std::mem::take(&mut self.pressed),
            edits: std::mem::take(&mut self.edits),
            take: std::mem::take(&mut self.take),
            wheel: std::mem::take(&mut self.wheel),
            ..InputFrame::default()
        }
    }
}

impl EventHandler for KeyState {
    fn update(&mut self) {}

    fn draw(&mut self) {}

    fn key_down_event(&mut self, key: KeyCode, modifiers: KeyMods, repeat: bool) {
        if !std::mem::take(&mut self.has_typed) && (key as u32) < KeyCode::Escape as u32 {
            self.silent += 1;
        }
        let is_down = self.down.contains(&key);
        if repeat && !is_down && !self.lost.contains(&key) {
            // The key that repeats went down as another one: the layout has changed meanwhile.
            self.down.clear();
        }
        self.lost.remove(&key);
        if !is_down || key == KeyCode::Unknown && !repeat {
            self.down.push(key);
        }
        if !is_down {
            self.pressed.insert(key);
            self.take |= key == KeyCode::E;
        }
        let edit = match key {
            KeyCode::Backspace => Edit::Backspace,
            KeyCode::Delete => Edit::Delete,
            KeyCode::Left => Edit::Left,
            KeyCode::Right => Edit::Right,
            KeyCode::Home => Edit::Home,
            KeyCode::End => Edit::End,
            KeyCode::V if modifiers.ctrl || modifiers.logo => Edit::Paste,
            KeyCode::Insert if modifiers.shift => Edit::Paste,
            KeyCode::U if modifiers.ctrl => Edit::Clear,
            KeyCode::Tab if modifiers.shift => Edit::Previous,
            KeyCode::Tab | KeyCode::Down => Edit::Next,
            KeyCode::Up => Edit::Previous,
            // A key that is held down must not confirm the next screen as well.
            KeyCode::Enter | KeyCode::KpEnter if !repeat => Edit::Confirm,
            _ => return,
        };
        self.edits.push(edit);
    }

    fn key_up_event(&mut self, key: KeyCode, _modifiers: KeyMods) {
        match self.down.iter().position(|down| *down == key) {
            Some(place) => _ = self.down.swap_remove(place),
            // The key that goes up went down as another one: the layout has changed meanwhile.
            None => self.down.clear(),
        }
    }

    fn char_event(&mut self, character: char, modifiers: KeyMods, repeat: bool) {
        self.has_typed = true;
        let silent = std::mem::take(&mut self.silent);
        // On some systems AltGr is Ctrl+Alt, and types characters.
        let shortcut = modifiers.logo || modifiers.ctrl && !modifiers.alt;
        let types = !shortcut && !character.is_control();
        platform::with_accents(character, silent, |character| {
            // An accent before anything else, such as Backspace, is dropped.
            if types {
                self.edits.push(Edit::Type(character));
            }
        });
        // With a Russian layout the V key has no key code.
        if shortcut && matches!(character, 'м' | 'М') {
            self.edits.push(Edit::Paste);
        }
        if types {
            // Nor has the E key a key code with a Russian layout.
            self.take |= !repeat && matches!(character, 'у' | 'У');
        }
    }

    fn mouse_wheel_event(&mut self, _x: f32, y: f32) {
        self.wheel += platform::notches(y);
    }

    fn mouse_motion_event(&mut self, _x: f32, _y: f32) {
        self.fingers.on_mouse();
    }

    fn touch_event(&mut self, phase: TouchPhase, finger: u64, x: f32, y: f32) {
        let place = vec2(x, y) / screen_dpi_scale();
        self.fingers.on_touch(TouchEvent {
            finger,
            phase,
            place,
        });
    }

    /// Releases everything: the window has lost the keyboard, so no event tells when a held key
    /// goes up.
    fn window_minimized_event(&mut self) {
        self.lost.extend(self.down.drain(..));
        self.fingers.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: KeyMods = KeyMods {
        shift: false,
        ctrl: false,
        alt: false,
        logo: false,
    };
    const CTRL: KeyMods = KeyMods {
        ctrl: true,
        ..PLAIN
    };

    fn press(keys: &mut KeyState, key: KeyCode) {
        keys.key_down_event(key, PLAIN, false);
    }

    #[test]
    fn losing_the_focus_releases_every_held_key() {
        let mut keys = KeyState::default();
        press(&mut keys, KeyCode::W);
        press(&mut keys, KeyCode::Space);
        let before = keys.take_frame();
        assert!(before.direction == vec2(0.0, 1.0) && before.jump);
        keys.window_minimized_event();
        let after = keys.take_frame();
        assert!(after.direction == Vec2::ZERO && !after.jump);
        // The key went up in another window, so X11 marks the next press as a repetition.
        keys.key_down_event(KeyCode::E, PLAIN, true);
        assert!(keys.take_frame().take);
    }

    #[test]
    fn a_key_that_goes_up_in_another_layout_is_up() {
        // W of a Latin layout is a key without a code in a Russian one, and Z in a French one.
        for other in [KeyCode::Unknown, KeyCode::Z] {
            let mut keys = KeyState::default();
            press(&mut keys, KeyCode::W);
            keys.key_up_event(other, PLAIN);
            assert_eq!(keys.take_frame().direction, Vec2::ZERO, "{other:?}");

            // The key repeats in the new layout first.
            press(&mut keys, KeyCode::W);
            keys.key_down_event(other, PLAIN, true);
            assert_eq!(keys.take_frame().direction, Vec2::ZERO, "{other:?}");
            keys.key_up_event(other, PLAIN);
            assert!(keys.down.is_empty());
        }
    }

    #[test]
    fn keys_without_a_code_do_not_release_others() {
        let mut keys = KeyState::default();
        press(&mut keys, KeyCode::Up);
        press(&mut keys, KeyCode::Unknown);
        press(&mut keys, KeyCode::Unknown);
        keys.key_down_event(KeyCode::Unknown, PLAIN, true);
        keys.key_up_event(KeyCode::Unknown, PLAIN);
        keys.key_up_event(KeyCode::Unknown, PLAIN);
        assert_eq!(keys.take_frame().direction, vec2(0.0, 1.0));
        // A key that was held in another window does not, either, though X11 says that it repeats.
        press(&mut keys, KeyCode::E);
        keys.window_minimized_event();
        press(&mut keys, KeyCode::W);
        keys.key_down_event(KeyCode::E, PLAIN, true);
        assert_eq!(keys.take_frame().direction, vec2(0.0, 1.0));
    }

    #[test]
    fn arrows_and_letters_are_the_same_and_diagonals_are_no_faster() {
        for (up, right) in [(KeyCode::W, KeyCode::D), (KeyCode::Up, KeyCode::Right)] {
            let mut keys = KeyState::default();
            press(&mut keys, up);
            press(&mut keys, right);
            let direction = keys.take_frame().direction;
            assert!(direction.x > 0.7 && direction.y > 0.7 && direction.length() < 1.001);
            keys.key_up_event(up, PLAIN);
            assert_eq!(keys.take_frame().direction, vec2(1.0, 0.0));
        }
    }

    #[test]
    fn a_held_key_is_pressed_once_but_edits_repeatedly() {
        let mut keys = KeyState::default();
        press(&mut keys, KeyCode::Backspace);
        keys.key_down_event(KeyCode::Backspace, PLAIN, true);
        let first = keys.take_frame();
        assert!(first.is_pressed(KeyCode::Backspace));
        assert_eq!(first.edits, [Edit::Backspace; 2]);
        keys.key_down_event(KeyCode::Backspace, PLAIN, true);
        let second = keys.take_frame();
        assert!(!second.is_pressed(KeyCode::Backspace));
        assert_eq!(second.edits, [Edit::Backspace]);
    }

    #[test]
    fn every_notch_of_the_wheel_counts_whatever_its_unit() {
        let mut keys = KeyState::default();
        for unit in [1.0, 120.0, -1.0, 1.0] {
            keys.mouse_wheel_event(0.0, unit);
        }
        assert_eq!(keys.take_frame().wheel, 2.0);
        assert_eq!(keys.take_frame().wheel, 0.0);
    }

    #[test]
    fn shortcuts_type_no_character() {
        let mut keys = KeyState::default();
        keys.char_event('v', CTRL, false);
        keys.key_down_event(KeyCode::V, CTRL, false);
        assert_eq!(keys.take_frame().edits, [Edit::Paste]);
        keys.char_event('\u{8}', PLAIN, false);
        keys.char_event('ж', PLAIN, false);
        assert_eq!(keys.take_frame().edits, [Edit::Type('ж')]);
    }

    #[test]
    fn a_key_of_a_russian_layout_takes_once_however_long_it_is_held() {
        let mut keys = KeyState::default();
        keys.char_event('у', PLAIN, false);
        press(&mut keys, KeyCode::Unknown);
        assert!(keys.take_frame().take);
        keys.char_event('у', PLAIN, true);
        assert!(!keys.take_frame().take);
    }
}

//! The game's controls for fingers: a stick and buttons. Drags on the rest of the screen turn the
//! camera.

use std::collections::BTreeMap;

use macroquad::color::Color;
use macroquad::math::{Rect, Vec2, vec2};
use macroquad::miniquad::TouchPhase;

use crate::canvas::Canvas;
use crate::pointer::TouchEvent;
use crate::theme;

/// Farthest that the stick can be pushed.
const STICK_PX: f32 = 56.0;
const KNOB_PX: f32 = 26.0;
/// Share of the stick's way that counts as rest, because a thumb trembles.
const DEAD_ZONE: f32 = 0.12;
/// Width of the ring around a button that belongs to it.
const MARGIN_PX: f32 = 10.0;
/// Factor of the camera's distance for one notch of the wheel.
const PINCH_PER_NOTCH: f32 = 0.86;

/// The fingers on the controls.
#[derive(Debug, Default)]
pub(crate) struct TouchControls {
    fingers: BTreeMap<u64, Finger>,
    /// Whether the run button is switched on.
    runs: bool,
}

#[derive(Debug, Clone, Copy)]
struct Finger {
    start: Vec2,
    place: Vec2,
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Stick,
    Look,
    Button(Button),
}

/// A round button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Button {
    Jump,
    Run,
    Take,
    Menu,
}

const BUTTONS: [Button; 4] = [Button::Jump, Button::Run, Button::Take, Button::Menu];

/// The input from the controls in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct TouchInput {
    /// The stick's direction: to the right and forward, at most 1 long.
    pub(crate) direction: Vec2,
    /// Whether the jump button is down.
    pub(crate) jump: bool,
    /// Whether the run button is switched on.
    pub(crate) fast: bool,
    /// Whether the take button went down.
    pub(crate) take: bool,
    /// Whether the menu button was tapped.
    pub(crate) menu: bool,
    /// The drag of a finger that turns the camera, in logical pixels.
    pub(crate) drag: Vec2,
    /// The pinch of two fingers, in notches of the wheel.
    pub(crate) zoom: f32,
}

impl TouchControls {
    /// Applies the changes of a frame on a screen of this size.
    pub(crate) fn update(&mut self, touches: &[TouchEvent], screen: Vec2) -> TouchInput {
        let mut input = TouchInput::default();
        for touch in touches {
            match touch.phase {
                TouchPhase::Started => self.press(touch, screen, &mut input),
                TouchPhase::Moved => self.drag(touch, &mut input),
                TouchPhase::Ended => self.lift(touch, screen, &mut input),
                TouchPhase::Cancelled => {
                    self.fingers.remove(&touch.finger);
                }
            }
        }
        input.direction = self.stick().map_or(Vec2::ZERO, |finger| tilt(&finger));
        input.jump |= self.is_down(Button::Jump);
        input.fast = self.runs;
        input
    }

    /// Releases all controls.
    pub(crate) fn release(&mut self) {
        self.fingers.clear();
    }

    /// Draws the controls. `take` is the take button's label while it can do something.
    pub(crate) fn show(&self, canvas: &Canvas, screen: Vec2, take: Option<&str>) {
        let base = self.stick().map_or(stick_rest(screen), |stick| stick.start);
        let knob = self.stick().map_or(Vec2::ZERO, |stick| tilt(&stick));
        disc(canvas, base, STICK_PX, theme::PILL);
        ring(canvas, base, STICK_PX, theme::LINE);
        let knob = base + knob * vec2(1.0, -1.0) * STICK_PX;
        disc(canvas, knob, KNOB_PX, theme::faded(theme::TEXT, 0.55));
        for button in BUTTONS {
            let (centre, radius) = button.place(screen);
            let is_lit = match button {
                Button::Run => self.runs,
                Button::Take => take.is_some(),
                _ => self.is_down(button),
            };
            let (ground, text) = if is_lit {
                (theme::faded(theme::ACCENT, 0.85), theme::ON_ACCENT)
            } else {
                (theme::PILL, theme::TEXT)
            };
            disc(canvas, centre, radius, ground);
            ring(canvas, centre, radius, theme::LINE);
            if button == Button::Menu {
                show_bars(canvas, centre, text);
            } else {
                let label = button.label(take);
                canvas.text_centred(label, centre.x, centre.y, theme::SMALL, text);
            }
        }
    }

    fn press(&mut self, touch: &TouchEvent, screen: Vec2, input: &mut TouchInput) {
        let role = self.role(touch.place, screen);
        match role {
            Role::Button(Button::Run) => self.runs = !self.runs,
            Role::Button(Button::Take) => input.take = true,
            // A short tap may begin and end within one frame.
            Role::Button(Button::Jump) => input.jump = true,
            _ => {}
        }
        let finger = Finger {
            start: touch.place,
            place: touch.place,
            role,
        };
        self.fingers.insert(touch.finger, finger);
    }

    fn drag(&mut self, touch: &TouchEvent, input: &mut TouchInput) {
        let looking = self.look_places();
        let Some(finger) = self.fingers.get_mut(&touch.finger) else {
            return;
        };
        let before = finger.place;
        finger.place = touch.place;
        if finger.role != Role::Look {
            return;
        }
        match looking[..] {
            [_] => input.drag += touch.place - before,
            [first, second] => {
                let other = if first == before { second } else { first };
                let spread = touch.place.distance(other) / before.distance(other).max(1.0);
                input.zoom += spread.max(0.01).ln() / -PINCH_PER_NOTCH.ln();
            }
            _ => {}
        }
    }

    fn lift(&mut self, touch: &TouchEvent, screen: Vec2, input: &mut TouchInput) {
        let finger = self.fingers.remove(&touch.finger);
        let menu = Role::Button(Button::Menu);
        input.menu |= finger
            .is_some_and(|finger| finger.role == menu && Button::Menu.holds(touch.place, screen));
    }

    /// Returns the role of a finger that comes down at a place.
    fn role(&self, place: Vec2, screen: Vec2) -> Role {
        let button = BUTTONS
            .into_iter()
            .find(|button| button.holds(place, screen));
        match button {
            Some(button) => Role::Button(button),
            // A thumb lands anywhere in its corner, and the stick is centred under it.
            None if self.stick().is_none()
                && place.x < screen.x * 0.45
                && place.y > screen.y * 0.5 =>
            {
                Role::Stick
            }
            None => Role::Look,
        }
    }

    fn stick(&self) -> Option<Finger> {
        let mut fingers = self.fingers.values();
        fingers.find(|finger| finger.role == Role::Stick).copied()
    }

    fn is_down(&self, button: Button) -> bool {
        let mut fingers = self.fingers.values();
        fingers.any(|finger| finger.role == Role::Button(button))
    }

    fn look_places(&self) -> Vec<Vec2> {
        let looking = self
            .fingers
            .values()
            .filter(|finger| finger.role == Role::Look);
        looking.map(|finger| finger.place).collect()
    }
}

impl Button {
    /// Returns the button's centre and radius.
    fn place(self, screen: Vec2) -> (Vec2, f32) {
        match self {
            Self::Jump => (screen - vec2(66.0, 92.0), 42.0),
            Self::Run => (screen - vec2(156.0, 66.0), 32.0),
            Self::Take => (screen - vec2(56.0, 186.0), 32.0),
            Self::Menu => (vec2(screen.x - 36.0, 36.0), 20.0),
        }
    }

    fn holds(self, place: Vec2, screen: Vec2) -> bool {
        let (centre, radius) = self.place(screen);
        centre.distance(place) < radius + MARGIN_PX
    }

    fn label(self, take: Option<&str>) -> &str {
        match self {
            Self::Jump => "Jump",
            Self::Run => "Run",
            Self::Take => take.unwrap_or("Take"),
            Self::Menu => "",
        }
    }
}

/// Returns where the stick is drawn while no thumb is on it.
fn stick_rest(screen: Vec2) -> Vec2 {
    vec2(92.0, screen.y - 100.0)
}

/// Returns how far a finger has pushed the stick: to the right and forward, at most 1 long.
fn tilt(finger: &Finger) -> Vec2 {
    let pushed = (finger.place - finger.start) / STICK_PX * vec2(1.0, -1.0);
    let length = pushed.length();
    if length < DEAD_ZONE {
        return Vec2::ZERO;
    }
    pushed / length * ((length - DEAD_ZONE) / (1.0 - DEAD_ZONE)).min(1.0)
}

fn disc(canvas: &Canvas, centre: Vec2, radius: f32, colour: Color) {
    canvas.rounded(square(centre, radius), radius, colour);
}

fn ring(canvas: &Canvas, centre: Vec2, radius: f32, colour: Color) {
    canvas.outline(square(centre, radius), radius, 1.5, colour);
}

fn square(centre: Vec2, radius: f32) -> Rect {
    Rect::new(
        centre.x - radius,
        centre.y - radius,
        2.0 * radius,
        2.0 * radius,
    )
}

fn show_bars(canvas: &Canvas, centre: Vec2, colour: Color) {
    for line in [-6.0, 0.0, 6.0] {
        let bar = Rect::new(centre.x - 8.0, centre.y + line - 1.0, 16.0, 2.0);
        canvas.rounded(bar, 1.0, colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: Vec2 = Vec2::new(390.0, 844.0);

    fn touch(finger: u64, phase: TouchPhase, place: Vec2) -> TouchEvent {
        TouchEvent {
            finger,
            phase,
            place,
        }
    }

    fn press(controls: &mut TouchControls, finger: u64, place: Vec2) -> TouchInput {
        controls.update(&[touch(finger, TouchPhase::Started, place)], SCREEN)
    }

    fn drag(controls: &mut TouchControls, finger: u64, place: Vec2) -> TouchInput {
        controls.update(&[touch(finger, TouchPhase::Moved, place)], SCREEN)
    }

    fn lift(controls: &mut TouchControls, finger: u64, place: Vec2) -> TouchInput {
        controls.update(&[touch(finger, TouchPhase::Ended, place)], SCREEN)
    }

    #[test]
    fn the_stick_starts_under_the_thumb_and_returns_to_rest() {
        let mut controls = TouchControls::default();
        let thumb = vec2(120.0, 700.0);
        assert_eq!(press(&mut controls, 1, thumb).direction, Vec2::ZERO);
        let up = drag(&mut controls, 1, thumb - vec2(0.0, STICK_PX * 3.0));
        assert_eq!(up.direction, vec2(0.0, 1.0));
        let half = drag(&mut controls, 1, thumb + vec2(STICK_PX / 2.0, 0.0));
        assert!(half.direction.x > 0.3 && half.direction.x < 0.6);
        assert_eq!(lift(&mut controls, 1, thumb).direction, Vec2::ZERO);
    }

    #[test]
    fn one_finger_looks_around_while_another_walks() {
        let mut controls = TouchControls::default();
        press(&mut controls, 1, vec2(100.0, 740.0));
        drag(&mut controls, 1, vec2(100.0, 600.0));
        press(&mut controls, 2, vec2(300.0, 300.0));
        let both = drag(&mut controls, 2, vec2(290.0, 305.0));
        assert_eq!(both.drag, vec2(-10.0, 5.0));
        assert_eq!(both.direction, vec2(0.0, 1.0));
    }

    #[test]
    fn two_fingers_zoom_and_do_not_turn() {
        let mut controls = TouchControls::default();
        press(&mut controls, 1, vec2(200.0, 300.0));
        press(&mut controls, 2, vec2(300.0, 300.0));
        let spread = drag(&mut controls, 2, vec2(400.0, 300.0));
        assert_eq!(spread.drag, Vec2::ZERO);
        // Twice as far apart brings the camera twice as near.
        assert!((PINCH_PER_NOTCH.powf(spread.zoom) - 0.5).abs() < 1e-4);
    }

    #[test]
    fn a_tap_shorter_than_a_frame_still_jumps_and_takes() {
        let mut controls = TouchControls::default();
        for (button, pressed) in [(Button::Jump, [true, false]), (Button::Take, [false, true])] {
            let (centre, _) = button.place(SCREEN);
            let tap = [
                touch(1, TouchPhase::Started, centre),
                touch(1, TouchPhase::Ended, centre),
            ];
            let input = controls.update(&tap, SCREEN);
            assert_eq!([input.jump, input.take], pressed, "{button:?}");
            let after = controls.update(&[], SCREEN);
            assert!(!after.jump && !after.take);
        }
    }

    #[test]
    fn run_stays_on_until_it_is_touched_again() {
        let mut controls = TouchControls::default();
        let (run, _) = Button::Run.place(SCREEN);
        press(&mut controls, 1, run);
        assert!(lift(&mut controls, 1, run).fast);
        assert!(!press(&mut controls, 2, run).fast);
    }

    #[test]
    fn a_finger_that_slides_off_the_menu_button_opens_nothing() {
        let mut controls = TouchControls::default();
        let (menu, _) = Button::Menu.place(SCREEN);
        press(&mut controls, 1, menu);
        assert!(!lift(&mut controls, 1, menu - vec2(100.0, 0.0)).menu);
        press(&mut controls, 1, menu);
        assert!(lift(&mut controls, 1, menu).menu);
    }
}

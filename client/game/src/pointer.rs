//! The pointer that fingers make: a tap is a click.

use std::collections::BTreeMap;

use macroquad::math::Vec2;
use macroquad::miniquad::TouchPhase;

/// Farthest that a finger may move and still tap, in logical pixels.
const TAP_PX: f32 = 16.0;
/// The pointer's place while no finger is down: outside of everything, since fingers do not hover.
const NOWHERE: Vec2 = Vec2::splat(-1e4);

/// One change of a finger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TouchEvent {
    /// A number that tells fingers apart while they are down.
    pub(crate) finger: u64,
    /// Whether the finger came down, moved or went up.
    pub(crate) phase: TouchPhase,
    /// The finger's place, in logical pixels.
    pub(crate) place: Vec2,
}

/// The fingers, which take the mouse's place from the first touch until the mouse moves.
#[derive(Debug, Default)]
pub(crate) struct Fingers {
    in_use: bool,
    touches: Vec<TouchEvent>,
    /// The place of each finger that is down.
    down: BTreeMap<u64, Vec2>,
    /// The finger that may tap, and where it came down.
    tapping: Option<(u64, Vec2)>,
}

/// The fingers' input in one frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FingerFrame {
    /// All changes, in order.
    pub(crate) touches: Vec<TouchEvent>,
    /// The place of the finger that may tap.
    pub(crate) place: Vec2,
    /// Whether that finger tapped.
    pub(crate) tapped: bool,
}

impl Fingers {
    /// Creates the state without a finger down. `in_use` is set where people have no mouse.
    pub(crate) fn new(in_use: bool) -> Self {
        Self {
            in_use,
            ..Self::default()
        }
    }

    /// Records a change of a finger.
    pub(crate) fn on_touch(&mut self, touch: TouchEvent) {
        self.in_use = true;
        match touch.phase {
            TouchPhase::Started | TouchPhase::Moved => {
                self.down.insert(touch.finger, touch.place);
            }
            TouchPhase::Ended | TouchPhase::Cancelled => {
                self.down.remove(&touch.finger);
            }
        }
        self.touches.push(touch);
    }

    /// Records that the mouse was moved, so that it is in use now.
    pub(crate) fn on_mouse(&mut self) {
        self.in_use = false;
    }

    /// Cancels every finger that is down, because no event will tell when they go up.
    pub(crate) fn release(&mut self) {
        let down = std::mem::take(&mut self.down);
        self.touches
            .extend(down.into_iter().map(|(finger, place)| TouchEvent {
                finger,
                phase: TouchPhase::Cancelled,
                place,
            }));
    }

    /// Returns the input since the last call, or nothing while the mouse is in use.
    pub(crate) fn take_frame(&mut self) -> Option<FingerFrame> {
        let touches = std::mem::take(&mut self.touches);
        let mut frame = FingerFrame {
            touches,
            place: self.tapping.map_or(NOWHERE, |(_, place)| place),
            tapped: false,
        };
        for touch in &frame.touches {
            match (touch.phase, self.tapping) {
                (TouchPhase::Started, None) => self.tapping = Some((touch.finger, touch.place)),
                (TouchPhase::Ended | TouchPhase::Cancelled, Some((finger, start)))
                    if finger == touch.finger =>
                {
                    self.tapping = None;
                    // A click comes when the finger goes up: only then do browsers let a page
                    // fill the screen or use the clipboard.
                    let stayed = start.distance(touch.place) < TAP_PX;
                    frame.tapped |= touch.phase == TouchPhase::Ended && stayed;
                }
                _ => continue,
            }
            frame.place = touch.place;
        }
        self.in_use.then_some(frame)
    }
}

#[cfg(test)]
mod tests {
    use macroquad::math::vec2;

    use super::*;

    fn touch(finger: u64, phase: TouchPhase, x: f32) -> TouchEvent {
        let place = vec2(x, 0.0);
        TouchEvent {
            finger,
            phase,
            place,
        }
    }

    fn frame(fingers: &mut Fingers, touches: &[TouchEvent]) -> FingerFrame {
        touches.iter().for_each(|&touch| fingers.on_touch(touch));
        fingers.take_frame().unwrap()
    }

    #[test]
    fn a_finger_that_goes_up_where_it_came_down_taps_there_even_within_a_frame() {
        let mut fingers = Fingers::default();
        let both = [
            touch(1, TouchPhase::Started, 50.0),
            touch(1, TouchPhase::Ended, 52.0),
        ];
        let taps = frame(&mut fingers, &both);
        assert!(taps.tapped && taps.place.x == 52.0);
        let after = frame(&mut fingers, &[]);
        assert!(!after.tapped && after.place == NOWHERE);
    }

    #[test]
    fn a_drag_a_second_finger_and_a_cancelled_touch_do_not_tap() {
        let mut fingers = Fingers::default();
        let drag = [
            touch(1, TouchPhase::Started, 0.0),
            touch(2, TouchPhase::Started, 0.0),
            touch(2, TouchPhase::Ended, 0.0),
            touch(1, TouchPhase::Moved, 90.0),
            touch(1, TouchPhase::Ended, 90.0),
        ];
        assert!(!frame(&mut fingers, &drag).tapped);
        let cancelled = [
            touch(3, TouchPhase::Started, 0.0),
            touch(3, TouchPhase::Cancelled, 0.0),
        ];
        assert!(!frame(&mut fingers, &cancelled).tapped);
    }

    #[test]
    fn losing_the_window_lifts_every_finger_once() {
        let mut fingers = Fingers::default();
        let two = [1, 2].map(|finger| touch(finger, TouchPhase::Started, 0.0));
        frame(&mut fingers, &two);
        fingers.release();
        fingers.release();
        let lifted = fingers.take_frame().unwrap().touches;
        let expected = [1, 2].map(|finger| touch(finger, TouchPhase::Cancelled, 0.0));
        assert_eq!(lifted, expected);
    }

    #[test]
    fn a_mouse_takes_over_when_it_moves_and_a_finger_when_it_touches() {
        let mut fingers = Fingers::default();
        assert_eq!(fingers.take_frame(), None);
        frame(&mut fingers, &[touch(1, TouchPhase::Started, 0.0)]);
        fingers.on_mouse();
        assert_eq!(fingers.take_frame(), None);
    }
}

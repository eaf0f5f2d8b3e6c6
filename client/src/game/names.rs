//! The names that float above cubes.

use cubesync_client::CubeView;
use cubesync_client::protocol::CubeKind;
use macroquad::math::{Rect, Vec2, Vec3, vec3};

use crate::camera::View;
use crate::canvas::Canvas;
use crate::theme;

/// From a cube's centre up to its name.
const ABOVE_M: f32 = 0.95;
/// Names farther away than this fade, and are gone at twice the distance.
const CLEAR_M: f32 = 42.0;
/// Names nearer than this are written larger.
const NEAR_M: f32 = 18.0;
/// A crowd is not readable; the nearest names are.
const MAX_NAMES: usize = 120;

/// A name on the screen.
struct Label<'a> {
    text: &'a str,
    place: Vec2,
    distance_m: f32,
    is_free_cube: bool,
}

/// Draws the names of all cubes that a view sees.
pub(crate) fn show(canvas: &Canvas, view: &View, screen: Vec2, cubes: &[CubeView<'_>]) {
    let labels = labels(view, screen, cubes);
    // All pills first: what is of one kind is drawn in one go.
    for label in &labels {
        let size = label.size();
        let width = canvas.width(label.text, size) + 18.0;
        let height = f32::from(size) + 9.0;
        let area = Rect::new(
            label.place.x - width / 2.0,
            label.place.y - height / 2.0,
            width,
            height,
        );
        canvas.rounded(
            area,
            height / 2.0,
            theme::faded(theme::PILL, label.opacity()),
        );
    }
    for label in &labels {
        let colour = if label.is_free_cube {
            theme::ACCENT
        } else {
            theme::TEXT
        };
        let colour = theme::faded(colour, label.opacity());
        canvas.text_centred(
            label.text,
            label.place.x,
            label.place.y,
            label.size(),
            colour,
        );
    }
}

/// The names to draw, the farthest first.
fn labels<'a>(view: &View, screen: Vec2, cubes: &[CubeView<'a>]) -> Vec<Label<'a>> {
    let shown = Rect::new(-100.0, -20.0, screen.x + 200.0, screen.y + 40.0);
    let mut labels: Vec<Label<'a>> = cubes
        .iter()
        .filter_map(|cube| {
            let above = Vec3::from(cube.position) + vec3(0.0, 0.0, ABOVE_M);
            let (place, distance_m) = view.project(above)?;
            (shown.contains(place) && distance_m < 2.0 * CLEAR_M).then_some(Label {
                text: cube.name,
                place,
                distance_m,
                is_free_cube: matches!(cube.kind, CubeKind::Free { .. }),
            })
        })
        .collect();
    labels.sort_by(|a, b| b.distance_m.total_cmp(&a.distance_m));
    labels.split_off(labels.len().saturating_sub(MAX_NAMES))
}

impl Label<'_> {
    fn size(&self) -> u16 {
        if self.distance_m < NEAR_M {
            theme::BODY
        } else {
            theme::SMALL
        }
    }

    fn opacity(&self) -> f32 {
        (2.0 - self.distance_m / CLEAR_M).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use cubesync_client::protocol::{Colour, CubeId};
    use macroquad::math::vec2;

    use super::*;
    use crate::camera::Camera;

    const SCREEN: Vec2 = Vec2::new(1280.0, 720.0);

    fn cube(y: f32) -> CubeView<'static> {
        CubeView {
            cube: CubeId(1),
            kind: CubeKind::Player,
            name: "Вася",
            colour: Colour::from([1, 2, 3]),
            position: [0.0, y, 0.5],
            rotation: [0.0, 0.0, 0.0, 1.0],
            own: false,
            stale: false,
        }
    }

    fn seen(cubes: &[CubeView<'static>]) -> Vec<f32> {
        // The camera stands 10 m south of the origin and looks north.
        let view = Camera::new(vec3(0.0, 0.0, 0.5)).view(SCREEN);
        labels(&view, SCREEN, cubes)
            .iter()
            .map(Label::opacity)
            .collect()
    }

    #[test]
    fn names_behind_the_camera_and_in_the_distance_are_not_drawn() {
        assert_eq!(seen(&[cube(0.0)]), [1.0]);
        assert!(seen(&[cube(-30.0), cube(100.0)]).is_empty());
        let fading = seen(&[cube(50.0)])[0];
        assert!(fading > 0.0 && fading < 1.0);
    }

    #[test]
    fn a_crowd_shows_its_nearest_names_last() {
        let crowd: Vec<_> = (0..300).map(|index| cube(index as f32 * 0.1)).collect();
        let view = Camera::new(vec3(0.0, 0.0, 0.5)).view(SCREEN);
        let labels = labels(&view, SCREEN, &crowd);
        assert_eq!(labels.len(), MAX_NAMES);
        assert!(labels.is_sorted_by(|far, near| far.distance_m >= near.distance_m));
        assert!(labels[MAX_NAMES - 1].place.distance(vec2(640.0, 360.0)) < 60.0);
    }
}

//! The names above the cubes.

use std::borrow::Cow;

use cubesync_client::CubeView;
use cubesync_client::protocol::CubeKind;
use macroquad::math::{Rect, Vec2, Vec3, vec2, vec3};

use crate::camera::CameraView;
use crate::canvas::Canvas;
use crate::theme;

/// Height of a name above its cube's centre.
const ABOVE_M: f32 = 0.95;
/// Distance from which on names fade; they are invisible at twice this distance.
const CLEAR_M: f32 = 42.0;
/// Distance below which names are written larger.
const NEAR_M: f32 = 18.0;
/// Most names at once: the names of a whole crowd cannot be read.
const MAX_NAMES: usize = 120;
/// Greatest width of a name: two dozen Chinese characters would hide the neighbours.
const WIDEST: f32 = 280.0;

/// A name on the screen.
struct NameLabel<'a> {
    text: Cow<'a, str>,
    area: Rect,
    distance_m: f32,
    is_free_cube: bool,
    is_own: bool,
}

/// Draws the names of all cubes that a view sees.
pub(crate) fn show(canvas: &Canvas, view: &CameraView, screen: Vec2, cubes: &[CubeView<'_>]) {
    let mut labels = labels(view, screen, cubes, |name, size| fitted(canvas, name, size));
    labels.retain(|label| canvas.is_name_ready(&label.text, label.size()));
    // All pills come first, because shapes of one kind are drawn in one call.
    for label in &labels {
        let pill = theme::faded(theme::PILL, label.opacity());
        canvas.rounded(label.area, label.area.h / 2.0, pill);
    }
    for label in &labels {
        let colour = if label.is_free_cube {
            theme::ACCENT
        } else {
            theme::TEXT
        };
        let colour = theme::faded(colour, label.opacity());
        let middle = label.area.center();
        canvas.text_centred(&label.text, middle.x, middle.y, label.size(), colour);
    }
}

/// Returns the names to draw, the most important ones first: the own name, the free cube's, then
/// the nearest. A name that would cover another one is left out, since neither could be read, and
/// so is one whose width is not known yet.
fn labels<'a>(
    view: &CameraView,
    screen: Vec2,
    cubes: &[CubeView<'a>],
    fitted: impl Fn(&'a str, u16) -> Option<(Cow<'a, str>, f32)>,
) -> Vec<NameLabel<'a>> {
    let visible = Rect::new(0.0, 0.0, screen.x, screen.y);
    let mut seen: Vec<(Vec2, &'a str, NameLabel<'a>)> = cubes
        .iter()
        .filter(|cube| !cube.name.is_empty())
        .filter_map(|cube| NameLabel::new(cube, view))
        .collect();
    seen.sort_by(|(.., a), (.., b)| {
        let last = |label: &NameLabel<'_>| (!label.is_own, !label.is_free_cube);
        last(a)
            .cmp(&last(b))
            .then(a.distance_m.total_cmp(&b.distance_m))
    });
    let mut labels: Vec<NameLabel<'a>> = Vec::new();
    for (place, name, mut label) in seen {
        let size = label.size();
        let Some((text, width)) = fitted(name, size) else {
            continue;
        };
        label.text = text;
        let extent = vec2(width + 18.0, f32::from(size) + 9.0);
        label.area = around(place, extent);
        let covers = |other: &NameLabel<'_>| around(place, extent * 0.6).overlaps(&other.core());
        if label.area.overlaps(&visible) && !labels.iter().any(covers) {
            labels.push(label);
        }
        if labels.len() == MAX_NAMES {
            break;
        }
    }
    labels
}

/// Returns what has room of a name, and its width, unless too many names were new in this frame.
fn fitted<'a>(canvas: &Canvas, name: &'a str, size: u16) -> Option<(Cow<'a, str>, f32)> {
    let width = canvas.name_width(name, size)?;
    if width <= WIDEST {
        return Some((name.into(), width));
    }
    let shorter = canvas.fitted(name, WIDEST, size);
    let width = canvas.width(&shorter, size);
    Some((shorter, width))
}

fn around(middle: Vec2, extent: Vec2) -> Rect {
    let corner = middle - extent / 2.0;
    Rect::new(corner.x, corner.y, extent.x, extent.y)
}

impl<'a> NameLabel<'a> {
    /// Returns the place of a label's middle on the screen, the cube's name, and the label without
    /// its text, unless the cube is too far away or behind the camera.
    fn new(cube: &CubeView<'a>, view: &CameraView) -> Option<(Vec2, &'a str, Self)> {
        let above = Vec3::from(cube.position) + vec3(0.0, 0.0, ABOVE_M);
        let (place, distance_m) = view.project(above)?;
        let label = Self {
            text: Cow::default(),
            area: Rect::default(),
            distance_m,
            is_free_cube: matches!(cube.kind, CubeKind::Free { .. }),
            is_own: cube.own,
        };
        (distance_m < 2.0 * CLEAR_M).then_some((place, cube.name, label))
    }
}

impl NameLabel<'_> {
    /// Returns the part of the area that no other name may cover.
    fn core(&self) -> Rect {
        around(self.area.center(), self.area.size() * 0.6)
    }

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

    use super::*;
    use crate::camera::Camera;

    const SCREEN: Vec2 = Vec2::new(1280.0, 720.0);

    fn cube(y: f32) -> CubeView<'static> {
        CubeView {
            cube: CubeId(1),
            kind: CubeKind::Player,
            name: "Вася",
            colour: Colour::from([1, 2, 3]),
            width_m: 1.0,
            position: [0.0, y, 0.5],
            rotation: [0.0, 0.0, 0.0, 1.0],
            own: false,
            stale: false,
        }
    }

    fn seen(cubes: &[CubeView<'static>]) -> Vec<NameLabel<'static>> {
        // The camera stands south of the origin and looks north.
        let view = Camera::new(vec3(0.0, 0.0, 0.5)).view(SCREEN);
        labels(&view, SCREEN, cubes, |name, _| Some((name.into(), 40.0)))
    }

    #[test]
    fn names_behind_the_camera_and_in_the_distance_are_not_drawn() {
        assert!(seen(&[cube(-30.0), cube(200.0)]).is_empty());
        let near = seen(&[cube(0.0)]);
        assert_eq!((near.len(), near[0].opacity()), (1, 1.0));
        let fading = seen(&[cube(50.0)])[0].opacity();
        assert!(fading > 0.0 && fading < 1.0);
    }

    #[test]
    fn of_names_on_top_of_each_other_the_nearest_is_drawn_and_the_own_one_before_it() {
        let row = [cube(8.0), cube(0.0), cube(9.0), cube(8.5)];
        let shown = seen(&row);
        assert_eq!(
            shown.len(),
            2,
            "one in front, and one of the three behind it"
        );
        assert!(shown[0].distance_m < shown[1].distance_m);
        let own = CubeView {
            own: true,
            ..cube(9.0)
        };
        let shown = seen(&[cube(8.5), own]);
        assert!(shown.len() == 1 && shown[0].is_own);
    }

    #[test]
    fn a_name_that_is_not_measured_yet_leaves_its_place_to_the_next() {
        let view = Camera::new(vec3(0.0, 0.0, 0.5)).view(SCREEN);
        let new = CubeView {
            name: "новая",
            ..cube(8.0)
        };
        let measured = |name: &'static str, _| (name != "новая").then_some((name.into(), 40.0));
        let shown = labels(&view, SCREEN, &[new, cube(8.5)], measured);
        assert_eq!(
            shown.iter().map(|label| &label.text).collect::<Vec<_>>(),
            ["Вася"]
        );
    }

    #[test]
    fn a_crowd_shows_a_bounded_number_of_names() {
        let spread = |index: i32| CubeView {
            position: [(index % 40 - 20) as f32, (index / 40) as f32 * 3.0, 0.5],
            ..cube(0.0)
        };
        let crowd: Vec<_> = (0..1000).map(spread).collect();
        let view = Camera::new(vec3(0.0, 0.0, 0.5)).view(SCREEN);
        let shown = labels(&view, SCREEN, &crowd, |name, _| Some((name.into(), 1.0)));
        assert_eq!(shown.len(), MAX_NAMES);
    }
}

//! The third-person camera: it orbits the own cube and follows it softly.

use std::f32::consts::{FRAC_PI_2, TAU};

use macroquad::math::{Mat4, Vec2, Vec3, Vec3Swizzles, Vec4Swizzles, vec2, vec3};

/// Vertical field of view.
const FIELD_OF_VIEW_RAD: f32 = 0.92;
const NEAREST_M: f32 = 3.0;
const FARTHEST_M: f32 = 60.0;
/// Length of a drag that turns the view by half a circle, in pixels.
const HALF_TURN_PX: f32 = 700.0;
/// Factor of the distance for one notch of the wheel.
const ZOOM_PER_NOTCH: f32 = 0.86;
/// Rate at which the camera follows its target, per second.
const FOLLOW_RATE_PER_S: f32 = 14.0;
/// Least height of the eye above the floor.
const LOWEST_EYE_M: f32 = 0.35;
/// Height above the cube's centre at which the camera looks, so that the cube is drawn below the
/// middle of the screen.
const LOOK_ABOVE_M: f32 = 0.8;

/// The camera's place relative to the point that it follows.
#[derive(Debug, Clone)]
pub(crate) struct Camera {
    /// The direction of view seen from above, measured from the x axis.
    yaw_rad: f32,
    /// The angle by which the camera looks down.
    pitch_rad: f32,
    distance_m: f32,
    wanted_distance_m: f32,
    target: Vec3,
}

impl Camera {
    /// Creates a camera that looks north at a point.
    pub(crate) fn new(target: Vec3) -> Self {
        Self {
            yaw_rad: FRAC_PI_2,
            pitch_rad: 0.39,
            distance_m: 10.0,
            wanted_distance_m: 10.0,
            target,
        }
    }

    /// Returns the camera on another side of its target.
    pub(crate) fn turned_to(mut self, yaw_rad: f32, pitch_rad: f32, distance_m: f32) -> Self {
        self.yaw_rad = yaw_rad;
        self.pitch_rad = pitch_rad;
        self.distance_m = distance_m;
        self.wanted_distance_m = distance_m;
        self
    }

    /// Turns the camera by a drag of the mouse in pixels, so that the scene follows the hand.
    pub(crate) fn drag(&mut self, pixels: Vec2) {
        let turn = pixels * (TAU / 2.0 / HALF_TURN_PX);
        self.yaw_rad = (self.yaw_rad - turn.x).rem_euclid(TAU);
        self.pitch_rad = (self.pitch_rad + turn.y).clamp(-0.15, 1.45);
    }

    /// Brings the camera nearer (positive) or farther away, in notches of the wheel.
    pub(crate) fn zoom(&mut self, notches: f32) {
        self.wanted_distance_m =
            (self.wanted_distance_m * ZOOM_PER_NOTCH.powf(notches)).clamp(NEAREST_M, FARTHEST_M);
    }

    /// Follows a cube's centre for one frame.
    pub(crate) fn follow(&mut self, centre: Vec3, dt_s: f32) {
        let share = 1.0 - (-FOLLOW_RATE_PER_S * dt_s).exp();
        self.target += (centre - self.target) * share;
        self.distance_m += (self.wanted_distance_m - self.distance_m) * share;
    }

    /// Moves to a new cube at once, and turns towards the world's middle, where most players are.
    pub(crate) fn jump_to(&mut self, centre: Vec3) {
        self.target = centre;
        if centre.xy().length() > 1.0 {
            self.yaw_rad = (-centre.y).atan2(-centre.x);
        }
    }

    /// Converts a direction on the screen (to the right, forward) into the world's x and y.
    pub(crate) fn on_floor(&self, keys: Vec2) -> Vec2 {
        let forward = Vec2::from_angle(self.yaw_rad);
        vec2(forward.y, -forward.x) * keys.x + forward * keys.y
    }

    /// Returns what the camera sees on a screen of a size in any unit.
    pub(crate) fn view(&self, screen: Vec2) -> CameraView {
        let look_at = self.target + vec3(0.0, 0.0, LOOK_ABOVE_M);
        let (pitch_sine, pitch_cosine) = self.pitch_rad.sin_cos();
        let ahead = (Vec2::from_angle(self.yaw_rad) * pitch_cosine).extend(-pitch_sine);
        let mut eye = look_at - ahead * self.distance_m;
        eye.z = eye.z.max(LOWEST_EYE_M);
        CameraView::new(eye, look_at, screen.max(Vec2::ONE))
    }
}

/// A camera's view of the scene on a screen.
#[derive(Debug, Clone)]
pub(crate) struct CameraView {
    /// The camera's place.
    pub(crate) eye: Vec3,
    /// From the eye to the middle of the view, one metre long.
    pub(crate) forward: Vec3,
    /// From the middle to the right edge, one metre away from the eye.
    pub(crate) right: Vec3,
    /// From the middle to the upper edge, one metre away from the eye.
    pub(crate) up: Vec3,
    /// The matrix from the world to clip space.
    pub(crate) matrix: Mat4,
    screen: Vec2,
}

impl CameraView {
    fn new(eye: Vec3, look_at: Vec3, screen: Vec2) -> Self {
        let aspect = screen.x / screen.y;
        // A tall window sees as much to the sides as a square one.
        let tangent = (FIELD_OF_VIEW_RAD / 2.0).tan() / aspect.min(1.0);
        let forward = (look_at - eye).normalize_or(Vec3::X);
        let right = forward.cross(Vec3::Z).normalize_or(Vec3::NEG_Y);
        let up = right.cross(forward);
        let projection = Mat4::perspective_rh_gl(2.0 * tangent.atan(), aspect, 0.1, 2_000.0);
        Self {
            eye,
            forward,
            right: right * tangent * aspect,
            up: up * tangent,
            matrix: projection * Mat4::look_at_rh(eye, look_at, Vec3::Z),
            screen,
        }
    }

    /// Returns where on the screen a point is, and its distance from the camera; `None` for a
    /// point behind the camera.
    pub(crate) fn project(&self, point: Vec3) -> Option<(Vec2, f32)> {
        let clip = self.matrix * point.extend(1.0);
        if clip.w < 0.1 {
            return None;
        }
        let middle = clip.xy() / clip.w * vec2(0.5, -0.5) + 0.5;
        Some((middle * self.screen, point.distance(self.eye)))
    }

    /// Returns the angle that one unit of the screen covers, in radians.
    pub(crate) fn pixel_rad(&self) -> f32 {
        2.0 * self.up.length() / self.screen.y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: Vec2 = Vec2::new(1280.0, 720.0);

    fn camera() -> Camera {
        Camera::new(vec3(0.0, 0.0, 0.5))
    }

    #[test]
    fn forward_keys_move_away_from_the_eye_and_right_keys_to_the_right() {
        let mut camera = camera();
        camera.drag(vec2(123.0, 45.0));
        let view = camera.view(SCREEN);
        let ahead = camera.on_floor(vec2(0.0, 1.0)).extend(0.0);
        let (middle, _) = view.project(vec3(0.0, 0.0, 0.5)).unwrap();
        let (farther, _) = view.project(vec3(0.0, 0.0, 0.5) + ahead).unwrap();
        assert!(farther.y < middle.y && (farther.x - middle.x).abs() < 0.1);
        let aside = camera.on_floor(vec2(1.0, 0.0)).extend(0.0);
        let (right, _) = view.project(vec3(0.0, 0.0, 0.5) + aside).unwrap();
        assert!(right.x > middle.x + 10.0);
    }

    #[test]
    fn the_point_looked_at_is_in_the_middle_and_points_behind_are_nowhere() {
        let view = camera().view(SCREEN);
        let (middle, distance) = view.project(vec3(0.0, 0.0, 0.5 + LOOK_ABOVE_M)).unwrap();
        assert!(middle.distance(SCREEN / 2.0) < 0.1);
        assert!((distance - 10.0).abs() < 1e-3);
        assert_eq!(view.project(view.eye - view.forward * 5.0), None);
    }

    #[test]
    fn the_edges_of_the_view_are_where_their_rays_say() {
        for screen in [SCREEN, vec2(400.0, 900.0)] {
            let view = camera().view(screen);
            let corner = view.eye + (view.forward + view.right + view.up) * 7.0;
            let (place, _) = view.project(corner).unwrap();
            assert!(place.distance(vec2(screen.x, 0.0)) < 0.1, "{place}");
        }
    }

    #[test]
    fn the_eye_never_goes_below_the_floor() {
        let mut camera = camera();
        camera.zoom(-100.0);
        for _ in 0..1000 {
            camera.follow(vec3(0.0, 0.0, 0.5), 0.016);
        }
        camera.drag(vec2(0.0, -100_000.0));
        assert!(camera.view(SCREEN).eye.z >= LOWEST_EYE_M);
    }

    #[test]
    fn following_does_not_depend_on_the_frame_rate() {
        let goal = vec3(8.0, -3.0, 0.5);
        let (mut fast, mut slow) = (camera(), camera());
        for _ in 0..100 {
            fast.follow(goal, 0.001);
        }
        slow.follow(goal, 0.1);
        assert!(fast.target.distance(slow.target) < 1e-3);
    }
}

//! Draws the scene: sky, floor, shadows, rings of light and cubes, each kind in one draw call.
//!
//! In each frame the shadows of all cubes are drawn into a texture of half the screen's size. The
//! floor's shader reads that texture, rings add light to the floor, and cubes are drawn last. Only
//! another cube can hide a cube, so only cubes are tested for depth.
// The only unsafe call gives access to the GPU beside macroquad; see `Renderer::draw`.
#![allow(unsafe_code)]

use macroquad::math::{Mat4, Quat, Vec2, Vec3, Vec4, vec3};
use macroquad::miniquad::{
    BlendFactor, BlendState, BlendValue, Comparison, Equation, FilterMode, PassAction,
    PipelineParams, RenderPass, RenderingBackend, TextureFormat, TextureId, TextureParams,
    TextureWrap, UniformsSource,
};
use macroquad::window::get_internal_gl;

use crate::camera::CameraView;
use crate::layer::{Instance, Layer, glsl};
use crate::mesh;

/// Direction towards the sun, not normalized: in the northwest, as late in a summer's afternoon.
const SUN: Vec3 = vec3(-0.62, 0.58, 0.52);

/// One cube to draw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SceneCube {
    /// The centre, in metres.
    pub(crate) position: Vec3,
    /// The rotation.
    pub(crate) rotation: Quat,
    /// The edge length, in metres.
    pub(crate) width_m: f32,
    /// The colour in sRGB, each part from 0 to 1.
    pub(crate) colour: Vec3,
    /// The light of its own: 0 for an ordinary cube.
    pub(crate) glow: f32,
    /// The brightness of the ring around the cube: 0 for none.
    pub(crate) ring: f32,
    /// The opacity: 1, or less for a cube that is stale or fades.
    pub(crate) opacity: f32,
    /// When in its period the cube blinks, from 0 to 1; `None` for a cube without eyes.
    pub(crate) blink: Option<f32>,
}

/// The data of a frame in the shaders' layout, in the order of `layer::UNIFORMS`.
#[repr(C)]
struct Uniforms {
    view_projection: Mat4,
    eye: Vec4,
    forward: Vec4,
    right: Vec4,
    up: Vec4,
    sun: Vec4,
}

/// The scene's layers on the GPU.
pub(crate) struct Renderer {
    shadows: Layer,
    sky: Layer,
    ground: Layer,
    rings: Layer,
    cubes: Layer,
    shadow_target: Option<ShadowTarget>,
}

struct ShadowTarget {
    texture: TextureId,
    pass: RenderPass,
    size: [u32; 2],
}

impl Renderer {
    /// Compiles the shaders.
    ///
    /// # Errors
    /// When the graphics driver cannot compile a shader.
    pub(crate) fn new() -> anyhow::Result<Self> {
        // SAFETY: as in `draw`.
        let gl = unsafe { get_internal_gl() };
        let context = gl.quad_context;
        let square = mesh::square();
        let cube = mesh::bevelled_cube();
        let add = blend(BlendFactor::One, BlendFactor::One);
        let multiply = blend(
            BlendFactor::Zero,
            BlendFactor::Value(BlendValue::SourceColor),
        );
        let over = blend(
            BlendFactor::Value(BlendValue::SourceAlpha),
            BlendFactor::OneMinusValue(BlendValue::SourceAlpha),
        );
        let solid = PipelineParams {
            depth_test: Comparison::LessOrEqual,
            depth_write: true,
            ..over
        };
        Ok(Self {
            shadows: Layer::instanced(context, glsl!("shadow"), &square, multiply)?,
            sky: Layer::once(context, glsl!("sky"), &square, &[])?,
            ground: Layer::once(context, glsl!("ground"), &square, &["shadows"])?,
            rings: Layer::instanced(context, glsl!("ring"), &square, add)?,
            cubes: Layer::instanced(context, glsl!("cube"), &cube, solid)?,
            shadow_target: None,
        })
    }

    /// Draws the whole scene. Everything flat is drawn afterwards.
    pub(crate) fn draw(
        &mut self,
        view: &CameraView,
        screen_px: Vec2,
        time_s: f32,
        cubes: &[SceneCube],
    ) {
        // SAFETY: the reference must not live beside another one to macroquad's context. It ends
        // with this function, which calls nothing of macroquad's that would make another one, and
        // everything is drawn on the window's one thread.
        let mut gl = unsafe { get_internal_gl() };
        gl.flush();
        let context = gl.quad_context;

        let uniforms = uniforms(view, time_s);
        let uniforms = || UniformsSource::table(&uniforms);
        let mut instances: Vec<Instance> = cubes.iter().map(Instance::new).collect();
        // Translucent cubes are drawn last, over the opaque ones.
        instances.sort_by(|a, b| b.placed.w.total_cmp(&a.placed.w));
        let ringed: Vec<Instance> = cubes.iter().filter_map(Instance::ring).collect();

        let target = self.shadow_target(context, screen_px);
        context.begin_pass(Some(target.1), PassAction::clear_color(1.0, 1.0, 1.0, 1.0));
        self.shadows.draw_instances(context, uniforms(), &instances);
        context.end_render_pass();

        context.begin_default_pass(PassAction::Clear {
            color: None,
            depth: Some(1.0),
            stencil: None,
        });
        self.sky.draw(context, uniforms(), &[]);
        self.ground.draw(context, uniforms(), &[target.0]);
        self.rings.draw_instances(context, uniforms(), &ringed);
        self.cubes.draw_instances(context, uniforms(), &instances);
        context.end_render_pass();
    }

    /// Returns the shadows' texture and its pass. Half the screen's size is enough, since shadows
    /// are soft.
    fn shadow_target(
        &mut self,
        context: &mut dyn RenderingBackend,
        screen_px: Vec2,
    ) -> (TextureId, RenderPass) {
        let size = [screen_px.x, screen_px.y].map(|side| ((side / 2.0).ceil() as u32).max(1));
        if let Some(target) = self.shadow_target.take_if(|target| target.size != size) {
            context.delete_render_pass(target.pass);
            context.delete_texture(target.texture);
        }
        let target = self.shadow_target.get_or_insert_with(|| {
            let texture = context.new_render_texture(TextureParams {
                format: TextureFormat::RGBA8,
                wrap: TextureWrap::Clamp,
                min_filter: FilterMode::Linear,
                mag_filter: FilterMode::Linear,
                width: size[0],
                height: size[1],
                ..TextureParams::default()
            });
            let pass = context.new_render_pass(texture, None);
            ShadowTarget {
                texture,
                pass,
                size,
            }
        });
        (target.texture, target.pass)
    }
}

impl Instance {
    fn new(cube: &SceneCube) -> Self {
        // sRGB to linear light, the same gamma of 2 as in the shaders.
        let linear = cube.colour * cube.colour;
        Self {
            placed: cube.position.extend(cube.opacity),
            rotation: cube.rotation.to_array(),
            tint: linear.extend(cube.glow),
            look: match cube.blink {
                Some(blink) => Vec4::new(1.0, blink, cube.width_m, 0.0),
                None => Vec4::new(0.0, 0.0, cube.width_m, 0.0),
            },
        }
    }

    fn ring(cube: &SceneCube) -> Option<Self> {
        let mut instance = Self::new(cube);
        instance.tint.w = cube.ring * cube.opacity;
        (cube.ring > 0.0).then_some(instance)
    }
}

fn uniforms(view: &CameraView, time_s: f32) -> Uniforms {
    Uniforms {
        view_projection: view.matrix,
        eye: view.eye.extend(time_s),
        forward: view.forward.extend(view.pixel_rad()),
        right: view.right.extend(0.0),
        up: view.up.extend(0.0),
        sun: SUN.normalize().extend(0.0),
    }
}

fn blend(source: BlendFactor, destination: BlendFactor) -> PipelineParams {
    PipelineParams {
        color_blend: Some(BlendState::new(Equation::Add, source, destination)),
        ..PipelineParams::default()
    }
}

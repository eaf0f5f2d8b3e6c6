//! A layer of the scene on the GPU: a shader, a shape, and a buffer for the shape's instances.

use anyhow::anyhow;
use macroquad::math::Vec4;
use macroquad::miniquad::{
    Bindings, BufferId, BufferLayout, BufferSource, BufferType, BufferUsage, Pipeline,
    PipelineParams, RenderingBackend, ShaderMeta, ShaderSource, TextureId, UniformBlockLayout,
    UniformDesc, UniformType, UniformsSource, VertexAttribute, VertexFormat, VertexStep,
};

use crate::mesh::Geometry;

/// Names and types of the uniforms in `common.glsl`, in the order of `renderer::Uniforms`.
const UNIFORMS: [(&str, UniformType); 6] = [
    ("view_projection", UniformType::Mat4),
    ("eye", UniformType::Float4),
    ("forward", UniformType::Float4),
    ("right", UniformType::Float4),
    ("up", UniformType::Float4),
    ("sun", UniformType::Float4),
];

/// The data of one cube in the shaders' layout.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instance {
    /// The cube's centre, and its opacity.
    pub(crate) placed: Vec4,
    /// The rotation as a quaternion.
    pub(crate) rotation: [f32; 4],
    /// The colour in linear light, and the strength of its glow or ring.
    pub(crate) tint: Vec4,
    /// Whether the cube has eyes (0 or 1), when they blink, and its edge length in metres.
    pub(crate) look: Vec4,
}

/// Names of an [`Instance`]'s fields in the shaders.
const INSTANCE: [&str; 4] = ["placed", "rotation", "tint", "look"];

/// The beginning of every shader.
const COMMON: &str = include_str!("../../../assets/shaders/common.glsl");

/// Returns the sources of a vertex and a fragment shader in `assets/shaders`, without the common
/// beginning.
macro_rules! glsl {
    ($name:literal) => {
        [
            include_str!(concat!("../../../assets/shaders/", $name, ".vert")),
            include_str!(concat!("../../../assets/shaders/", $name, ".frag")),
        ]
    };
}
pub(crate) use glsl;

/// A shader with the shape that it draws.
pub(crate) struct Layer {
    pipeline: Pipeline,
    vertices: BufferId,
    indices: BufferId,
    index_count: i32,
    instances: Option<Instances>,
}

struct Instances {
    buffer: BufferId,
    capacity: usize,
}

impl Layer {
    /// Creates a layer that draws its shape once for each instance.
    pub(crate) fn instanced(
        context: &mut dyn RenderingBackend,
        sources: [&str; 2],
        geometry: &Geometry,
        parameters: PipelineParams,
    ) -> anyhow::Result<Self> {
        let mut layer = Self::new(context, sources, geometry, &[], &INSTANCE, parameters)?;
        layer.instances = Some(Instances::new(context, 64));
        Ok(layer)
    }

    /// Creates a layer that draws its shape once, with textures of these names.
    pub(crate) fn once(
        context: &mut dyn RenderingBackend,
        sources: [&str; 2],
        geometry: &Geometry,
        textures: &[&str],
    ) -> anyhow::Result<Self> {
        Self::new(
            context,
            sources,
            geometry,
            textures,
            &[],
            PipelineParams::default(),
        )
    }

    fn new(
        context: &mut dyn RenderingBackend,
        sources: [&str; 2],
        geometry: &Geometry,
        textures: &[&str],
        instance: &[&'static str],
        parameters: PipelineParams,
    ) -> anyhow::Result<Self> {
        let meta = ShaderMeta {
            uniforms: UniformBlockLayout {
                uniforms: UNIFORMS
                    .map(|(name, kind)| UniformDesc::new(name, kind))
                    .into(),
            },
            images: textures.iter().map(|&name| name.to_owned()).collect(),
        };
        let [vertex, fragment] = sources.map(|source| format!("{COMMON}{source}"));
        let source = ShaderSource::Glsl {
            vertex: &vertex,
            fragment: &fragment,
        };
        let shader = context
            .new_shader(source, meta)
            .map_err(|error| anyhow!("the graphics driver cannot compile a shader: {error}"))?;
        let mut layouts = vec![BufferLayout::default()];
        let mut attributes = match geometry.numbers_per_vertex {
            2 => vec![VertexAttribute::new("corner", VertexFormat::Float2)],
            _ => vec![
                VertexAttribute::new("corner", VertexFormat::Float3),
                VertexAttribute::new("corner_normal", VertexFormat::Float3),
            ],
        };
        if !instance.is_empty() {
            layouts.push(BufferLayout {
                step_func: VertexStep::PerInstance,
                ..BufferLayout::default()
            });
        }
        attributes.extend(
            instance
                .iter()
                .map(|&name| VertexAttribute::with_buffer(name, VertexFormat::Float4, 1)),
        );
        Ok(Self {
            pipeline: context.new_pipeline(&layouts, &attributes, shader, parameters),
            vertices: context.new_buffer(
                BufferType::VertexBuffer,
                BufferUsage::Immutable,
                BufferSource::slice(&geometry.vertices),
            ),
            indices: context.new_buffer(
                BufferType::IndexBuffer,
                BufferUsage::Immutable,
                BufferSource::slice(&geometry.indices),
            ),
            index_count: geometry.indices.len() as i32,
            instances: None,
        })
    }

    /// Draws the shape once.
    pub(crate) fn draw(
        &self,
        context: &mut dyn RenderingBackend,
        uniforms: UniformsSource<'_>,
        textures: &[TextureId],
    ) {
        self.draw_with(context, uniforms, vec![self.vertices], textures, 1);
    }

    /// Draws the shape once for each instance.
    pub(crate) fn draw_instances(
        &mut self,
        context: &mut dyn RenderingBackend,
        uniforms: UniformsSource<'_>,
        instances: &[Instance],
    ) {
        let Some(room) = &mut self.instances else {
            return;
        };
        if instances.is_empty() {
            return;
        }
        if instances.len() > room.capacity {
            context.delete_buffer(room.buffer);
            *room = Instances::new(context, instances.len().next_power_of_two());
        }
        context.buffer_update(room.buffer, BufferSource::slice(instances));
        let buffers = vec![self.vertices, room.buffer];
        self.draw_with(context, uniforms, buffers, &[], instances.len() as i32);
    }

    fn draw_with(
        &self,
        context: &mut dyn RenderingBackend,
        uniforms: UniformsSource<'_>,
        vertex_buffers: Vec<BufferId>,
        textures: &[TextureId],
        instance_count: i32,
    ) {
        context.apply_pipeline(&self.pipeline);
        context.apply_bindings(&Bindings {
            vertex_buffers,
            index_buffer: self.indices,
            images: textures.to_vec(),
        });
        context.apply_uniforms(uniforms);
        context.draw(0, self.index_count, instance_count);
    }
}

impl Instances {
    fn new(context: &mut dyn RenderingBackend, capacity: usize) -> Self {
        let buffer = context.new_buffer(
            BufferType::VertexBuffer,
            BufferUsage::Stream,
            BufferSource::empty::<Instance>(capacity),
        );
        Self { buffer, capacity }
    }
}

//! One kind of thing on the GPU: its shader, its shape, and room for its instances.

use anyhow::anyhow;
use macroquad::math::Vec4;
use macroquad::miniquad::{
    Bindings, BufferId, BufferLayout, BufferSource, BufferType, BufferUsage, Pipeline,
    PipelineParams, RenderingBackend, ShaderMeta, ShaderSource, TextureId, UniformBlockLayout,
    UniformDesc, UniformType, UniformsSource, VertexAttribute, VertexFormat, VertexStep,
};

use crate::mesh::Shape;

/// The frame's uniforms, as in `common.glsl`; the order of `renderer::Uniforms`.
const UNIFORMS: [(&str, UniformType); 6] = [
    ("view_projection", UniformType::Mat4),
    ("eye", UniformType::Float4),
    ("forward", UniformType::Float4),
    ("right", UniformType::Float4),
    ("up", UniformType::Float4),
    ("sun", UniformType::Float4),
];

/// What the shaders know about one cube.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instance {
    pub(crate) placed: Vec4,
    pub(crate) rotation: [f32; 4],
    pub(crate) tint: Vec4,
    pub(crate) look: Vec4,
}

/// The fields of an [`Instance`].
const INSTANCE: [&str; 4] = ["placed", "rotation", "tint", "look"];

/// What every shader begins with.
const COMMON: &str = include_str!("../../../assets/shaders/common.glsl");

/// A vertex and a fragment shader from `assets/shaders`, without what they share.
macro_rules! glsl {
    ($name:literal) => {
        [
            include_str!(concat!("../../../assets/shaders/", $name, ".vert")),
            include_str!(concat!("../../../assets/shaders/", $name, ".frag")),
        ]
    };
}
pub(crate) use glsl;

/// A shader with what it draws.
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
    /// A layer that draws its shape once for each instance.
    pub(crate) fn instanced(
        context: &mut dyn RenderingBackend,
        sources: [&str; 2],
        shape: &Shape,
        parameters: PipelineParams,
    ) -> anyhow::Result<Self> {
        let mut layer = Self::new(context, sources, shape, &[], &INSTANCE, parameters)?;
        layer.instances = Some(Instances::new(context, 64));
        Ok(layer)
    }

    /// A layer that draws its shape once, with textures of those names.
    pub(crate) fn once(
        context: &mut dyn RenderingBackend,
        sources: [&str; 2],
        shape: &Shape,
        textures: &[&str],
    ) -> anyhow::Result<Self> {
        Self::new(
            context,
            sources,
            shape,
            textures,
            &[],
            PipelineParams::default(),
        )
    }

    fn new(
        context: &mut dyn RenderingBackend,
        sources: [&str; 2],
        shape: &Shape,
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
        let mut attributes = match shape.numbers_per_vertex {
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
                BufferSource::slice(&shape.vertices),
            ),
            indices: context.new_buffer(
                BufferType::IndexBuffer,
                BufferUsage::Immutable,
                BufferSource::slice(&shape.indices),
            ),
            index_count: shape.indices.len() as i32,
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

// A ring of light on the floor around a cube.
attribute vec2 corner;
attribute vec4 placed;
attribute vec4 rotation;
attribute vec4 tint;
varying vec2 offset;
varying vec3 ground;
varying vec4 colour;
varying float height;

const float REACH = 3.0;

void main() {
    offset = corner * REACH;
    ground = vec3(placed.xy + offset, 0.0);
    colour = tint;
    height = max(placed.z - 0.5, 0.0);
    gl_Position = view_projection * vec4(ground, 1.0);
}

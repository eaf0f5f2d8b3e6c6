// A bevelled cube, one instance each.
attribute vec3 corner;
attribute vec3 corner_normal;
attribute vec4 placed;    // xyz: centre, w: opacity
attribute vec4 rotation;  // unit quaternion
attribute vec4 tint;      // rgb: linear colour, w: own light
attribute vec4 look;      // x: 1 with eyes in front, y: when it blinks, 0 to 1, z: edge length
varying vec3 world;
varying vec3 normal;
varying vec3 local;
varying vec3 local_normal;
varying vec4 colour;
varying float opacity;
varying vec2 front;

void main() {
    local = corner;
    local_normal = corner_normal;
    world = placed.xyz + rotate(rotation, corner * look.z);
    normal = rotate(rotation, corner_normal);
    colour = tint;
    opacity = placed.w;
    front = look.xy;
    gl_Position = view_projection * vec4(world, 1.0);
}

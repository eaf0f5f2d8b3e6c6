// The part of the screen above the horizon.
attribute vec2 corner;
varying vec3 ray;

void main() {
    float bottom = clamp(-forward.z / up.z, -1.0, 1.0);
    vec2 position = vec2(corner.x, mix(bottom, 1.0, corner.y * 0.5 + 0.5));
    ray = forward.xyz + right.xyz * position.x + up.xyz * position.y;
    gl_Position = vec4(position, 0.0, 1.0);
}

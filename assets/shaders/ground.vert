// The part of the screen below the horizon, which is level because the camera never rolls.
attribute vec2 corner;
varying vec3 ray;
varying vec2 place;

void main() {
    float top = clamp(-forward.z / up.z, -1.0, 1.0);
    vec2 position = vec2(corner.x, mix(-1.0, top, corner.y * 0.5 + 0.5));
    ray = forward.xyz + right.xyz * position.x + up.xyz * position.y;
    place = position * 0.5 + 0.5;
    gl_Position = vec4(position, 0.0, 1.0);
}

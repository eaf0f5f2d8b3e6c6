// Sky and ground: one rectangle over the whole screen.
attribute vec2 corner;
varying vec3 ray;
varying vec2 place;

void main() {
    ray = forward.xyz + right.xyz * corner.x + up.xyz * corner.y;
    place = corner * 0.5 + 0.5;
    gl_Position = vec4(corner, 0.0, 1.0);
}

// The part of the floor that one cube can darken: a rectangle from below it to the end of its shadow.
attribute vec2 corner;
attribute vec4 placed;
attribute vec4 rotation;
attribute vec4 look;      // z: edge length
varying vec3 ground;
varying vec4 turn;
varying vec4 centre;
varying float half_edge;

const float RADIUS = 0.87;

void main() {
    vec2 slope = -sun.xy / sun.z;
    vec2 ahead = normalize(slope);
    vec2 aside = vec2(-ahead.y, ahead.x);
    float radius = RADIUS * look.z;
    float margin = radius + 0.5 + 0.08 * placed.z;
    float reach = length(slope) * (placed.z + radius);
    vec2 position = placed.xy + aside * corner.y * margin
        + ahead * mix(-margin, reach + margin * 0.6, corner.x * 0.5 + 0.5);
    ground = vec3(position, 0.0);
    turn = rotation;
    centre = placed;
    half_edge = look.z * 0.5;
    gl_Position = view_projection * vec4(ground, 1.0);
}

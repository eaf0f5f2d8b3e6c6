#version 100
precision highp float;

// What every shader of the scene knows. Directions and places are in world axes (z up, metres),
// light is linear until `display`.

uniform mat4 view_projection;
uniform vec4 eye;        // xyz: the camera, w: seconds
uniform vec4 forward;    // xyz: the view's middle, w: angle of a pixel in radians
uniform vec4 right;      // xyz: from the view's middle to its right edge
uniform vec4 up;         // xyz: from the view's middle to its upper edge
uniform vec4 sun;        // xyz: towards the sun

const vec3 SUNLIGHT = vec3(1.62, 1.34, 1.02);
const vec3 SKYLIGHT = vec3(0.42, 0.52, 0.72);
const vec3 BOUNCE = vec3(0.19, 0.17, 0.17);

vec3 rotate(vec4 rotation, vec3 v) {
    return v + 2.0 * cross(rotation.xyz, cross(rotation.xyz, v) + rotation.w * v);
}

vec3 sky(vec3 ray) {
    float height = max(ray.z, 0.0);
    float near_sun = max(dot(ray, sun.xyz), 0.0);
    float warm = 0.10 + 0.90 * near_sun * near_sun;
    vec3 horizon = mix(vec3(0.50, 0.66, 0.98), vec3(1.30, 0.78, 0.44), warm);
    vec3 zenith = vec3(0.035, 0.115, 0.38);
    vec3 colour = mix(horizon, zenith, 1.0 - exp(-height * 4.6));
    float near2 = near_sun * near_sun;
    float near8 = near2 * near2 * near2 * near2;
    float glow = pow(near8, 6.0);
    colour += vec3(0.85, 0.52, 0.26) * (0.16 * near8 + 0.35 * glow);
    return colour + vec3(5.0, 4.2, 3.0) * smoothstep(0.99955, 0.99985, near_sun);
}

// Distance takes a thing's own colour and leaves the horizon's.
vec3 haze(vec3 colour, vec3 from_eye) {
    float distance = length(from_eye);
    vec3 ray = from_eye / distance;
    vec3 horizon = sky(normalize(vec3(ray.xy, 0.0)));
    return mix(horizon, colour, exp(-distance * distance * 2.6e-5));
}

// Linear light to what a screen shows: a soft shoulder, then gamma 2.
vec3 display(vec3 light) {
    return sqrt(light * (1.0 + light * 0.12) / (1.0 + light * 0.62));
}

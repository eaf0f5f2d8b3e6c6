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

// The sky's colour at the horizon; `near_sun` is the cosine of the angle to the sun.
vec3 horizon(float near_sun) {
    float warm = 0.10 + 0.90 * near_sun * near_sun;
    return mix(vec3(0.50, 0.66, 0.98), vec3(1.30, 0.78, 0.44), warm);
}

vec3 sky(vec3 ray) {
    float near_sun = max(dot(ray, sun.xyz), 0.0);
    vec3 zenith = vec3(0.035, 0.115, 0.38);
    vec3 colour = mix(zenith, horizon(near_sun), exp(-max(ray.z, 0.0) * 6.5));
    float near4 = near_sun * near_sun * near_sun * near_sun;
    float near16 = near4 * near4 * near4 * near4;
    colour += vec3(0.85, 0.52, 0.26) * (0.16 * near4 * near4 + 0.35 * near16 * near16 * near16);
    return colour + vec3(5.0, 4.2, 3.0) * smoothstep(0.99955, 0.99985, near_sun);
}

// How much of a thing is seen through the air, that far away.
float clarity(vec3 from_eye) {
    return exp(-dot(from_eye, from_eye) * 1.5e-5);
}

// Distance takes a thing's own colour and leaves the horizon's.
vec3 haze(vec3 colour, vec3 from_eye) {
    vec2 flat_ray = normalize(from_eye.xy + vec2(1e-5, 0.0));
    float near_sun = max(dot(flat_ray, sun.xy), 0.0);
    return mix(horizon(near_sun), colour, clarity(from_eye));
}

// Linear light to what a screen shows: a soft shoulder, then gamma 2.
vec3 display(vec3 light) {
    return sqrt(light * (1.0 + light * 0.12) / (1.0 + light * 0.62));
}

// Sun, sky from above, bounced light from below, a little gloss, and darker towards the floor.
varying vec3 world;
varying vec3 normal;
varying vec3 local;
varying vec3 local_normal;
varying vec4 colour;
varying float opacity;
varying vec2 front;

// How much of a pixel `soft` metres wide is inside an upright ellipse.
float oval(vec2 point, vec2 centre, vec2 radius, float soft) {
    float outside = (length((point - centre) / radius) - 1.0) * min(radius.x, radius.y);
    return smoothstep(soft, -soft, outside);
}

// Two dark eyes, each with a glint, on the side the cube faces; x: dark, y: bright.
vec2 eyes(float soft) {
    vec2 point = vec2(abs(local.y), local.z);
    float since_blink = abs(fract(eye.w * 0.23 + front.y) - 0.5);
    float open = mix(0.14, 1.0, smoothstep(0.008, 0.022, since_blink));
    float dark = oval(point, vec2(0.17, 0.07), vec2(0.066, 0.115 * open), soft);
    // The light comes from one side, so the glint is not mirrored.
    vec2 glint = vec2(local.y - 0.17 * sign(local.y), local.z);
    return vec2(dark, open * dark * oval(glint, vec2(0.018, 0.115), vec2(0.024, 0.034), soft));
}

void main() {
    vec3 n = normalize(normal);
    vec3 from_eye = world - eye.xyz;
    vec3 view = -normalize(from_eye);

    // Faces are a touch darker towards their edges, which tells them apart at any light.
    vec3 reach = abs(local) * (1.0 - step(0.9, abs(local_normal)));
    float edge = max(reach.x, max(reach.y, reach.z));
    vec3 albedo = colour.rgb * (1.0 - 0.16 * smoothstep(0.36, 0.44, edge));

    vec2 marks = eyes(length(from_eye) * forward.w) * front.x * step(0.9, local_normal.x);
    albedo = mix(albedo, vec3(0.012, 0.013, 0.022), marks.x);

    float near_floor = mix(0.55, 1.0, smoothstep(-0.1, 1.1, world.z - 0.35 * n.z));
    float diffuse = max(dot(n, sun.xyz), 0.0);
    vec3 ambient = mix(BOUNCE, SKYLIGHT, 0.5 + 0.5 * n.z) * near_floor;
    vec3 half_way = normalize(sun.xyz + view);
    float gloss = pow(max(dot(n, half_way), 0.0), 48.0) * step(0.0, dot(n, sun.xyz));
    float rim = pow(1.0 - max(dot(n, view), 0.0), 4.0);

    vec3 light = albedo * (SUNLIGHT * diffuse + ambient);
    light += SUNLIGHT * gloss * 0.16 + SKYLIGHT * rim * 0.16 * near_floor;
    light += vec3(0.9) * marks.y;
    light += colour.rgb * colour.w * (0.55 + 0.45 * smoothstep(0.44, 0.30, edge));
    gl_FragColor = vec4(display(haze(light, from_eye)), opacity);
}

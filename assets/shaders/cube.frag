// Sun, sky from above, bounced light from below, a little gloss, and darker towards the floor.
varying vec3 world;
varying vec3 normal;
varying vec3 local;
varying vec3 local_normal;
varying vec4 colour;
varying float opacity;

void main() {
    vec3 n = normalize(normal);
    vec3 from_eye = world - eye.xyz;
    vec3 view = -normalize(from_eye);

    // Faces are a touch darker towards their edges, which tells them apart at any light.
    vec3 reach = abs(local) * (1.0 - step(0.9, abs(local_normal)));
    float edge = max(reach.x, max(reach.y, reach.z));
    vec3 albedo = colour.rgb * (1.0 - 0.16 * smoothstep(0.36, 0.44, edge));

    float near_floor = mix(0.55, 1.0, smoothstep(-0.1, 1.1, world.z - 0.35 * n.z));
    float diffuse = max(dot(n, sun.xyz), 0.0);
    vec3 ambient = mix(BOUNCE, SKYLIGHT, 0.5 + 0.5 * n.z) * near_floor;
    vec3 half_way = normalize(sun.xyz + view);
    float gloss = pow(max(dot(n, half_way), 0.0), 48.0) * step(0.0, dot(n, sun.xyz));
    float rim = pow(1.0 - max(dot(n, view), 0.0), 4.0);

    vec3 light = albedo * (SUNLIGHT * diffuse + ambient);
    light += SUNLIGHT * gloss * 0.16 + SKYLIGHT * rim * 0.16 * near_floor;
    light += colour.rgb * colour.w * (0.55 + 0.45 * smoothstep(0.44, 0.30, edge));
    gl_FragColor = vec4(display(haze(light, from_eye)), opacity);
}

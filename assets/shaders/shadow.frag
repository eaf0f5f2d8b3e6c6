// Red: how much of the sun, green: how much of the sky the floor still sees. Instances multiply.
varying vec3 ground;
varying vec4 turn;
varying vec4 centre;
varying float half_edge;

// Distance from a point to one pair of the edges that bound the box's outline as the sun sees it.
float outline(vec3 normal, vec3 point) {
    float len = length(normal);
    vec3 n = normal / max(len, 0.001);
    return abs(dot(n, point)) - half_edge * dot(abs(n), vec3(1.0)) - step(len, 0.001);
}

void main() {
    vec4 back = vec4(-turn.xyz, turn.w);
    vec3 point = rotate(back, ground - centre.xyz);
    vec3 ray = rotate(back, sun.xyz);

    float outside = max(outline(vec3(0.0, ray.z, -ray.y), point),
        max(outline(vec3(-ray.z, 0.0, ray.x), point), outline(vec3(ray.y, -ray.x, 0.0), point)));
    // Farther from the cube, the sun's disc blurs the shadow.
    float blur = 0.025 + 0.055 * max(-dot(point, ray), 0.0);
    float shade = smoothstep(blur, -blur, outside) * exp(-centre.z * 0.05);

    float gap = length(max(abs(point) - half_edge, 0.0));
    float contact = 0.72 * exp(-gap * 3.4);
    gl_FragColor = vec4(1.0 - shade * centre.w, 1.0 - contact * centre.w, 1.0, 1.0);
}

// The floor z = 0 with a metre grid. Line widths are filtered with the exact size of the pixel's
// footprint on the floor, so that no line flickers at any distance.
uniform sampler2D shadows;
varying vec3 ray;
varying vec2 place;

const float WORLD = 256.0;

// How much of the footprint is covered by lines 2 * half_width wide at every multiple of spacing.
// Method: the box-filtered grid of Inigo Quilez, "filtering procedurals" (2013).
vec2 lines(vec2 position, vec2 footprint, float spacing, float half_width) {
    vec2 p = (position + half_width) / spacing;
    vec2 w = max(footprint / spacing, 0.0005);
    float share = 2.0 * half_width / spacing;
    vec2 a = p + 0.5 * w;
    vec2 b = p - 0.5 * w;
    vec2 covered = floor(a) * share + min(fract(a), share) - floor(b) * share - min(fract(b), share);
    return clamp(covered / w, 0.0, 1.0);
}

float either(vec2 covered) {
    return 1.0 - (1.0 - covered.x) * (1.0 - covered.y);
}

// Coverage of one line of that half width at distance d from it.
vec2 line(vec2 d, vec2 footprint, float half_width) {
    vec2 w = max(footprint, 0.001);
    vec2 covered = min(abs(d) + 0.5 * w, half_width) - max(abs(d) - 0.5 * w, -half_width);
    return clamp(covered / w, 0.0, 1.0);
}

void main() {
    vec3 direction = normalize(ray);
    direction.z = min(direction.z, -0.0005);
    float range = -eye.z / direction.z;
    vec3 from_eye = direction * range;
    vec2 position = eye.xy + from_eye.xy;

    // The footprint is a long ellipse that points away from the eye.
    float across = range * forward.w;
    float along = across / -direction.z;
    vec2 away = normalize(direction.xy + vec2(1e-6, 0.0));
    vec2 footprint = sqrt(away * away * along * along + away.yx * away.yx * across * across) * 1.2;

    vec2 inside2 = clamp((WORLD - abs(position)) / max(footprint, 0.01) + 0.5, 0.0, 1.0);
    float inside = inside2.x * inside2.y;

    vec2 tile = floor(position / 10.0);
    float checker = mod(tile.x + tile.y, 2.0) / (1.0 + along * along);
    vec3 albedo = mix(vec3(0.076, 0.092, 0.132), vec3(0.090, 0.107, 0.150), checker);
    float fine = either(lines(position, footprint, 1.0, 0.012));
    float bold = either(lines(position, footprint, 10.0, 0.035));
    albedo = mix(albedo, vec3(0.24, 0.29, 0.38), fine * 0.55);
    albedo = mix(albedo, vec3(0.42, 0.49, 0.62), bold * 0.80);
    vec2 axes = line(position.yx, footprint, 0.06);
    albedo = mix(albedo, vec3(0.78, 0.20, 0.17), axes.x * 0.75);
    albedo = mix(albedo, vec3(0.20, 0.58, 0.26), axes.y * 0.75);
    albedo = mix(vec3(0.045, 0.052, 0.070), albedo, inside);

    vec2 mask = texture2D(shadows, place).rg;
    vec3 light = SUNLIGHT * sun.z * mask.r + SKYLIGHT * mask.g;
    vec3 colour = albedo * light;

    // The world's end glows.
    vec2 edge = line(abs(position) - WORLD, footprint, 0.25);
    float end = max(edge.x * step(abs(position.y), WORLD + 0.25), edge.y * step(abs(position.x), WORLD + 0.25));
    float beyond = max(abs(position.x), abs(position.y)) - WORLD;
    float halo = 1.0 / (1.0 + beyond * beyond * 0.15);
    colour += vec3(1.0, 0.42, 0.20) * (end * 1.4 + halo * 0.30);

    gl_FragColor = vec4(display(haze(colour, from_eye)), 1.0);
}

// Added to the floor: a thin ring that breathes, and a pool of light inside it.
varying vec2 offset;
varying vec3 ground;
varying vec4 colour;
varying float height;

void main() {
    float distance = length(offset);
    float beat = 0.5 + 0.5 * sin(eye.w * 2.6);
    float radius = 1.05 + 0.10 * beat;
    float width = 0.035 + length(ground - eye.xyz) * forward.w;
    float ring = smoothstep(width, 0.0, abs(distance - radius)) * (0.55 + 0.25 * beat);
    float pool = exp(-distance * 1.5) * 0.8 * smoothstep(3.0, 2.0, distance);
    float strength = colour.w * (ring + pool) / (1.0 + height * 0.8);
    gl_FragColor = vec4(colour.rgb * strength * clarity(ground - eye.xyz), 1.0);
}

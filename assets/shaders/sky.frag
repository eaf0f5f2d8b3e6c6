// Nothing but sky.
varying vec3 ray;

void main() {
    gl_FragColor = vec4(display(sky(normalize(ray))), 1.0);
}

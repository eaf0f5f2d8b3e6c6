import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FOLDER = process.env.CUBESYNC_CI_OUTPUT ?? fileURLToPath(new URL("../../../ci-output", import.meta.url));

// Keeps a screenshot for people, as `browser/<name>.png` in the folder of CI's output.
export function keepPicture(name, png) {
    mkdirSync(`${FOLDER}/browser`, { recursive: true });
    writeFileSync(`${FOLDER}/browser/${name}.png`, png);
}

import { existsSync } from "node:fs";

// A host name as a router at home gives one: to a browser it is what a LAN address is, a page
// without encryption.
export const LAN_HOST = "cubesync.lan";

// Flags for every start: no traffic of its own, and WebGL in software.
export const FLAGS = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=gl-egl",
    "--ignore-gpu-blocklist",
    `--host-resolver-rules=MAP ${LAN_HOST} 127.0.0.1`,
];

const NAMES = ["chromium", "chromium-browser", "google-chrome"];

// The browser that is installed, or that CUBESYNC_CHROMIUM names.
export function chromiumPath() {
    const places = process.env.PATH.split(":").flatMap((folder) => NAMES.map((name) => `${folder}/${name}`));
    const path = process.env.CUBESYNC_CHROMIUM ?? places.find(existsSync);
    if (!path) throw new Error("no Chromium: install the package chromium, or name one in CUBESYNC_CHROMIUM");
    return path;
}

// A script that lets a page find the colour of a player who was here before. The game's own choice
// of colours would be another in each run.
export function rememberColour(colour = "#20b0a0") {
    const remembered = JSON.stringify(JSON.stringify({ colour }));
    return `if (location.protocol.startsWith("http")) localStorage.cubesync = ${remembered};`;
}

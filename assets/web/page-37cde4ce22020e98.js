"use strict";
(() => {
const script = document.currentScript;
const element = (id) => document.getElementById(id);
const current = "Use a current Firefox, Chrome, Edge or Safari.";
let failed = false;
window.cubesyncFail = (text) => {
if (failed) return;
failed = true;
element("cover").hidden = false;
element("progress").hidden = true;
element("message").textContent = text;
element("reload").hidden = false;
};
window.cubesyncFailed = () => failed;
window.cubesyncReloadOnce = (cause) => {
try {
if (sessionStorage.getItem("cubesync-reloaded") === cause) return false;
sessionStorage.setItem("cubesync-reloaded", cause);
} catch {
return false;
}
location.reload();
return true;
};
const ratio = Object.getOwnPropertyDescriptor(window, "devicePixelRatio")?.get;
if (ratio) {
Object.defineProperty(window, "devicePixelRatio", { get: () => Math.min(ratio.call(window), 2) });
}
document.exitPointerLock ??= () => {};
window.addEventListener("error", (event) => {
if (event.target instanceof HTMLScriptElement) {
cubesyncFail("A part of the page could not be loaded. Check your connection, then reload.");
} else if (event.error?.constructor.name === "RuntimeError") {
cubesyncFail(`The game stopped because of a mistake in it.\n${event.error.message}`);
}
}, true);
async function download(url, size) {
const response = await fetch(url);
if (!response.ok) throw new Error(`the server answered ${response.status}`);
const reader = response.body.getReader();
const pieces = [];
let count = 0;
for (;;) {
const { done, value } = await reader.read();
if (done) return new Blob(pieces).arrayBuffer();
pieces.push(value);
count += value.length;
element("progress").value = count / size;
element("message").textContent = `Loading … ${Math.round(count / 1024)} of ${Math.round(size / 1024)} KB`;
}
}
function openGraphics() {
const options = { alpha: false, antialias: devicePixelRatio < 2, powerPreference: "high-performance" };
const context = canvas.getContext("webgl2", options);
if (context) {
importObject.env.init_webgl = () => gl = context;
return "";
}
const older = canvas.getContext("webgl", options);
if (!older) {
return `This browser cannot draw in 3D: WebGL is missing or turned off.\nTurn on hardware acceleration in its settings. ${current}`;
}
const needed = ["OES_vertex_array_object", "ANGLE_instanced_arrays"];
const missing = needed.filter((name) => !older.getExtension(name));
window.alert = console.warn;
return missing.length ? `This graphics driver is too old: it lacks WebGL 2 and ${missing.join(", ")}.\n${current}` : "";
}
async function start() {
element("reload").onclick = () => location.reload();
if (typeof WebAssembly !== "object") {
return cubesyncFail(`This browser cannot run the game: WebAssembly is missing or turned off.\n${current} On an iPhone, Lockdown Mode turns it off.`);
}
const trouble = openGraphics();
if (trouble) return cubesyncFail(trouble);
canvas.addEventListener("webglcontextlost", () => {
if (!cubesyncReloadOnce(`graphics ${Math.floor(Date.now() / 60000)}`)) {
cubesyncFail("The graphics driver gave up on this page. Close other heavy tabs, then reload.");
}
});
let bytes;
try {
bytes = await download(script.dataset.wasm, Number(script.dataset.wasmBytes));
} catch (error) {
return cubesyncFail(`The game could not be loaded (${error.message}).\nCheck your connection and that the server runs, then reload.`);
}
try {
register_plugins(plugins);
const { instance } = await WebAssembly.instantiate(bytes, importObject);
wasm_memory = instance.exports.memory;
wasm_exports = instance.exports;
if (wasm_exports.crate_version() !== version) throw new Error("the loader is of another version");
init_plugins(plugins);
await cubesyncReady;
wasm_exports.main();
} catch (error) {
return cubesyncFail(`The game could not be started (${error.message}).\nReload the page; if that does not help, update the browser.`);
}
requestAnimationFrame(() => requestAnimationFrame(() => {
element("cover").hidden = !failed;
canvas.focus();
}));
}
document.addEventListener("DOMContentLoaded", start);
})();

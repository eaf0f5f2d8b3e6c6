// Runs a page's script without a browser, for the judge: node --experimental-websocket page.mjs FILE URL NAME. The page gets
// node's own WebSocket and what browsers offer of a document, as stubs that draw nothing; a text that it shows is printed.

import { readFileSync } from "node:fs";
import { createContext, runInContext } from "node:vm";

const [file, url, follow] = process.argv.slice(2);
const page = readFileSync(file, "utf8");
const scripts = [...page.matchAll(/<script>(.*?)<\/script>/gs)].map(([, script]) => script);

// Every method of a canvas' pen does nothing.
const pen = new Proxy({}, { get: () => () => {}, set: () => true });
const element = () => ({
  width: 600,
  height: 600,
  getContext: () => pen,
  addEventListener: () => {},
  set textContent(text) {
    console.log(text);
  },
});
// As in a browser, each element with an id is a global.
const elements = Object.fromEntries([...page.matchAll(/ id="(\w+)"/g)].map(([, id]) => [id, element()]));

const { WebSocket, URLSearchParams, TextEncoder, TextDecoder, setInterval, setTimeout, performance } = globalThis;
const window = {
  ...elements,
  ...{ WebSocket, URLSearchParams, TextEncoder, TextDecoder, setInterval, setTimeout, performance, console },
  document: { getElementById: (id) => elements[id], querySelector: (id) => elements[id.slice(1)] },
  location: { search: `?${new URLSearchParams({ server: url, follow })}`, protocol: "http:", host: new URL(url).host },
  requestAnimationFrame: (draw) => setTimeout(() => draw(performance.now()), 16),
  addEventListener: () => {},
};
window.window = window;
createContext(window);
for (const script of scripts) {
  runInContext(script, window, { filename: file });
}

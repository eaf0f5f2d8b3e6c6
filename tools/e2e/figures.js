// Prints what the browser's client costs on this machine: `npm run figures`. It asserts nothing,
// because a busy machine makes any of it a multiple.
import { setTimeout as pause } from "node:timers/promises";

import { Browser } from "./support/browser.js";
import { Server } from "./support/server.js";

const STARTS = 5;
// Each bot decodes the whole room, all in one thread: more of them keep two cores from anything else.
const BOTS = 150;
const MEASURED_MS = 10_000;
// What the game does before the first bots have found their places is not of interest.
const WARM_UP_MS = 5_000;

const server = await Server.start({ profile: "release" });
const browser = await Browser.start();
try {
    await firstFrames();
    await frames(0);
    await server.startBots(BOTS);
    await frames(BOTS);
} finally {
    await browser.end();
    await server.end();
}

// How long a page takes from its address to the game, in a new profile and again with a warm cache.
async function firstFrames() {
    const person = await browser.person();
    await person.addInitScript(() => {
        addEventListener("DOMContentLoaded", () => {
            const cover = document.getElementById("cover");
            new MutationObserver(() => window.first_frame_ms ??= performance.now()).observe(cover, { attributeFilter: ["hidden"] });
        });
    });
    const times = [];
    for (let start = 0; start < STARTS; start++) {
        const tab = await browser.open(`${server.page}?name=Anna`, person);
        await tab.joined();
        times.push(Math.round(await tab.page.evaluate(() => window.first_frame_ms)));
        await tab.page.close();
    }
    console.log(`from the address to the first frame: ${times.join(", ")} ms (the first without a cache)`);
}

// What a frame costs while that many others move.
async function frames(others) {
    const tab = await browser.open(`${server.page}?name=Anna`);
    await tab.joined();
    const devtools = await tab.page.context().newCDPSession(tab.page);
    await devtools.send("Performance.enable");
    await tab.page.evaluate(() => {
        window.frames_drawn = 0;
        const count = () => requestAnimationFrame(() => { window.frames_drawn++; count(); });
        count();
    });
    const read = async () => {
        const { metrics } = await devtools.send("Performance.getMetrics");
        const value = (wanted) => metrics.find(({ name }) => name === wanted).value;
        const frames = await tab.page.evaluate(() => window.frames_drawn);
        return { frames, script_s: value("ScriptDuration"), task_s: value("TaskDuration"), processes: await browser.processTimes() };
    };
    await pause(WARM_UP_MS);
    const before = await read();
    await pause(MEASURED_MS);
    const after = await read();
    const count = after.frames - before.frames;
    const perFrame = (seconds) => `${(seconds / count * 1e3).toFixed(2)} ms`;
    const process = (kind) => perFrame(after.processes[kind] - before.processes[kind]);
    console.log(`beside ${others} others: ${(count / MEASURED_MS * 1e3).toFixed(1)} frames/s; of each frame `
        + `${perFrame(after.script_s - before.script_s)} in scripts and WASM, ${perFrame(after.task_s - before.task_s)} on the page's main thread, `
        + `${process("renderer")} CPU of the page's process, ${process("GPU")} of the one that draws in software`);
    await tab.look(`30-beside-${others}`);
    await tab.page.close();
}

import assert from "node:assert/strict";
import test from "node:test";

import { Browser } from "./browser.js";
import { Server } from "./server.js";
import { until } from "./until.js";

// More than any wait in it, so that a test fails by its own words.
const DEADLINE_MS = 180_000;
// A hidden tab may tell once a second only.
const REST_TICKS = 60;

// A test with a server and a browser of its own. It fails when a page complains about anything
// that `announced` has no pattern for. `flags` are the browser's.
export function scenario(claim, { announced = [], flags = [], serverFlags = [], start = Browser.start }, play) {
    test(claim, { timeout: DEADLINE_MS }, async () => {
        const server = await Server.start({ flags: serverFlags });
        const browser = await start(flags).catch(async (error) => {
            await server.end();
            throw error;
        });
        try {
            await play({ server, browser });
            assert.deepEqual(browser.complaints(announced), [], "a page complained");
        } catch (error) {
            console.error("the pages said:", browser.complaints([]));
            const name = claim.replaceAll(/\W+/g, "-");
            await Promise.allSettled(browser.tabs.map((tab, index) => tab.look(`failed-${name}-${index}`)));
            throw error;
        } finally {
            await browser.end();
            await server.end();
        }
    });
}

// How far a cube is from where it was, over the floor, in metres.
export function walked(before, after) {
    const [x, y] = [0, 1].map((axis) => after.position[axis] - before.position[axis]);
    return Math.hypot(x, y);
}

// Waits until the player's cube has not moved for a time; gives it.
export async function atRest(server, name) {
    let [before, since] = [await server.cube(name), (await server.room()).tick];
    return until(`${name}'s cube rests`, async () => {
        const { tick, cubes } = await server.room();
        const now = cubes.find((cube) => cube.name === name);
        if (now.position.some((metres, axis) => metres !== before.position[axis])) [before, since] = [now, tick];
        return tick > since + REST_TICKS ? now : null;
    });
}

import assert from "node:assert/strict";
import test from "node:test";

import { Browser } from "./browser.js";
import { Server } from "./server.js";

// More than any wait in it, so that a test fails by its own words.
const DEADLINE_MS = 180_000;

/// A test with a server and a browser of its own. It fails when a page complains about anything
/// that `announced` has no pattern for.
export function scenario(claim, { announced = [], flags = [] }, play) {
    test(claim, { timeout: DEADLINE_MS }, async () => {
        const [server, browser] = await Promise.all([Server.start(), Browser.start(flags)]);
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

/// How far a cube is from where it was, over the floor, in metres.
export function walked(before, after) {
    const [x, y] = [0, 1].map((axis) => after.position[axis] - before.position[axis]);
    return Math.hypot(x, y);
}

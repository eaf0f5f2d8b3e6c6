import { setTimeout as pause } from "node:timers/promises";

// The longest wait for anything. Only failing tests wait this long; a page that two busy cores
// draw in software takes seconds to open.
export const PATIENCE_MS = 45_000;
const LOOK_EVERY_MS = 50;

// Looks again and again until there is something, and gives that; fails when it takes too long.
export async function until(what, look) {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
        const found = await look();
        if (found) return found;
        if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
        await pause(LOOK_EVERY_MS);
    }
}

// Gives what the promise gives, unless that takes too long.
export async function soon(what, promise) {
    const giveUp = new AbortController();
    const late = pause(PATIENCE_MS, null, { signal: giveUp.signal }).then(
        () => { throw new Error(`waited in vain for ${what}`); },
        () => {},
    );
    try {
        return await Promise.race([promise, late]);
    } finally {
        giveUp.abort();
    }
}

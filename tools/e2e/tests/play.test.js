import assert from "node:assert/strict";

import { MAGENTA } from "../support/browser.js";
import { apart } from "../support/picture.js";
import { scenario, walked } from "../support/scenario.js";
import { until } from "../support/until.js";

// A walk long enough that nobody takes it for a wobble, and what it moves on a page at the least.
const WALK_M = 4;
const WALK_PIXELS = 40;

scenario("keys pressed in one tab move the cube in the other, beside a native bot", {}, async ({ server, browser }) => {
    await server.startBots(1);
    const anna = await browser.open(`${server.page}?name=Anna`, { colour: MAGENTA });
    const vasya = await browser.open(`${server.page}?name=${encodeURIComponent("Вася")}`);
    await Promise.all([anna.joined(), vasya.joined()]);

    const seen = await vasya.findMagenta("1-other-tab-before");
    const start = await server.cube("Anna");
    await anna.hold("ArrowRight", () => until("Anna has walked", async () =>
        walked(start, await server.cube("Anna")) > WALK_M));
    await until("Anna's cube is elsewhere in Вася's tab", async () =>
        apart(seen, await vasya.findMagenta("2-other-tab-after")) > WALK_PIXELS);
    await anna.look("3-own-tab-after");

    const players = (await server.cubes()).filter(({ kind }) => kind === "player");
    assert.deepEqual(players.map(({ name }) => name).sort(), ["Anna", "Bot 1", "Вася"]);
});

scenario("a reload keeps the cube, and a second tab is a second player", {}, async ({ server, browser }) => {
    const person = await browser.person();
    const anna = await browser.open(`${server.page}?name=Anna`, person);
    await anna.joined();
    const start = await server.cube("Anna");
    await anna.hold("KeyW", () => until("Anna has walked", async () =>
        walked(start, await server.cube("Anna")) > WALK_M));

    for (const reload of [1, 2]) {
        const before = await server.cube("Anna");
        await anna.page.reload();
        await anna.joined();
        const players = (await server.cubes()).filter(({ kind }) => kind !== "free");
        assert.deepEqual(players.map(({ id, name, kind }) => [id, name, kind]), [[start.id, "Anna", "player"]]);
        const after = await server.cube("Anna");
        assert.ok(walked(before, after) < WALK_M / 2, `reload ${reload}: from ${before.position} to ${after.position}`);
    }
    const other = await browser.open(`${server.page}?name=Anna`, person);
    await other.joined();
    const names = (await server.cubes()).filter(({ kind }) => kind === "player").map(({ name }) => name);
    assert.deepEqual(names, ["Anna", "Anna-2"]);
});

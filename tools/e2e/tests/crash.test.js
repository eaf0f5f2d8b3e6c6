import assert from "node:assert/strict";

import { Devtools } from "../support/devtools.js";
import { atRest, scenario, walked } from "../support/scenario.js";
import { until } from "../support/until.js";

// Long enough for Chromium to start again.
const serverFlags = ["--resume-within", "10m"];
const WALK_M = 3;

async function walk(server, tab, name) {
    const from = await server.cube(name);
    await tab.hold("w", () => until(`${name} walks`, async () => walked(from, await server.cube(name)) > WALK_M));
    return atRest(server, name);
}

async function players(server, room) {
    const cubes = await server.cubes(room);
    return cubes.filter(({ kind }) => kind !== "free").map(({ id, name, kind }) => [id, name, kind]);
}

scenario("a tab whose process dies has the same cube after a reload", { serverFlags, start: Devtools.start }, async ({ server, browser }) => {
    // A room and a name that the address does not say: the form's.
    const anna = await browser.open(`${server.page}?room=den`);
    await anna.until("window.wasm_exports && document.getElementById('cover').hidden");
    await anna.enter();
    await anna.joined();
    const [[id, name]] = await players(server, "den");
    for (const crash of [1, 2]) {
        await anna.crash();
        await anna.joined();
        assert.deepEqual(await players(server, "den"), [[id, name, "player"]], `crash ${crash}`);
    }
});

scenario("a browser that dies gives the game back to whoever opens its address next", { serverFlags, start: Devtools.start }, async ({ server, browser }) => {
    const anna = await browser.open(`${server.page}?name=Anna`);
    await anna.joined();
    const before = await walk(server, anna, "Anna");
    const token = await anna.value("JSON.parse(sessionStorage.cubesync).resume");
    await browser.untilStored(token);
    await browser.restart();
    await until("Anna is gone", async () => (await server.cube("Anna")).kind === "ghost");

    const again = await browser.open(`${server.page}?name=Anna`);
    await again.joined();
    const after = await server.cube("Anna");
    assert.deepEqual([after.id, after.kind, walked(before, after)], [before.id, "player", 0]);
    // It is taken now.
    const other = await browser.open(`${server.page}?name=Anna`);
    await other.joined();
    const names = (await players(server)).map(([, name]) => name);
    assert.deepEqual(names, ["Anna", "Anna-2"]);
});

scenario("a duplicated tab, and one that opens the same address, are other players", { serverFlags }, async ({ server, browser }) => {
    const person = await browser.person();
    const anna = await browser.open(`${server.page}?name=Anna`, person);
    await anna.joined();
    const id = (await server.cube("Anna")).id;
    // As a duplicated tab does, it begins with a copy of the first one's session storage.
    await anna.page.evaluate(() => void window.open(location.href));
    await until("the duplicate plays", async () => await server.cube("Anna-2"));
    const third = await browser.open(`${server.page}?name=Anna`, person);
    await third.joined();
    const found = await players(server);
    assert.deepEqual(found.map(([, name, kind]) => [name, kind]), [["Anna", "player"], ["Anna-2", "player"], ["Anna-3", "player"]]);
    assert.equal(found[0][0], id);
    // Each keeps its own over a reload.
    await anna.page.reload();
    await anna.joined();
    assert.deepEqual(await players(server), found);
});

scenario("a tab that is closed takes its game with it", { serverFlags }, async ({ server, browser }) => {
    const person = await browser.person();
    const first = await browser.open(`${server.page}?name=Anna`, person);
    await first.joined();
    const gone = await server.cube("Anna");
    await first.page.close({ runBeforeUnload: true });
    browser.tabs.length = 0;
    await until("Anna is gone", async () => (await server.cube("Anna")).kind === "ghost");
    const second = await browser.open(`${server.page}?name=Anna`, person);
    await second.joined();
    const [[id, name, kind], ...others] = (await players(server)).filter(([id]) => id !== gone.id);
    // The name still belongs to the ghost.
    assert.deepEqual([name, kind, others], ["Anna-2", "player", []]);
    const games = await second.page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("cubesync-game-")));
    assert.equal(games.length, 1, `the browser keeps the game of cube ${id} only`);
});

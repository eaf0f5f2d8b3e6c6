import assert from "node:assert/strict";
import test from "node:test";

import { Browser, MAGENTA } from "../support/browser.js";
import { Cluster } from "../support/cluster.js";
import { Devtools } from "../support/devtools.js";
import { walked } from "../support/scenario.js";
import { until } from "../support/until.js";

// What a browser says of a server that is not there.
const announced = [/ERR_CONNECTION_REFUSED/, /ERR_CONNECTION_RESET/, /ERR_EMPTY_RESPONSE/];

test("a tab whose server is killed plays on at another one", { timeout: 180_000 }, async () => {
    const cluster = await Cluster.start(2);
    const browser = await Browser.start();
    try {
        const [first, second] = cluster.servers;
        const boris = await browser.open(`${second.page}?name=Boris`);
        const anna = await browser.open(`${first.page}?name=Anna`, { colour: MAGENTA });
        await Promise.all([anna.joined(), boris.joined()]);
        const before = await until("the second server shows Anna", () => second.cube("Anna"));
        await first.end();

        const start = await second.cube("Anna");
        assert.equal(start.id, before.id, "nobody else has her cube");
        await anna.hold("ArrowUp", () => until("Anna walks at the second server", async () =>
            walked(start, await second.cube("Anna")) > 2));
        const after = await second.cube("Anna");
        assert.deepEqual([after.id, after.kind], [before.id, "player"]);
        const names = (await second.cubes()).map(({ name }) => name);
        assert.deepEqual(names.toSorted(), ["Anna", "Boris", "cube"], "she is there once");
        await until("her tab shows the room", async () =>
            (await anna.look("cluster-1-plays-on")).showsConnection());
        await boris.look("cluster-2-other-tab");
        assert.deepEqual(browser.complaints(announced), [], "a page complained");
    } finally {
        await browser.end();
        await cluster.end();
    }
});

test("a tab at an edge whose owner is killed and which crashes then has the same cube", { timeout: 180_000 }, async () => {
    const cluster = await Cluster.start(2);
    const browser = await Devtools.start();
    try {
        const roles = await Promise.all(cluster.servers.map(async (server) => [(await server.room()).role, server]));
        const { owner, edge } = Object.fromEntries(roles);
        const anna = await browser.open(`${edge.page}?name=Anna`);
        await anna.joined();
        const { id } = await until("the edge shows Anna", () => edge.cube("Anna"));
        await owner.end();
        await until("the room goes on behind the tab's connection", async () => (await edge.room())?.role === "owner");
        await anna.crash();
        await anna.joined();
        const players = (await edge.cubes()).filter(({ kind }) => kind !== "free");
        assert.deepEqual(players.map(({ id, name, kind }) => [id, name, kind]), [[id, "Anna", "player"]]);
    } finally {
        await browser.end();
        await cluster.end();
    }
});

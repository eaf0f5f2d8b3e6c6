import assert from "node:assert/strict";

import { LAN_HOST } from "../support/chromium.js";
import { scenario } from "../support/scenario.js";
import { get } from "../support/server.js";
import { until } from "../support/until.js";

const ROOM = "Garten 7";

scenario("the address says room and name, and the menu copies it for others", {}, async ({ server, browser }) => {
    const port = server.http.split(":")[1];
    // As on a LAN, where browsers give pages no clipboard.
    for (const host of ["127.0.0.1", LAN_HOST]) {
        const page = `http://${host}:${port}/`;
        const person = await browser.person({ permissions: ["clipboard-read"] });
        const anna = await browser.open(`${page}?room=${encodeURIComponent(ROOM)}&name=Anna`, person);
        await anna.joined();
        assert.ok(await server.cube("Anna", ROOM), "Anna is in the room of the address");

        for (const key of ["Escape", "Tab"]) await anna.page.keyboard.press(key);
        await anna.look(`9-menu-at-${host}`);
        await anna.page.keyboard.press("Enter");
        // Only a page on this machine may read it.
        const reader = await browser.open(`${server.page}status`, person);
        const link = `${page}?room=Garten+7`;
        await until("the link is in the clipboard", async () =>
            await reader.page.evaluate(() => navigator.clipboard.readText()) === link);

        const guest = await browser.open(`${link}&name=Boris`);
        await guest.joined();
        assert.ok(await server.cube("Boris", ROOM), "a guest comes into the same room");
        for (const tab of [anna, reader, guest]) await tab.page.close();
        browser.tabs.length = 0;
        await until("the room is empty", async () =>
            (await server.cubes(ROOM)).every(({ kind }) => kind !== "player"));
    }
    assert.equal(await server.cube("Anna"), undefined, "nobody is in the lobby");
});

scenario("a link that cannot be used leads nowhere else, and the form says why", {}, async ({ server, browser }) => {
    const refused = async (count) => {
        const { body } = await get(`${server.page}metrics`);
        return body.toString().includes(`cubesync_disconnects_total{reason="bad_name"} ${count}\n`);
    };
    // A room that shows nothing, and a name that says nothing.
    for (const [index, link] of ["?room=%E3%85%A4&name=Anna", "?room=den&name=A%EE%80%80"].entries()) {
        const tab = await browser.open(server.page + link);
        await until("the server has refused it", () => refused(index + 1));
        await tab.look(`9-refused-link-${index}`);
        for (const room of ["lobby", "den"]) {
            const players = (await server.cubes(room)).filter(({ kind }) => kind === "player");
            assert.deepEqual(players, [], "nobody is elsewhere");
        }
    }
    // What a messenger adds does no harm.
    const boris = await browser.open(`${server.page}?room=%E2%81%A8den%E2%81%A9&name=Boris%E2%80%8B`);
    await boris.joined();
    assert.ok(await server.cube("Boris", "den"), "the same room");
    // A keyboard wrote the first letter large, and an empty value stands before the one that counts.
    const eve = await browser.open(`${server.page}?Room=&NAME=Eve#Room=den`);
    await eve.joined();
    assert.ok(await server.cube("Eve", "den"), "the same room again");
});

scenario("a room that is too long or shows nothing, and a name of blanks, open the form with an error", {}, async ({ server, browser }) => {
    for (const [index, link] of [`?name=Anna&room=${"x".repeat(99)}`, "?name=Anna&room=%E2%80%8B", "?room=den&name=%20"].entries()) {
        const tab = await browser.open(`${server.page}${link}`);
        await tab.page.waitForFunction(() => window.wasm_exports && document.getElementById("cover").hidden);
        await until("the form shows an error", async () => (await tab.look(`9-link-${index}`)).showsError());
    }
    const names = [...await server.cubes(), ...await server.cubes("den")].filter(({ kind }) => kind === "player");
    assert.deepEqual(names, []);
});

scenario("what a messenger takes for a part of a link does not lead elsewhere, and a hash leads into the room too", {}, async ({ server, browser }) => {
    for (const [name, link] of [["Anna", "?name=Anna&room=den."], ["Boris", "#name=Boris&room=den)"]]) {
        const tab = await browser.open(`${server.page}${link}`);
        await tab.joined();
        assert.ok(await server.cube(name, "den"), `${link} leads into den`);
    }
});

import assert from "node:assert/strict";

import { LAN_HOST } from "../support/chromium.js";
import { scenario } from "../support/scenario.js";
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

import assert from "node:assert/strict";

import { scenario } from "../support/scenario.js";
import { rejectFrame, standIn } from "../support/stand_in.js";
import { until } from "../support/until.js";

// `RejectCode::Version`.
const VERSION = 1;

scenario("without WebGL the page says so and what to do", { flags: ["--disable-3d-apis"] }, async ({ server, browser }) => {
    const tab = await browser.open(server.page);
    const message = tab.page.locator("#message");
    await until("there are words", async () => (await message.innerText()).includes("WebGL"));
    assert.match(await message.innerText(), /hardware acceleration/);
    assert.ok(await tab.page.locator("#reload").isVisible());
    await tab.look("10-no-webgl");
});

scenario("a tab that an update left behind reloads itself once", {}, async ({ server, browser }) => {
    // The first page is of the build before.
    let pages = 0;
    const change = (path, text) => {
        const isPage = text.includes("data-build=");
        return isPage && pages++ === 0 ? text.replace(/data-build="/, "data-build=\"old-") : text;
    };
    const frames = rejectFrame(VERSION, "this server speaks version 2; reload the page");
    const updated = await standIn(server, { change, frames });
    try {
        const tab = await browser.open(`${updated.page}?name=Anna`);
        let loads = 0;
        tab.page.on("load", () => loads++);
        await tab.page.waitForEvent("load");
        await tab.look("11-reloaded");
    } finally {
        updated.end();
    }
});

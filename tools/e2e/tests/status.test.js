import assert from "node:assert/strict";

import { scenario } from "../support/scenario.js";
import { until } from "../support/until.js";

const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 3, hasTouch: true, isMobile: true };

scenario("the status page counts players and draws live figures", {}, async ({ server, browser }) => {
    await server.startBots(3);
    const tab = await browser.open(`${server.page}status`, { viewport: { width: 1100, height: 900 } });
    const text = (id) => tab.page.locator(`#${id}`).innerText();
    await until("it counts the bots", async () => await text("players") === "3");
    assert.match(await text("rooms"), /lobby\s+3\s+Bot/);

    await server.startBots(2, "garden");
    await until("it counts those of a new room", async () => await text("players") === "5");
    const seen = new Set();
    await until("the traffic changes", async () => seen.add(await text("received")).size > 3);
    await until("the charts have lines", async () =>
        tab.page.evaluate(() => document.querySelectorAll("#charts canvas").length === 4));
    await tab.look("13-status-light");
    await tab.page.emulateMedia({ colorScheme: "dark" });
    await tab.look("14-status-dark");
});

scenario("the status page fits a phone", {}, async ({ server, browser }) => {
    await server.startBots(3);
    for (const colorScheme of ["light", "dark"]) {
        const tab = await browser.open(`${server.page}status`, { ...PHONE, colorScheme });
        await until("it counts the bots", async () =>
            await tab.page.locator("#players").innerText() === "3");
        const overflow = await tab.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.equal(overflow, 0, "nothing to scroll sideways");
        await tab.look(`15-status-phone-${colorScheme}`);
    }
});

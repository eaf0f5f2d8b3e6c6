import assert from "node:assert/strict";

import { pathProxy } from "../support/path_proxy.js";
import { scenario } from "../support/scenario.js";
import { until } from "../support/until.js";

const PATH = "/game";

for (const [claim, removes, serverFlags] of [
    ["a reverse proxy removes", true, []],
    ["a reverse proxy passes on", false, ["--http-path", PATH]],
]) {
    scenario(`the game and the status page work under a path that ${claim}`, { serverFlags }, async ({ server, browser }) => {
        const proxy = await pathProxy(server, PATH, { removes });
        try {
            const anna = await (await browser.open(`${proxy.page}?name=Anna`)).joined();
            assert.ok(await server.cube("Anna"));
            await server.startBots(2);

            const status = await browser.open(`${proxy.page}status/?from=a-link`, { viewport: { width: 1100, height: 900 } });
            assert.equal(status.page.url(), `${proxy.page}status?from=a-link`);
            const text = (id) => status.page.locator(`#${id}`).innerText();
            await until("it counts the players", async () => await text("players") === "3");
            await until("it measures the round trip", async () => / ms$/.test(await text("trip")));
            const display = await status.page.locator("#tiles").evaluate((tiles) => getComputedStyle(tiles).display);
            assert.equal(display, "grid", "it has its style");
            await until("the charts have lines", async () =>
                status.page.evaluate(() => document.querySelectorAll("#charts canvas").length === 4));
            await status.look(`16-status-under-a-path-${removes ? "removed" : "passed-on"}`);

            await status.page.getByRole("link", { name: "the server's time" }).click();
            assert.equal(status.page.url(), `${proxy.page}time.html`);
            await status.page.goto(`${proxy.page}index.html`);
            assert.equal(status.page.url(), proxy.page);
            await anna.page.reload();
            await anna.joined();
            assert.deepEqual(proxy.elsewhere, [], "asked for outside of the path");
        } finally {
            proxy.end();
        }
    });
}

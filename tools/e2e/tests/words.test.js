import assert from "node:assert/strict";

import { MAGENTA } from "../support/browser.js";
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
    await tab.look("20-no-webgl");
});

scenario("without WebGL 2 the game is drawn with WebGL 1", {}, async ({ server, browser }) => {
    const person = await browser.person({ colour: MAGENTA });
    await person.addInitScript(() => {
        const getContext = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
            return kind === "webgl2" ? null : getContext.call(this, kind, ...more);
        };
    });
    const old = await browser.open(`${server.page}?name=Anna`, person);
    await old.joined();
    assert.ok(await old.page.evaluate(() => gl instanceof WebGLRenderingContext));
    await old.findMagenta("24-webgl-1");
    const current = await browser.open(`${server.page}?name=Boris`, { colour: MAGENTA });
    await current.joined();
    assert.ok(await current.page.evaluate(() => gl instanceof WebGL2RenderingContext));
    await current.findMagenta("25-webgl-2");
});

scenario("without the game's file the page says so and what to do", { announced: [/ERR_FAILED/] }, async ({ server, browser }) => {
    const person = await browser.person();
    await person.route("**/*.wasm", (route) => route.abort());
    const tab = await browser.open(server.page, person);
    const message = tab.page.locator("#message");
    await until("there are words", async () => (await message.innerText()).includes("could not be loaded"));
    await tab.look("21-no-game");
    await person.unroute("**/*.wasm");
    await tab.page.locator("#reload").click();
    await until("the game is there", () => tab.page.locator("#cover").isHidden());
});

scenario("a tab that an update left behind reloads itself, once", {}, async ({ server, browser }) => {
    // Even a page that stays old, as one from a cache that holds on to it, is fetched once again only.
    const change = (text, { headers }) =>
        headers["sec-fetch-dest"] === "document" ? text.replace("data-build=\"", "data-build=\"old-") : text;
    const frame = rejectFrame(VERSION, "this server speaks version 2; reload the page");
    const updated = await standIn(server, { change, frame });
    try {
        const tab = await browser.open("about:blank");
        let loads = 0;
        tab.page.on("load", () => loads++);
        await tab.page.goto(`${updated.page}?name=Anna`);
        await until("the page has reloaded itself", () => loads === 2);
        await until("the old page has asked again", () => updated.sockets === 2);
        await until("it says that this version is not served", async () =>
            (await tab.look("23-version")).showsError());
        assert.equal(loads, 2);
    } finally {
        updated.end();
    }
});

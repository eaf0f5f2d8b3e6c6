import assert from "node:assert/strict";

import { atRest, scenario, walked } from "../support/scenario.js";
import { until } from "../support/until.js";

const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 3, hasTouch: true, isMobile: true };

scenario("on a phone a thumb moves the cube, and the page stays where it is", {}, async ({ server, browser }) => {
    await server.startBots(2);
    const anna = await browser.open(`${server.page}?name=Anna`, PHONE);
    await anna.joined();
    const fingers = await anna.page.context().newCDPSession(anna.page);
    const touch = (type, ...points) => fingers.send("Input.dispatchTouchEvent", {
        type, touchPoints: points.map(([x, y], id) => ({ x, y, id })),
    });

    const start = await server.cube("Anna");
    await touch("touchStart", [92, 744]);
    for (const y of [730, 710, 690]) await touch("touchMove", [92, y]);
    await until("Anna has walked", async () => walked(start, await server.cube("Anna")) > 3);
    await anna.look("7-phone-stick");
    await touch("touchEnd");

    const rest = await atRest(server, "Anna");
    // A finger goes over the page, and two fingers spread.
    await touch("touchStart", [195, 300]);
    for (const y of [250, 200, 100]) await touch("touchMove", [195, y]);
    await touch("touchEnd");
    await touch("touchStart", [180, 300], [220, 300]);
    for (const spread of [30, 60, 90]) await touch("touchMove", [180 - spread, 300], [220 + spread, 300]);
    await touch("touchEnd");
    const page = await anna.page.evaluate(() => ({
        scroll: [scrollX, scrollY],
        scale: visualViewport.scale,
        overflow: document.documentElement.scrollWidth - innerWidth,
        selected: String(getSelection()),
    }));
    assert.deepEqual(page, { scroll: [0, 0], scale: 1, overflow: 0, selected: "" });
    assert.equal(walked(rest, await server.cube("Anna")), 0, "looking around moves no cube");
    await anna.look("8-phone-turned");
});

scenario("a phone's keyboard neither corrects nor capitalises what is typed into the form", {}, async ({ server, browser }) => {
    const anna = await browser.open(server.page, PHONE);
    await anna.page.locator("input.field").nth(2).waitFor({ state: "attached" });
    const kept = ["autocapitalize", "autocorrect", "autocomplete", "spellcheck", "type", "inputmode", "enterkeyhint"];
    const fields = await anna.page.locator("input.field").evaluateAll((fields, kept) =>
        fields.map((field) => kept.map((name) => field.getAttribute(name))), kept);
    const expected = ["off", "off", "off", "false", "text", "text", "go"];
    assert.deepEqual(fields, [expected, expected, expected], "name, room and key");
});

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

import { scenario } from "../support/scenario.js";
import { until } from "../support/until.js";

const PAGE = new URL("../../../docs/examples/plain.html", import.meta.url);

// Somebody's own web server with the page of sixty lines.
const content = await readFile(PAGE);
const site = createServer((request, response) => {
    if (request.url !== "/favicon.ico") response.setHeader("Content-Type", "text/html");
    response.end(request.url === "/favicon.ico" ? "" : content);
});
await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
site.unref();
const origin = `http://127.0.0.1:${site.address().port}`;

scenario("a page of sixty lines shows the cubes, follows one and is dragged", { serverFlags: ["--cubes", "20", "--allow-origin", origin] }, async ({ server, browser }) => {
    const socket = `ws://${server.http}/ws`;
    const dragged = await browser.open(`${origin}/?server=${socket}`);
    await until("the page is in the room", () => server.cube("Page"));
    const floor = await dragged.page.locator("#floor").boundingBox();
    const [x, y] = [floor.x + 450, floor.y + 150];
    await dragged.page.mouse.move(x - 20, y);
    await dragged.page.mouse.down();
    await dragged.page.mouse.move(x, y);
    await until("its cube is where the pointer is", async () => {
        await dragged.page.mouse.move(x + Math.random(), y);
        const { position } = await server.cube("Page");
        return Math.hypot(position[0] - 5, position[1] - 5) < 0.2;
    });

    const follower = await browser.open(`${origin}/?server=${socket}&follow=Page`);
    await until("the other page follows it", async () => {
        const cube = await server.cube("Page-2");
        return cube && Math.hypot(cube.position[0] - 5, cube.position[1] - 5) < 0.2;
    });
    await follower.look("10-plain-page");
    assert.equal(await follower.page.evaluate("cubes.size"), (await server.cubes()).length);
});

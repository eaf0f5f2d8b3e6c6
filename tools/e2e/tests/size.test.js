import assert from "node:assert/strict";

import { LAN_HOST } from "../support/chromium.js";
import { scenario } from "../support/scenario.js";

// The goal is 250,000 bytes. Over plain http browsers take gzip, on localhost and over https brotli
// as well. The codec's tables, cells, the network lab, playing on at another server, datagrams and
// loose cubes make it miss the goal by 8 % with brotli and 22 % with gzip; these bounds keep it from growing further.
for (const [host, packing, maxBytes] of [[LAN_HOST, "gzip", 309_000], ["127.0.0.1", "brotli", 272_500]]) {
    scenario(`the page comes in few bytes with ${packing}`, {}, async ({ server, browser }) => {
        const tab = await browser.open("about:blank");
        const network = await tab.page.context().newCDPSession(tab.page);
        const paths = new Map();
        const sizes = new Map();
        network.on("Network.requestWillBeSent", ({ requestId, request }) =>
            paths.set(requestId, new URL(request.url).pathname));
        network.on("Network.loadingFinished", ({ requestId, encodedDataLength }) =>
            sizes.set(paths.get(requestId), encodedDataLength));
        await network.send("Network.enable");
        await tab.page.goto(`http://${host}:${server.http.split(":")[1]}/?name=Anna`);
        await tab.joined();

        const bytes = [...sizes.values()].reduce((sum, size) => sum + size);
        console.log(`${packing}: ${bytes} bytes`, Object.fromEntries(sizes));
        assert.ok([...sizes.keys()].some((path) => path.endsWith(".wasm")), "the game was transferred");
        assert.ok(bytes <= maxBytes, `${bytes} bytes`);
    });
}

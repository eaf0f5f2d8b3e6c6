import assert from "node:assert/strict";
import { request } from "node:http";
import test from "node:test";

import { Server } from "../support/server.js";
import { soon } from "../support/until.js";

test("only pages of the server itself may open its socket", async () => {
    const server = await Server.start();
    try {
        const own = `http://${server.http}`;
        assert.equal(await upgrade(server.http, own), 101);
        assert.equal(await upgrade(server.http, "http://evil.example"), 403);
        assert.equal(await upgrade(server.http, `${own}0`), 403);
        assert.equal(await upgrade(server.http, "null"), 403);
    } finally {
        await server.end();
    }
});

// The status with which the server answers a page of that origin.
function upgrade(host, origin) {
    const [hostname, port] = host.split(":");
    const asked = request({
        hostname, port, path: "/ws",
        headers: {
            Origin: origin, Connection: "Upgrade", Upgrade: "websocket",
            "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
    });
    const answer = new Promise((resolve, reject) => {
        asked.on("response", (response) => resolve(response.resume().statusCode));
        asked.on("upgrade", (response, socket) => resolve(response.statusCode, socket.destroy()));
        asked.on("error", reject);
    });
    asked.end();
    return soon("the server's answer", answer);
}

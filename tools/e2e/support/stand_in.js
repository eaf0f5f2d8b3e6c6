import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { connect } from "node:net";

import { get } from "./server.js";

// Of RFC 6455, 1.3.
const WEBSOCKET_ID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

// Something between the browser and the server: it hands the server's pages on, changed as
// `change(text, request)` says. `headers` gives those of the requests to the server, from the browser's.
// It passes WebSockets on too when `passes_sockets`; else it answers at /ws itself: with a frame, or without
// one with an error, as a proxy does that knows no WebSockets. It counts the sockets that were asked for.
export async function standIn(server, { change = (text) => text, headers: passed = (own) => own, passes_sockets, frame }) {
    const standIn = { sockets: 0 };
    const http = createServer(async (request, response) => {
        const { status, headers, body } = await get(`http://${server.http}${request.url}`, passed({ ...request.headers, "accept-encoding": "identity" }));
        const type = headers["content-type"];
        const changed = type.startsWith("text/html") ? change(String(body), request) : body;
        response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(changed);
    });
    http.on("upgrade", (request, socket) => {
        standIn.sockets++;
        socket.on("error", () => {});
        if (passes_sockets) {
            const [hostname, port] = server.http.split(":");
            const lines = Object.entries(passed(request.headers)).map(([name, value]) => `${name}: ${value}\r\n`);
            const onwards = connect(port, hostname, () => onwards.write(`GET ${request.url} HTTP/1.1\r\n${lines.join("")}\r\n`));
            onwards.on("error", () => socket.destroy());
            return void socket.pipe(onwards).pipe(socket);
        }
        if (!frame) return socket.end("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
        const accept = createHash("sha1").update(request.headers["sec-websocket-key"] + WEBSOCKET_ID).digest("base64");
        socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
        // A final binary message of less than 126 bytes, unmasked, and a close without a reason.
        socket.write(Buffer.concat([Buffer.from([0x82, frame.length]), frame]));
        socket.once("data", () => socket.end(Buffer.from([0x88, 0])));
    });
    await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
    standIn.page = `http://127.0.0.1:${http.address().port}/`;
    standIn.end = () => {
        http.closeAllConnections();
        http.close();
    };
    return standIn;
}

// The server's `Reject`, as docs/PROTOCOL.md describes it.
export function rejectFrame(code, message) {
    const text = Buffer.from(message);
    const payload = Buffer.concat([Buffer.from([1, code, text.length]), text]);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(payload.length);
    return Buffer.concat([length, payload]);
}

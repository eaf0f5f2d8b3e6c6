import { createServer, request as ask } from "node:http";

// A reverse proxy that has a server's pages under a path only, such as /game, as `location /game/` in nginx. It
// removes the path, or passes it on.
export async function pathProxy(server, path, { removes }) {
    const [hostname, port] = server.http.split(":");
    const to = ({ url, method, headers }) =>
        ask({ hostname, port, method, headers, agent: false, path: removes ? url.slice(path.length) : url });
    const isThere = ({ url }) => url.startsWith(`${path}/`);
    const proxy = { elsewhere: [] };
    const http = createServer((request, response) => {
        if (!isThere(request)) {
            proxy.elsewhere.push(request.url);
            return response.writeHead(404).end();
        }
        const passed = to(request);
        passed.on("response", (answer) => {
            response.writeHead(answer.statusCode, answer.headers);
            answer.pipe(response);
        });
        passed.on("error", () => response.destroy());
        response.on("close", () => passed.destroy());
        passed.end();
    });
    http.on("upgrade", (request, socket) => {
        socket.on("error", () => {});
        if (!isThere(request)) return socket.destroy();
        const passed = to(request);
        passed.on("error", () => socket.destroy());
        passed.on("response", () => socket.destroy());
        passed.on("upgrade", (answer, far) => {
            const headers = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}\r\n`);
            socket.write(`HTTP/1.1 101 Switching Protocols\r\n${headers.join("")}\r\n`);
            far.on("error", () => socket.destroy());
            far.pipe(socket).pipe(far);
        });
        passed.end();
    });
    await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
    proxy.page = `http://127.0.0.1:${http.address().port}${path}/`;
    proxy.end = () => {
        http.closeAllConnections();
        http.close();
    };
    return proxy;
}

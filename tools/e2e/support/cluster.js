import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";

import { get, Server } from "./server.js";
import { Program } from "./program.js";
import { until } from "./until.js";

// Several servers with the same rooms, and the NATS on which they meet.
export class Cluster {
    static async start(count) {
        const cluster = new Cluster();
        const folder = mkdtempSync(`${tmpdir()}/cubesync-nats-`);
        // Port -1 is a free one.
        cluster.nats = new Program("NATS", "nats-server", ["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", folder]);
        const [, address] = await cluster.nats.line(/client connections on (\S+)/);
        const flags = ["--bus", `nats://${address}`];
        cluster.servers = await Promise.all(Array.from({ length: count }, () => Server.start({ flags })));
        // A page may go on at those that its server knew.
        for (const server of cluster.servers) {
            await until("a server names all the others", async () => {
                const policy = (await get(server.page)).headers["content-security-policy"];
                return cluster.servers.every(({ http }) => policy.includes(` ws://${http} `));
            });
        }
        return cluster;
    }

    async end() {
        for (const server of this.servers) await server.end();
        await this.nats.end();
    }
}

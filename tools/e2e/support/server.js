import { once } from "node:events";
import { get as request } from "node:http";
import { get as encryptedRequest } from "node:https";
import { buffer } from "node:stream/consumers";
import { setTimeout as wait } from "node:timers/promises";

import { built, Program } from "./program.js";
import { soon, until } from "./until.js";

const LOOPBACK = "127.0.0.1:0";

// The server makes /cubes.json ten times a second at most.
const PAGE_AGE_MS = 110;

// A real server, and what it says over HTTP.
export class Server {
    #program;
    #bots = [];

    // Starts one on free ports, with further flags, and waits until it serves.
    static async start({ profile, flags = [] } = {}) {
        const server = new Server();
        server.profile = profile;
        server.flags = flags;
        await server.#startAt({ tcp: LOOPBACK, http: LOOPBACK });
        return server;
    }

    async #startAt({ tcp, http }) {
        // Most tests are about players: nothing stands in their way.
        const cubes = this.flags.includes("--cubes") ? [] : ["--cubes", "0"];
        const flags = ["--listen", tcp, "--http", http, ...cubes, ...this.flags];
        this.#program = new Program("the server", built("cubesync-server", this.profile), flags);
        // In the order in which it prints them.
        [, this.page, this.http] = await this.#program.line(/browser +(https?:\/\/(\S+)\/) /);
        [, this.clients, this.tcp] = await this.#program.line(/clients +(?:--server )?((?:tls:\/\/)?(\S+)) /);
    }

    // The same server again: ended at once, and for `meanwhile` not there.
    async restart(meanwhile) {
        await this.#program.end();
        await meanwhile();
        await this.#startAt(this);
    }

    // Starts headless clients and waits until they are in the room.
    async startBots(count, room = "lobby") {
        const flags = ["--server", this.clients, "--count", String(count), "--room", room];
        // Nobody vouches for the certificate of a test.
        if (this.clients !== this.tcp) flags.push("--insecure");
        this.#bots.push(new Program("the bots", built("cubesync-bots", this.profile), flags));
        await until("the bots are in the room", async () => {
            const players = (await this.cubes(room)).filter(({ name }) => name.startsWith("Bot"));
            return players.length === count;
        });
    }

    // Every cube of a room; none if there is no such room.
    async cubes(room = "lobby") {
        return (await this.room(room))?.cubes ?? [];
    }

    // A room as /cubes.json tells it, no older than this question.
    async room(room = "lobby") {
        await wait(PAGE_AGE_MS);
        const { status, body } = await get(`${this.page}cubes.json?room=${encodeURIComponent(room)}`);
        return status === 200 ? JSON.parse(body) : null;
    }

    // The cube of the player with this name.
    async cube(name, room) {
        return (await this.cubes(room)).find((cube) => cube.name === name);
    }

    // Ends it with a signal, and not the bots.
    stop(signal) {
        return this.#program.end(signal);
    }

    async end() {
        for (const bots of this.#bots) await bots.end();
        await this.#program.end();
    }
}

// An answer over a connection of its own, to a request with further headers. A kept one may be closed by
// the server just when it is used again, and `fetch` keeps them.
export async function get(address, headers = {}) {
    const ask = address.startsWith("https:") ? encryptedRequest : request;
    const asked = ask(address, { agent: false, rejectUnauthorized: false, headers });
    const [response] = await soon(`the answer of ${address}`, once(asked, "response"));
    return { status: response.statusCode, headers: response.headers, body: await buffer(response) };
}

import { connect } from "node:net";

import { built, Program } from "./program.js";
import { until } from "./until.js";

const LOOPBACK = "127.0.0.1:0";

/// A real server, and what it says over HTTP.
export class Server {
    #program;
    #bots = [];
    #typists = [];

    /// Starts one on free ports, and waits until it serves.
    static async start(profile) {
        const server = new Server();
        server.profile = profile;
        await server.#startAt({ tcp: LOOPBACK, http: LOOPBACK, text: LOOPBACK });
        return server;
    }

    async #startAt({ tcp, http, text }) {
        const flags = ["--listen", tcp, "--http", http, "--text", text];
        this.#program = new Program("the server", built("cubesync-server", this.profile), flags);
        const address = async (pattern) => (await this.#program.line(pattern))[1];
        // In the order in which it prints them.
        this.http = await address(/browser +http:\/\/(\S+)\/ /);
        this.tcp = await address(/clients +(\S+) /);
        this.text = (await address(/text +nc (\S+ \d+) /)).replace(" ", ":");
        this.page = `http://${this.http}/`;
    }

    /// The same server again: ended at once, and for `meanwhile` not there.
    async restart(meanwhile) {
        await this.#program.end();
        await meanwhile();
        await this.#startAt(this);
    }

    /// Starts headless clients and waits until they are in the room.
    async startBots(count, room = "lobby") {
        const flags = ["--server", this.tcp, "--count", String(count), "--room", room];
        this.#bots.push(new Program("the bots", built("cubesync-bots", this.profile), flags));
        await until("the bots are in the room", async () => {
            const players = (await this.cubes(room)).filter(({ name }) => name.startsWith("Bot"));
            return players.length === count;
        });
    }

    /// Somebody who types where their cube is. Gives a function that says it.
    async startTypist(name) {
        const [host, port] = this.text.split(":");
        const socket = connect(Number(port), host);
        this.#typists.push(socket);
        socket.on("error", () => {});
        socket.resume();
        socket.write(`${name}\n`);
        await until(`${name} is in the room`, () => this.cube(name));
        return (...position) => socket.write(`${position.join(" ")}\n`);
    }

    /// Every cube of a room; none if there is no such room.
    async cubes(room = "lobby") {
        return (await this.room(room))?.cubes ?? [];
    }

    /// A room as /cubes.json tells it.
    async room(room = "lobby") {
        const answer = await fetch(`${this.page}cubes.json?room=${encodeURIComponent(room)}`);
        return answer.ok ? answer.json() : null;
    }

    /// The cube of the player with this name.
    async cube(name, room) {
        return (await this.cubes(room)).find((cube) => cube.name === name);
    }

    async end() {
        this.#typists.forEach((socket) => socket.destroy());
        for (const bots of this.#bots) await bots.end();
        await this.#program.end();
    }
}

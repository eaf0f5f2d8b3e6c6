import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { soon, until } from "./until.js";

const WORKSPACE = fileURLToPath(new URL("../../../", import.meta.url));
const running = new Set();
// A test that ran into its deadline leaves nothing behind either.
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

// The path of one of our programs, as `npm test` builds them.
export function built(name, profile = "debug") {
    const path = `${process.env.CARGO_TARGET_DIR ?? `${WORKSPACE}target`}/${profile}/${name}`;
    if (!existsSync(path)) throw new Error(`${path} is missing: start the tests with npm`);
    return path;
}

// A running program and the lines it prints.
export class Program {
    #name;
    #child;
    #lines = [];
    #read = 0;
    #ended;

    constructor(name, command, flags) {
        this.#name = name;
        this.#child = spawn(command, flags, { stdio: ["ignore", "pipe", "pipe"] });
        running.add(this.#child);
        this.#ended = once(this.#child, "exit").finally(() => running.delete(this.#child));
        // Awaited in `end`; a program that cannot be started is told by the wait for its first line.
        this.#ended.catch((error) => this.#lines.push(String(error)));
        for (const output of [this.#child.stdout, this.#child.stderr]) {
            createInterface({ input: output }).on("line", (line) => this.#lines.push(line));
        }
    }

    // The next line with that in it, matched. Lines before it are passed over for good, so that
    // waiting twice for the same words means: twice.
    async line(pattern) {
        try {
            return await until(`${this.#name} prints ${pattern}`, () => {
                while (this.#read < this.#lines.length) {
                    const found = pattern.exec(this.#lines[this.#read++]);
                    if (found) return found;
                }
                if (this.#child.exitCode !== null) throw new Error(`${this.#name} ended`);
                return null;
            });
        } catch (error) {
            throw new Error(`${error.message}; it printed:\n${this.#lines.join("\n")}`);
        }
    }

    // Ends it at once, as `kill -9` does, or as another signal asks for.
    async end(signal = "SIGKILL") {
        this.#child.kill(signal);
        await soon(`the end of ${this.#name}`, this.#ended);
    }
}

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";

import { chromiumPath, FLAGS } from "./chromium.js";
import { keepPicture } from "./output.js";
import { Picture } from "./picture.js";
import { soon, until } from "./until.js";

/// Chromium over its bare protocol, with tabs that really are in front or hidden: Playwright lets
/// every page believe that it is seen and has the focus.
export class Devtools {
    #profile = mkdtempSync(`${tmpdir()}/cubesync-e2e-`);
    #child;
    #unread = "";
    #calls = new Map();
    complaints = [];

    constructor() {
        const flags = ["--headless=new", "--remote-debugging-pipe", `--user-data-dir=${this.#profile}`];
        // It reads from file 3 and writes to file 4.
        const stdio = ["ignore", "ignore", "ignore", "pipe", "pipe"];
        this.#child = spawn(chromiumPath(), [...flags, ...FLAGS, "--window-size=800,700"], { stdio });
        process.on("exit", () => this.#child.kill("SIGKILL"));
        this.#child.stdio[4].setEncoding("utf8").on("data", (text) => this.#hear(text));
    }

    /// Opens an address in a new tab, in front of the others.
    async open(address) {
        const { targetId } = await this.send("Target.createTarget", { url: address });
        const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
        const tab = new RealTab(this, targetId, sessionId);
        await tab.send("Runtime.enable");
        await tab.send("Log.enable");
        return tab;
    }

    send(method, params = {}, sessionId) {
        const id = this.#calls.size;
        const answer = new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject, method }));
        this.#child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
        return soon(`the answer to ${method}`, answer);
    }

    #hear(text) {
        // Messages end with a zero byte, wherever the pipe cuts them.
        const messages = (this.#unread + text).split("\0");
        this.#unread = messages.pop();
        for (const message of messages) this.#on(JSON.parse(message));
    }

    #on({ id, result, error, method, params }) {
        const call = this.#calls.get(id);
        if (error) call.reject(new Error(`${call.method}: ${error.message}`));
        else if (call) call.resolve(result);
        else if (method === "Runtime.exceptionThrown") this.complaints.push(JSON.stringify(params.exceptionDetails));
        else if (method === "Log.entryAdded" && params.entry.level === "error") this.complaints.push(params.entry.text);
        else if (method === "Runtime.consoleAPICalled" && params.type === "error") this.complaints.push(JSON.stringify(params.args));
    }

    async end() {
        const ended = once(this.#child, "exit");
        this.#child.kill("SIGKILL");
        await soon("the end of Chromium", ended);
        rmSync(this.#profile, { recursive: true, force: true, maxRetries: 10 });
    }
}

class RealTab {
    #devtools;
    #target;
    #session;

    constructor(devtools, target, session) {
        this.#devtools = devtools;
        this.#target = target;
        this.#session = session;
    }

    send(method, params) {
        return this.#devtools.send(method, params, this.#session);
    }

    /// Comes before the other tabs of the window.
    async bringToFront() {
        await this.#devtools.send("Target.activateTarget", { targetId: this.#target });
    }

    /// The value of an expression in the page; of a promise, what it gives.
    async value(expression) {
        const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
            expression, awaitPromise: true, returnByValue: true,
        });
        if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
        return result.value;
    }

    async until(expression) {
        await until(`${expression} in the page`, () => this.value(expression));
    }

    /// Presses a letter's key and keeps it down.
    async press(letter) {
        const code = `Key${letter.toUpperCase()}`;
        await this.send("Input.dispatchKeyEvent", {
            type: "keyDown", code, key: letter, text: letter, windowsVirtualKeyCode: letter.toUpperCase().charCodeAt(0),
        });
    }

    /// Looks, and keeps what it saw as `name`.png.
    async look(name) {
        const { data } = await this.send("Page.captureScreenshot");
        const png = Buffer.from(data, "base64");
        keepPicture(name, png);
        return new Picture(png);
    }
}

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";

import { chromiumPath, FLAGS, rememberColour } from "./chromium.js";
import { keepPicture } from "./output.js";
import { findMagenta, Picture } from "./picture.js";
import { soon, until } from "./until.js";

// Chromium over its bare protocol, with tabs that really are in front or hidden: Playwright lets
// every page believe that it is seen and has the focus.
export class Devtools {
    #profile = mkdtempSync(`${tmpdir()}/cubesync-e2e-`);
    #child;
    #unread = "";
    #calls = new Map();
    #complaints = [];
    #crashes = new Map();
    tabs = [];

    static async start() {
        const devtools = new Devtools();
        await devtools.#launch();
        return devtools;
    }

    // Ends all of Chromium at once, as a power cut does, and starts it again with the same profile.
    async restart() {
        const ended = once(this.#child, "exit");
        this.#child.kill("SIGKILL");
        await soon("the end of Chromium", ended);
        this.#unread = "";
        this.tabs = [];
        await this.#launch();
    }

    // Waits until Chromium has written a text of pages' storage to its disk.
    async untilStored(text) {
        const folder = `${this.#profile}/Default/Local Storage/leveldb`;
        await until(`${text} is on the disk`, () => existsSync(folder)
            && readdirSync(folder).some((name) => readFileSync(`${folder}/${name}`, "latin1").includes(text)));
    }

    async #launch() {
        // It reads from file 3 and writes to file 4.
        const stdio = ["ignore", "ignore", "ignore", "pipe", "pipe"];
        const flags = [`--user-data-dir=${this.#profile}`, "--remote-debugging-pipe", "--window-size=800,700"];
        const child = spawn(chromiumPath(), ["--headless=new", ...FLAGS, ...flags], { stdio });
        process.on("exit", () => child.kill("SIGKILL"));
        child.stdio[4].setEncoding("utf8").on("data", (text) => this.#hear(text));
        child.stdio[3].on("error", () => {});
        this.#child = child;
        await this.send("Browser.getVersion");
    }

    // Opens an address in a new tab in front of the others, or in a window of its own.
    async open(address, { colour, newWindow = false } = {}) {
        const { targetId } = await this.send("Target.createTarget", { url: "about:blank", newWindow });
        const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
        const tab = new RealTab(this, targetId, sessionId);
        this.tabs.push(tab);
        await tab.send("Runtime.enable");
        await tab.send("Log.enable");
        await tab.send("Page.enable");
        await tab.send("Inspector.enable");
        await tab.send("Page.addScriptToEvaluateOnNewDocument", { source: rememberColour(colour) });
        await tab.send("Page.navigate", { url: address });
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

    #on({ id, result, error, method, params, sessionId }) {
        const call = this.#calls.get(id);
        if (call) return error ? call.reject(new Error(`${call.method}: ${error.message}`)) : call.resolve(result);
        const complaint = {
            "Runtime.exceptionThrown": () => params.exceptionDetails.exception?.description ?? params.exceptionDetails.text,
            "Runtime.consoleAPICalled": () => params.type === "error" && JSON.stringify(params.args),
            "Log.entryAdded": () => params.entry.level === "error" && params.entry.text,
        }[method]?.();
        if (complaint) this.#complaints.push(complaint);
        if (method === "Inspector.targetCrashed") this.#crashes.get(sessionId)?.();
    }

    // Waits until the page of a session has crashed.
    crashed(session) {
        return new Promise((resolve) => this.#crashes.set(session, resolve));
    }

    // What pages have complained about, but for what a test announced.
    complaints(announced) {
        return this.#complaints.filter((text) => !announced.some((pattern) => pattern.test(text)));
    }

    async end() {
        const ended = once(this.#child, "exit");
        await this.send("Browser.close");
        await soon("the end of Chromium", ended);
        // Its helpers may still be writing.
        await rm(this.#profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
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

    // Comes before the other tabs of the window.
    async bringToFront() {
        await this.#devtools.send("Target.activateTarget", { targetId: this.#target });
    }

    // The value of an expression in the page; of a promise, what it gives.
    async value(expression) {
        const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
            expression, awaitPromise: true, returnByValue: true,
        });
        if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
        return result.value;
    }

    // Ends the page's process at once, as phones do that need its memory, and loads the page again.
    async crash() {
        // What it kills cannot answer.
        this.send("Page.crash").catch(() => {});
        await soon("the crash", this.#devtools.crashed(this.#session));
        await this.send("Page.reload");
    }

    async until(expression) {
        await until(`${expression} in the page`, () => this.value(expression));
    }

    // Waits until the player is in the room, and nothing covers the game.
    async joined() {
        await this.until("document.title.startsWith('cubesync — ') && document.getElementById('cover').hidden");
    }

    // Presses a letter's key and keeps it down.
    press(letter) {
        return this.#key("keyDown", letter, { text: letter });
    }

    // Holds a letter's key down while something is done.
    async hold(letter, meanwhile) {
        await this.press(letter);
        await meanwhile();
        await this.#key("keyUp", letter);
    }

    // Presses the key that confirms a form.
    async enter() {
        const key = { code: "Enter", key: "Enter", windowsVirtualKeyCode: 13 };
        await this.send("Input.dispatchKeyEvent", { type: "keyDown", text: "\r", ...key });
        await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...key });
    }

    #key(type, letter, more) {
        const upper = letter.toUpperCase();
        return this.send("Input.dispatchKeyEvent", {
            type, code: `Key${upper}`, key: letter, windowsVirtualKeyCode: upper.charCodeAt(0), ...more,
        });
    }

    // Where the magenta cube is.
    findMagenta(name) {
        return findMagenta(this, name);
    }

    // Looks, and keeps what it saw as `name`.png.
    async look(name) {
        const { data } = await this.send("Page.captureScreenshot");
        const png = Buffer.from(data, "base64");
        keepPicture(name, png);
        return new Picture(png);
    }
}

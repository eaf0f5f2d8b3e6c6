import { chromium } from "playwright-core";

import { chromiumPath, FLAGS, rememberColour } from "./chromium.js";
import { keepPicture } from "./output.js";
import { findMagenta, Picture } from "./picture.js";

const VIEW = { width: 800, height: 600 };
// Nothing else in the world is magenta, so a picture tells where Anna's cube is.
export const MAGENTA = "#ff00ff";

// Chromium, and everything its pages complain about.
export class Browser {
    #chromium;
    #complaints = [];
    tabs = [];

    static async start(flags = []) {
        const browser = new Browser();
        browser.#chromium = await chromium.launch({
            executablePath: chromiumPath(),
            args: ["--headless=new", ...FLAGS, ...flags],
        });
        return browser;
    }

    // A person's own browser: what one keeps the others do not see. `colour` was chosen earlier.
    async person({ colour, ...options } = {}) {
        const context = await this.#chromium.newContext({ viewport: VIEW, ...options });
        await context.addInitScript(rememberColour(colour));
        return context;
    }

    // Opens an address in a tab of a person, or of somebody new.
    async open(address, person) {
        const context = person?.pages ? person : await this.person(person);
        const page = await context.newPage();
        const tab = new Tab(page);
        this.tabs.push(tab);
        page.on("console", (message) => {
            if (message.type() === "error") this.#complaints.push(message.text());
        });
        page.on("pageerror", (error) => this.#complaints.push(String(error)));
        page.on("crash", () => this.#complaints.push("the page crashed"));
        await page.goto(address);
        return tab;
    }

    // What pages have complained about, but for what a test announced.
    complaints(announced) {
        return this.#complaints.filter((text) => !announced.some((pattern) => pattern.test(text)));
    }

    // CPU seconds of Chromium's processes since they started, by kind.
    async processTimes() {
        const devtools = await this.#chromium.newBrowserCDPSession();
        const { processInfo } = await devtools.send("SystemInfo.getProcessInfo");
        await devtools.detach();
        const times = {};
        for (const { type, cpuTime } of processInfo) times[type] = (times[type] ?? 0) + cpuTime;
        return times;
    }

    async end() {
        await this.#chromium.close();
    }
}

// A tab and what a person does there: press keys and look.
export class Tab {
    constructor(page) {
        this.page = page;
    }

    // Waits until the player is in the room, and nothing covers the game.
    async joined() {
        await this.page.waitForFunction(() =>
            document.title.startsWith("cubesync — ") && document.getElementById("cover").hidden);
        return this;
    }

    // Looks, and keeps what it saw as `name`.png.
    async look(name) {
        const png = await this.page.screenshot();
        keepPicture(name, png);
        return new Picture(png);
    }

    // Where the magenta cube is.
    findMagenta(name) {
        return findMagenta(this, name);
    }

    // Holds a key down while something is done.
    async hold(key, meanwhile) {
        await this.page.keyboard.down(key);
        try {
            return await meanwhile();
        } finally {
            await this.page.keyboard.up(key);
        }
    }
}

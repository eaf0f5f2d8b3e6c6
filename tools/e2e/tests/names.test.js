import assert from "node:assert/strict";
import { scenario } from "../support/scenario.js";
import { until } from "../support/until.js";

// A name in each script; what it is compared with is as good as empty.
const NAMES = {
    chinese: "李小龍", japanese: "さくら", korean: "김민준", hebrew: "דוד", arabic: "محمد", thai: "สมชาย", hindi: "आर्यन",
    vietnamese: "Nguyễn Ánh", emoji: "😀👍", "joined-emoji": "👨‍👩‍👧🇩🇪", cyrillic: "Вася", greek: "Ελένη", latin: "Zoë",
};
const NEARLY_EMPTY = "i";
// Least number of pixels by which a name differs from that.
const NAME_PIXELS = 25;
// Where the name of the own cube is, in a page of 800 x 600.
const LABEL = { left: 330, top: 284, right: 470, bottom: 304 };
// White, or the yellow of most emoji: nothing else is there.
const isText = (red, green, blue) => Math.min(red, green, blue) > 150 || (red > 200 && green > 130 && blue < 120);

scenario("names of every script are drawn", {}, async ({ server, browser }) => {
    const person = await browser.person();
    // Browsers that guard against fingerprinting give noise for the pixels of a canvas.
    await person.addInitScript(() => {
        CanvasRenderingContext2D.prototype.getImageData = () => { throw new Error("read back"); };
    });
    const pixels = async (script, name) => {
        const tab = await browser.open(`${server.page}?name=${encodeURIComponent(name)}`, person);
        await tab.joined();
        let [before, now] = [-1, -2];
        await until(`the ${script} name lies still`, async () => {
            [before, now] = [now, (await tab.look(`40-name-${script}`)).find(isText, 1, LABEL)?.pixels ?? 0];
            return now === before && now > 0;
        });
        await tab.page.close();
        return now;
    };
    const empty = await pixels("empty", NEARLY_EMPTY);
    for (const [script, name] of Object.entries(NAMES)) {
        const drawn = await pixels(script, name);
        console.log(`${script}: ${drawn - empty} pixels`);
        assert.ok(drawn >= empty + NAME_PIXELS, `${script}: ${drawn} pixels, ${empty} without a name`);
    }
});

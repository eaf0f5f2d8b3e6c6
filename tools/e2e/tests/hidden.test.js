import assert from "node:assert/strict";

import { MAGENTA } from "../support/browser.js";
import { Devtools } from "../support/devtools.js";
import { apart, isMagenta } from "../support/picture.js";
import { atRest, scenario, walked } from "../support/scenario.js";
import { until } from "../support/until.js";

const TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))";
// Far enough that nobody mixes up where he was and where he is.
const WALK_M = 6;
const WALK_PIXELS = 120;
// The camera may still be on its last way.
const NEAR_PIXELS = 40;

async function hide(tab, other) {
    await other.bringToFront();
    await tab.until("document.visibilityState === 'hidden'");
}

const WAYS = {
    "behind another": { leave: hide, comeBack: (tab) => tab.bringToFront(), keepsConnection: true },
    // What browsers do to a tab that nobody has looked at for minutes: nothing runs there at all,
    // and its connection may be cut.
    "frozen": {
        keepsConnection: false,
        leave: async (tab, other) => {
            await hide(tab, other);
            await tab.send("Page.setWebLifecycleState", { state: "frozen" });
        },
        comeBack: async (tab) => {
            await tab.send("Page.setWebLifecycleState", { state: "active" });
            await tab.bringToFront();
        },
    },
};

for (const [how, { leave, comeBack, keepsConnection }] of Object.entries(WAYS)) {
    const options = { start: Devtools.start, announced: [/Page entered Back-Forward Cache/] };
    scenario(`while a tab is ${how} its cube rests, and its view is now when it returns`, options, async ({ server, browser }) => {
        const other = await browser.open("about:blank");
        const anna = await browser.open(`${server.page}?name=Anna`);
        const mark = await browser.open(`${server.page}?name=Mark`, { colour: MAGENTA, newWindow: true });
        await Promise.all([anna.joined(), mark.joined()]);
        assert.equal(await anna.value("document.visibilityState"), "visible");
        const before = await until("Anna sees Mark", async () => (await anna.look("16-before")).find(isMagenta));

        // Nobody lets the key go before, and no page hears of it afterwards.
        const start = await server.cube("Anna");
        await anna.press("s");
        await until("Anna walks", async () => walked(start, await server.cube("Anna")) > 1);
        await leave(anna, other);
        const rest = await atRest(server, "Anna");

        for (const key of ["d", "a", "d"]) {
            const from = await server.cube("Mark");
            await mark.hold(key, () => until("Mark walks", async () => walked(from, await server.cube("Mark")) > WALK_M));
        }
        await atRest(server, "Mark");
        assert.equal(walked(rest, await server.cube("Anna")), 0, "the cube of a hidden tab moves");

        await comeBack(anna);
        await anna.value(TWO_FRAMES);
        const seen = async (name) => {
            const picture = await anna.look(name);
            return picture.showsConnection() && picture.find(isMagenta);
        };
        const first = await seen(`17-returned-${how.replaceAll(" ", "-")}`);
        const later = await until("Anna sees where Mark is now", async () => {
            const patch = await seen("18-later");
            return patch && apart(before, patch) > WALK_PIXELS && patch;
        });
        if (keepsConnection) assert.ok(first && apart(first, later) < NEAR_PIXELS, "the view ran after the time");
        const back = await until("Anna is nobody's ghost", async () => {
            const cube = await server.cube("Anna");
            return cube.kind === "player" && cube;
        });
        assert.equal(back.id, start.id);
        // A cube that others are told of anew is where it is; before, they may have had it 2 quanta off on each axis.
        assert.ok(walked(rest, back) < 0.01, "the cube that came back moved");
    });
}

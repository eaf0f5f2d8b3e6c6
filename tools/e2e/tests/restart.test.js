import { MAGENTA } from "../support/browser.js";
import { scenario, walked } from "../support/scenario.js";
import { until } from "../support/until.js";

// What a browser says of a server that is not there.
const announced = [/ERR_CONNECTION_REFUSED/, /ERR_CONNECTION_RESET/, /ERR_EMPTY_RESPONSE/];

scenario("both tabs come back by themselves when the server does", { announced }, async ({ server, browser }) => {
    const anna = await browser.open(`${server.page}?name=Anna`, { colour: MAGENTA });
    const boris = await browser.open(`${server.page}?name=Boris`);
    await Promise.all([anna.joined(), boris.joined()]);
    await server.restart(async () => {
        for (const tab of [boris, anna]) {
            await until("the tab says that the connection is lost", async () =>
                (await tab.look("5-connection-lost")).showsLoss());
        }
    });
    await until("both are in the room again", async () => {
        const names = (await server.cubes()).map(({ name }) => name);
        return names.includes("Anna") && names.includes("Boris");
    });
    // Not only connected again: keys move the cube of the new session.
    const start = await server.cube("Anna");
    await anna.hold("ArrowUp", () => until("Anna walks again", async () =>
        walked(start, await server.cube("Anna")) > 2));
    await until("the other tab shows the room again", async () =>
        (await boris.look("6-connected-again")).showsConnection());
});

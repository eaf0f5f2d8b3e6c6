import { inflateSync } from "node:zlib";

import { until } from "./until.js";

const SIGNATURE_BYTES = 8;
// Two looks nearer than this are of a cube at rest.
const STILL_PIXELS = 1;

// What a page showed: a PNG as browsers make them, 8 bits a channel and not interlaced.
export class Picture {
    constructor(png) {
        const packed = [];
        for (let at = SIGNATURE_BYTES; at < png.length;) {
            const length = png.readUInt32BE(at);
            const kind = png.toString("latin1", at + 4, at + 8);
            const data = png.subarray(at + 8, at + 8 + length);
            if (kind === "IHDR") {
                this.width = data.readUInt32BE(0);
                this.height = data.readUInt32BE(4);
                this.channels = { 2: 3, 6: 4 }[data[9]];
                if (data[8] !== 8 || !this.channels || data[12] !== 0) throw new Error("an unusual PNG");
            } else if (kind === "IDAT") {
                packed.push(data);
            }
            at += length + 12;
        }
        this.bytes = this.#unfilter(inflateSync(Buffer.concat(packed)));
    }

    // Each row says by its first byte from which neighbours its bytes are predicted (PNG, 9.2).
    #unfilter(filtered) {
        const [step, row] = [this.channels, this.width * this.channels];
        const bytes = Buffer.alloc(row * this.height);
        for (let y = 0; y < this.height; y++) {
            const filter = filtered[y * (row + 1)];
            for (let x = 0; x < row; x++) {
                const at = y * row + x;
                const left = x >= step ? bytes[at - step] : 0;
                const above = y > 0 ? bytes[at - row] : 0;
                const corner = x >= step && y > 0 ? bytes[at - row - step] : 0;
                const predicted = [0, left, above, (left + above) >> 1, paeth(left, above, corner)][filter];
                bytes[at] = filtered[y * (row + 1) + 1 + x] + predicted;
            }
        }
        return bytes;
    }

    // The centre of all pixels of a colour and how many they are, or null if there are fewer than
    // `least`; of a part of the picture if one is named.
    find(isIt, least = 50, { left = 0, top = 0, right = this.width, bottom = this.height } = {}) {
        let [sumX, sumY, pixels] = [0, 0, 0];
        for (let y = top; y < bottom; y++) {
            for (let x = left; x < right; x++) {
                const at = (y * this.width + x) * this.channels;
                if (!isIt(this.bytes[at], this.bytes[at + 1], this.bytes[at + 2])) continue;
                sumX += x;
                sumY += y;
                pixels++;
            }
        }
        return pixels < least ? null : { x: sumX / pixels, y: sumY / pixels, pixels };
    }

    // The game's words are drawn, not written into the page. What tells them are the lights beside
    // them and their colour, in a picture of 800 x 600.

    // The green light beside the room's name, which is there while the game is connected.
    showsConnection() {
        return this.find((red, green) => green > 190 && red < 150, 20, { left: 24, top: 24, right: 44, bottom: 40 });
    }

    // The red light of the panel that says why there is no connection. It beats: look again.
    showsLoss() {
        return this.find(isAlarm, 40, { left: 90, top: 78, right: 400, bottom: 102 });
    }

    // Words of an error on the join screen.
    showsError() {
        return this.find(isAlarm, 500);
    }
}

function paeth(left, above, corner) {
    const [a, b, c] = [above - corner, left - corner, left + above - 2 * corner].map(Math.abs);
    if (a <= b && a <= c) return left;
    return b <= c ? above : corner;
}

// The distance of two patches in pixels.
export function apart(one, other) {
    return Math.hypot(one.x - other.x, one.y - other.y);
}

// Bright or in shadow, at any distance through the haze.
export function isMagenta(red, green, blue) {
    return red > green + 60 && blue > green + 60 && Math.abs(red - blue) < 60;
}

// Where the magenta cube is in a tab, once two looks agree: the view turns at first, and cubes glide.
export async function findMagenta(tab, name) {
    let before = null;
    return until(`the magenta cube lies still in ${name}`, async () => {
        const patch = (await tab.look(name)).find(isMagenta);
        const isStill = patch && before && apart(patch, before) < STILL_PIXELS;
        before = patch;
        return isStill ? patch : null;
    });
}

function isAlarm(red, green, blue) {
    return red > 100 && red > 1.6 * green && green > blue;
}

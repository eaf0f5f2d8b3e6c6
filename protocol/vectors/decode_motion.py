#!/usr/bin/env python3
"""A decoder of MotionState and Snapshot.residuals, written from docs/MOTION-CODEC.md alone.

Run:  python3 protocol/vectors/decode_motion.py [FILE]

Reads motion.txt beside it (its head says what the lines are), decodes every tick, and compares
every pose of every cube and every state of a keyframe. Needs Python 3 and nothing else.
"""

import copy
import pathlib
import sys
from math import isqrt

HERE = pathlib.Path(__file__).resolve().parent
TABLE = (HERE / "motion_table.bin").read_bytes()


class Malformed(Exception):
    """Bytes that no encoder wrote."""


def clamp(value, low, high):
    return max(low, min(high, value))


def quot(a, b):
    """Division, rounded towards zero; b > 0."""
    return a // b if a >= 0 else -(-a // b)


def into_world(position):
    x, y, z = position
    return (clamp(x, -131072, 131072), clamp(y, -131072, 131072), clamp(z, 0, 16384))


# Rotations (section 3): a rotation is (largest, [stored, stored, stored]).

UNIT = 2 * 8176 * 8176


def others(largest):
    return [index for index in range(4) if index != largest]


def unpack(rotation):
    largest, stored = rotation
    quaternion = [0] * 4
    for index, value in zip(others(largest), stored):
        quaternion[index] = (value - 511) * 16
    quaternion[largest] = isqrt(max(0, UNIT - sum(c * c for c in quaternion)))
    return quaternion


def rounded(quaternion, largest):
    """The three components, ready to be rounded."""
    sign = -1 if quaternion[largest] < 0 else 1
    return [sign * quaternion[index] + 8176 + 8 for index in others(largest)]


def pack(quaternion, largest):
    return [c >> 4 for c in rounded(quaternion, largest)]


def limited(stored):
    return [clamp(value, 0, 1023) for value in stored]


def largest_of(quaternion):
    sizes = [abs(c) for c in quaternion]
    first, second = sorted(sizes, reverse=True)[:2]
    return sizes.index(first), (first - second) >> 4


def product(a, b):
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return [
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    ]


def exponential(v):
    squared = sum(c * c for c in v)
    if squared > 1 << 28:
        half = exponential([quot(c, 2) for c in v])
        return [c >> 16 for c in product(half, half)]
    t = squared >> 8
    t2 = (t * t) >> 20
    t3 = (t2 * t) >> 20
    cosine = (1 << 20) - t // 2 + t2 // 24 - t3 // 720
    ratio = (1 << 20) - t // 6 + t2 // 120 - t3 // 5040
    return [(c * ratio) >> 18 for c in v] + [cosine >> 4]


def turn(quaternion, spin, ticks):
    if spin == [0, 0, 0] or ticks == 0:
        return quaternion
    e = exponential([c * min(ticks, 64) for c in spin])
    return [(c + (1 << 15)) >> 16 for c in product(e, quaternion)]


def spin_between(f, q):
    x, y, z, w = product(q, [-f[0], -f[1], -f[2], f[3]])
    if abs(w) < UNIT // 2:
        return None
    sign = -1 if w < 0 else 1
    sine = [quot(sign * (c << 14), UNIT) for c in (x, y, z)]
    squared = sum(c * c for c in sine) >> 14
    ratio = (1 << 14) + squared // 6 + ((3 * squared * squared // 40) >> 14)
    return [(c * ratio) >> 14 for c in sine]


# Bytes of a state (section 1).


class Reader:
    def __init__(self, data):
        self.data, self.next = data, 0

    def take(self, count):
        if self.next + count > len(self.data):
            raise Malformed("a state ends too early")
        self.next += count
        return self.data[self.next - count : self.next]

    def varint(self):
        first = self.take(1)[0]
        if first > 0xFD:
            raise Malformed("no varint")
        return first if first < 0xFB else int.from_bytes(self.take(2 << (first - 0xFB)), "little")

    def unsigned(self, bits):
        value = self.varint()
        if value >> bits:
            raise Malformed("a number is too large")
        return value

    def zigzag(self, bits):
        value = self.unsigned(bits)
        return -(value + 1) // 2 if value & 1 else value // 2

    def signed_bytes(self):
        return [b - 256 if b > 127 else b for b in self.take(3)]

    def pose(self):
        position = into_world([self.zigzag(32) for _ in range(3)])
        return position, rotation_from(self.take(4))


def rotation_from(data):
    packed = int.from_bytes(data, "little")
    return packed >> 30, [packed >> place & 1023 for place in (20, 10, 0)]


def rotation_bytes(rotation):
    largest, (a, b, c) = rotation
    return (largest << 30 | a << 20 | b << 10 | c).to_bytes(4, "little")


def varint(value):
    if value < 0xFB:
        return bytes([value])
    size = next(size for size in range(3) if value < 1 << (16 << size))
    return bytes([0xFB + size]) + value.to_bytes(2 << size, "little")


def zigzag(value):
    return varint(2 * value if value >= 0 else -2 * value - 1)


class State:
    """What everybody believes about a cube (sections 1 and 2)."""

    def __init__(self, pose):
        self.rest_at(pose)

    def rest_at(self, pose):
        self.stand_at(pose)
        self.stop()
        self.age, self.history = 24, 0
        self.position_errors = [[0, 0, 0], [0, 0, 0]]
        self.rotation_errors = [[0, 0, 0], [0, 0, 0]]

    def stand_at(self, pose):
        self.base = pose
        self.orientation = unpack(pose[1])

    def stop(self):
        self.velocity, self.acceleration, self.spin = [0] * 3, [0] * 3, [0] * 3

    @staticmethod
    def read(data):
        reader = Reader(data)
        variant = reader.unsigned(32)
        if variant > 1:
            raise Malformed("no such state")
        state = State(reader.pose())
        if variant == 1:
            top, top_acceleration = 1 << 20, 1 << 17
            state.velocity = [clamp(reader.zigzag(32), -top, top) for _ in range(3)]
            state.acceleration = [
                clamp(reader.zigzag(32), -top_acceleration, top_acceleration) for _ in range(3)
            ]
            state.spin = [reader.zigzag(16) for _ in range(3)]
            state.age = reader.unsigned(32)
            state.history = reader.take(1)[0]
            state.position_errors = [reader.signed_bytes() for _ in range(2)]
            state.rotation_errors = [reader.signed_bytes() for _ in range(2)]
            state.advance(0)
        if reader.next != len(data):
            raise Malformed("bytes follow the state")
        return state

    def write(self):
        position, rotation = self.base
        pose = b"".join(map(zigzag, position)) + rotation_bytes(rotation)
        if self.is_settled():
            return b"\0" + pose
        numbers = b"".join(map(zigzag, self.velocity + self.acceleration + self.spin))
        errors = sum(self.position_errors + self.rotation_errors, [])
        history = bytes([self.history]) + bytes(error & 255 for error in errors)
        return b"\1" + pose + numbers + varint(self.age) + history

    def is_still(self):
        return not any(self.velocity + self.acceleration + self.spin)

    def is_settled(self):
        return self.is_still() and self.age >= 24

    def advance(self, ticks):
        self.age = min(self.age + ticks, 0xFFFFFFFF)
        self.history = (self.history << min(ticks, 8)) & 255
        if self.is_settled():
            self.rest_at(self.base)

    def velocity_now(self):
        a = min(self.age, 64)
        return [v + acceleration * a for v, acceleration in zip(self.velocity, self.acceleration)]

    def predict(self):
        a = min(self.age, 64)
        grown = a * (a + 1) // 2 + a * (self.age - a)
        position = into_world(
            [
                base + ((velocity * self.age + acceleration * grown + 128) >> 8)
                for base, velocity, acceleration in zip(
                    self.base[0], self.velocity, self.acceleration
                )
            ]
        )
        quaternion = turn(self.orientation, self.spin, self.age)
        same = quaternion == self.orientation
        largest = self.base[1][0] if same else largest_of(quaternion)[0]
        return Prediction(position, quaternion, largest)

    def pose(self):
        if self.is_still():
            return self.base
        p = self.predict()
        return p.position, p.rotation()

    # What surprises do (section 4).

    def surprised(self):
        self.age = 0
        self.history |= 1

    def stopped(self):
        self.stop()
        self.surprised()

    def jumped(self, p, steps, turned):
        rotation = p.rotation()
        if turned is not None:
            largest, turn_steps = turned
            rotation = largest, [min(min(step, 1023) * 7, 1023) for step in turn_steps]
        x, y, z = steps
        self.stop()
        self.stand_at((into_world((-131072 + 5 * x, -131072 + 5 * y, 5 * z)), rotation))
        self.remember([127] * 3, [0] * 3)
        self.surprised()

    def corrected(self, p, off, largest, turns):
        n = clamp(self.age, 1, 65536)
        new = into_world([a + b for a, b in zip(p.position, off)])
        velocity_now = self.velocity_now()
        for axis in range(3):
            moved = new[axis] - p.position[axis]
            gained = quot(clamp(moved, -2048, 2048) * 256, n)
            self.velocity[axis] = clamp(velocity_now[axis] + gained, -(1 << 20), 1 << 20)
            acceleration = self.acceleration[axis] + quot(quot(gained * 192, 256), n)
            kept = 512 <= abs(acceleration) <= 131072
            self.acceleration[axis] = acceleration if kept else 0
        rotation = self.base[1]
        self.remember([clamp(o, -127, 127) for o in off], [clamp(t, -127, 127) for t in turns])
        if any(turns) or largest != p.largest or any(self.spin):
            stored = [s + t for s, t in zip(pack(p.quaternion, largest), turns)]
            rotation = largest, limited(stored)
            t = spin_between(p.quaternion, unpack(rotation))
            if t is None:
                self.spin = [0] * 3
            else:
                self.spin = [
                    clamp(spin + quot(c, n), -32768, 32767) for spin, c in zip(self.spin, t)
                ]
        self.stand_at((new, rotation))
        self.surprised()

    def remember(self, position_error, rotation_error):
        self.position_errors = [position_error, self.position_errors[0]]
        self.rotation_errors = [rotation_error, self.rotation_errors[0]]


class Prediction:
    def __init__(self, position, quaternion, largest):
        self.position, self.quaternion, self.largest = position, quaternion, largest

    def rotation(self):
        return self.largest, limited(pack(self.quaternion, self.largest))


# The range decoder (section 5) and the model (section 6).


class RangeDecoder:
    def __init__(self, data):
        self.data, self.next, self.range, self.code = data, 0, 0xFFFFFFFF, 0
        for _ in range(4):
            self.shift()

    def shift(self):
        byte = self.data[self.next] if self.next < len(self.data) else 0
        self.code = (self.code << 8 | byte) & 0xFFFFFFFF
        self.next += 1

    def decide(self, probability):
        bound = (self.range >> 16) * probability
        yes = self.code < bound
        if yes:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        while self.range < 1 << 24:
            self.range <<= 8
            self.shift()
        return yes

    def raw(self, count):
        value = 0
        for _ in range(count):
            value = value << 1 | self.decide(32768)
        return value


def logistic():
    probabilities = {}
    one = power = 1 << 60
    for s in range(177):
        probabilities[s] = min(65535, ((1 << 76) + (one + power) // 2) // (one + power))
        probabilities[-s] = 65536 - probabilities[s]
        power = (power * 1083069521826238951) >> 60
    return probabilities


PROBABILITIES = logistic()

# Name: where it starts, nodes, contexts of the six features.
GROUPS = {
    "surprised": (0, 1, (256, 512, 128, 384, 256, 128)),
    "stopped": (1664, 2, (256, 64, 64, 128, 32, 343)),
    "largest": (3438, 3, (64, 8, 1, 1, 1, 1)),
    "position": (3666, 30, (90, 144, 192, 192, 256, 384)),
    "rotation": (41406, 30, (140, 192, 192, 192, 128, 64)),
    "woken": (68646, 30, (8, 1, 1, 1, 1, 1)),
    "gap": (69036, 30, (8, 1, 1, 1, 1, 1)),
}


class View:
    """A group of questions in six contexts."""

    def __init__(self, coder, group, *contexts):
        start, nodes, sizes = GROUPS[group]
        contexts += (0,) * (6 - len(contexts))
        self.coder, self.rows = coder, []
        for context, size in zip(contexts, sizes):
            assert 0 <= context < size, (group, context, size)
            self.rows.append(start + nodes * context)
            start += nodes * size

    def ask(self, node):
        entries = (TABLE[row + node] for row in self.rows)
        total = sum(entry - 256 if entry > 127 else entry for entry in entries)
        return self.coder.decide(PROBABILITIES[clamp(total, -176, 176)])

    def number(self):
        if self.ask(0):
            return 0
        negative = self.ask(1)
        size = 0
        while size < 37 and self.ask((14 if negative else 2) + min(size, 11)):
            size += 1
        if size < 4:
            value = size + 1
        else:
            bits = (size - 4) // 2 + 1
            rest = self.ask(26 + min(size - 4, 3)) << (bits - 1)
            rest |= self.coder.raw(bits - 1)
            value = ((2 + (size - 4) % 2) << bits) + rest + 1
        return -value if negative else value


# The contexts (section 8).


def class_of(value):
    if value <= 2:
        return value
    return 3 + sum(value > limit for limit in (4, 8, 16, 64))


def clip(value, limit):
    return clamp(value, -limit, limit) + limit


def size_of(vector):
    return sum(map(abs, vector))


def told_before(index, errors):
    c0 = class_of(abs(errors[0])) if index > 0 else 0
    c1 = class_of(abs(errors[1])) if index > 1 else 0
    return (index * 8 + c0) * 8 + c1


class CubeContext:
    def __init__(self, state, z):
        self.state = state
        self.speeds = [(v + 128) >> 8 for v in state.velocity_now()]
        self.speed = class_of(size_of(self.speeds))
        self.spin = class_of(sum(abs(c) // 16 for c in state.spin))
        self.age = sum(state.age > limit for limit in (1, 2, 3, 4, 6, 9, 15))
        self.history = state.history
        self.recent = (state.history >> 1) & 3
        self.height = clamp(z >> 4, 0, 31)
        self.position_size = class_of(size_of(state.position_errors[0]))
        self.rotation_size = class_of(size_of(state.rotation_errors[0]))
        self.pace = min((self.speed + 1) // 2, 3)


class Tick:
    """One tick's residuals (section 7)."""

    def __init__(self, data):
        self.coder = RangeDecoder(data)

    def decode(self, cubes):
        ids = sorted(cubes)
        active = [id for id in ids if not cubes[id].is_settled()]
        settled = set(ids) - set(active)
        self.active = min(len(active).bit_length(), 7)
        self.before = 0
        for id in active:
            if self.is_surprising(cubes[id]):
                self.surprise(cubes[id])
        woken = max(0, View(self.coder, "woken", self.active).number())
        if woken > len(settled):
            raise Malformed("more cubes wake than are settled")
        at = 0
        for done in range(woken):
            at += self.distance(len(ids) - at, woken - done)
            if at >= len(ids) or ids[at] not in settled:
                raise Malformed("a cube wakes that is not there, or not settled")
            self.surprise(cubes[ids[at]])
            at += 1
        if self.coder.next < len(self.coder.data):
            raise Malformed("bytes are left over")

    def is_surprising(self, state):
        c = CubeContext(state, state.base[0][2])
        answer = View(
            self.coder,
            "surprised",
            c.history,
            c.speed * 64 + c.spin * 8 + c.position_size,
            self.before * 32 + self.active * 4 + c.recent,
            c.height * 12 + clip(c.speeds[2], 1) * 4 + c.recent,
            c.position_size * 32 + c.rotation_size * 4 + c.recent,
            (c.age * 8 + c.speed) * 2 + any(state.acceleration),
        ).ask(0)
        self.before = (self.before << 1 | answer) & 3
        return answer

    def distance(self, left, woken):
        m = left // (woken + 1)
        bits = clamp(m.bit_length() - 2, 0, 16)
        high = max(0, View(self.coder, "gap", min(woken, 7)).number())
        return (min(high, left >> bits) << bits) + self.coder.raw(bits)

    def surprise(self, state):
        p = state.predict()
        c = CubeContext(state, p.position[2])
        x, y, z = (clip(speed, 3) for speed in c.speeds)
        view = View(
            self.coder,
            "stopped",
            c.history,
            c.speed * 8 + c.spin,
            c.position_size * 8 + c.rotation_size,
            c.height * 4 + c.recent,
            self.before * 8 + c.age,
            x * 49 + y * 7 + z,
        )
        if not state.is_still() and view.ask(0):
            state.stopped()
        elif view.ask(1):
            self.jump(state, p)
        else:
            off = self.position(c)
            largest = self.largest(c, p, class_of(size_of(off)))
            state.corrected(p, off, largest, self.rotation(c, p, off, largest))

    def jump(self, state, p):
        turned = self.coder.raw(1)
        steps = [self.coder.raw(bits) for bits in (16, 16, 12)]
        rotation = None
        if turned:
            rotation = self.coder.raw(2), [self.coder.raw(8) for _ in range(3)]
        state.jumped(p, steps, rotation)

    def position(self, c):
        newer, older = c.state.position_errors
        everything = class_of(size_of(newer) + size_of(older))
        off = [0, 0, 0]
        for i in range(3):
            vertical = int(i == 2)
            flips = i < 2 and (c.speeds[i] < 0 or c.speeds[i] == 0 and newer[i] < 0)
            sign = -1 if flips else 1
            view = View(
                self.coder,
                "position",
                vertical * 45 + clip(sign * newer[i], 4) * 5 + clip(sign * older[i], 2),
                (vertical * 8 + class_of(abs(c.speeds[i]))) * 9
                + clip(sign * newer[i], 1) * 3
                + min(c.age, 2),
                told_before(i, off),
                (vertical * 32 + c.height) * 3 + clip(c.speeds[2], 1),
                ((vertical * 8 + everything) * 4 + min(c.age, 3)) * 4 + c.pace,
                ((vertical * 8 + c.rotation_size) * 8 + c.spin) * 3
                + clip(sign * c.state.acceleration[i], 1),
            )
            off[i] = sign * view.number()
        return off

    def largest(self, c, p, moved):
        lead = largest_of(p.quaternion)[1]
        view = View(self.coder, "largest", class_of(lead) * 8 + c.spin, moved)
        if not view.ask(0):
            return p.largest
        if view.ask(1):
            return (p.largest + 1) % 4
        return (p.largest + (2 if view.ask(2) else 3)) % 4

    def rotation(self, c, p, off, largest):
        newer, older = c.state.rotation_errors
        everything = class_of(size_of(newer) + size_of(older))
        expected = pack(p.quaternion, largest)
        base = pack(c.state.orientation, largest)
        parts = rounded(p.quaternion, largest)
        moved = class_of(size_of(off))
        risen = min(class_of(abs(off[2])), 2)
        turns = [0, 0, 0]
        for i in range(3):
            at, by = expected[i] - 511, expected[i] - base[i]
            quarter = (parts[i] >> 2) & 3
            sign = 1
            if by < 0 or by == 0 and newer[i] < 0:
                sign, quarter = -1, 3 - quarter
            view = View(
                self.coder,
                "rotation",
                clip(sign * newer[i], 3) * 20 + clip(sign * older[i], 2) * 4 + quarter,
                (class_of(abs(by)) * 3 + clip(sign * newer[i], 1)) * 8 + moved,
                (moved * 8 + c.rotation_size) * 3 + risen,
                told_before(i, turns),
                (everything * 4 + min(c.age, 3)) * 4 + c.pace,
                min(abs(at) // 64, 7) * 8 + c.spin,
            )
            turns[i] = sign * view.number()
        return turns


# The vectors.


class Check:
    """Follows the lines of a file and compares."""

    def __init__(self):
        self.ticks = self.poses = self.states = 0
        self.begin()

    def begin(self):
        self.cubes, self.expected, self.tick = {}, {}, None

    def line(self, words):
        match words:
            case ["trace", *_]:
                self.begin()
            case ["tick", tick]:
                if self.tick is not None:
                    for state in self.cubes.values():
                        state.advance(int(tick) - self.tick)
                self.tick = int(tick)
                self.ticks += 1
            case ["left", id]:
                del self.cubes[int(id)], self.expected[int(id)]
            case ["joined", id, data]:
                self.cubes[int(id)] = State.read(bytes.fromhex(data))
            case ["wrong", data]:
                try:
                    Tick(bytes.fromhex(data)).decode(copy.deepcopy(self.cubes))
                except Malformed:
                    return
                raise Malformed("these bytes are wrong, and were taken")
            case ["surprises", data]:
                Tick(bytes.fromhex(data)).decode(self.cubes)
            case ["cube", id, "true", *_, "believed", x, y, z, rotation]:
                position = int(x), int(y), int(z)
                self.expected[int(id)] = position, rotation_from(bytes.fromhex(rotation))
            case ["end"]:
                poses = {id: state.pose() for id, state in self.cubes.items()}
                if poses != self.expected:
                    raise Malformed(f"tick {self.tick}: {poses}, not {self.expected}")
                self.poses += len(poses)
            case ["state", id, data]:
                written = self.cubes[int(id)].write().hex()
                if written != data:
                    raise Malformed(f"tick {self.tick}: state {written}, not {data}")
                # From here on as one who has joined with this keyframe.
                self.cubes[int(id)] = State.read(bytes.fromhex(data))
                self.states += 1
            case _:
                raise Malformed("no such line")


def main():
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "motion.txt"
    check = Check()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line and not line.startswith("#"):
            try:
                check.line(line.split())
            except (Malformed, KeyError, ValueError) as error:
                sys.exit(f"{path}:{number}: {error!r}")
    if check.poses == 0:
        sys.exit(f"{path}: no poses to compare")
    print(f"{check.ticks} ticks, {check.poses} poses and {check.states} states agree")


if __name__ == "__main__":
    main()

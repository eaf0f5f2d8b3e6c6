"""The motion codec of docs/MOTION-CODEC.md: MotionState, and residuals in both directions.

    cubes = {7: State.read(data)}       # by id, in any order; State(pose) is a cube at rest
    for state in cubes.values():
        state.advance(ticks)
    decode(cubes, residuals)            # Malformed: no encoder wrote these bytes
    position, rotation = cubes[7].pose()
    residuals = encode(cubes, {7: pose})

Its decoder was written from that page alone. Needs Python 3.10, and the table beside this file.
"""

import array
import pathlib
from math import isqrt

TABLE = array.array("b", (pathlib.Path(__file__).parent / "motion_table.bin").read_bytes())


class Malformed(Exception):
    """Bytes that no encoder wrote."""


def clamp(value, low, high):
    return max(low, min(high, value))


def quot(a, b):
    """Division, rounded towards zero; b > 0."""
    return a // b if a >= 0 else -(-a // b)


def differences(a, b):
    return [x - y for x, y in zip(a, b)]


def is_within(vector, bound):
    return all(abs(c) <= bound for c in vector)


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
    e = exponential([c * min(ticks, 64) for c in spin])
    return [(c + (1 << 15)) >> 16 for c in product(e, quaternion)]


def spin_between(f, q):
    x, y, z, w = product(q, [-f[0], -f[1], -f[2], f[3]])
    if abs(w) < UNIT // 2:
        return None
    sine = [quot(w // abs(w) * (c << 14), UNIT) for c in (x, y, z)]
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
        (first,) = self.take(1)
        if first < 0xFB:
            return first
        return int.from_bytes(self.take(2 << (first - 0xFB)), "little")

    def unsigned(self, bits):
        value = self.varint()
        if value >> bits:
            raise Malformed("a number is too large")
        return value

    def zigzag(self, bits):
        value = self.unsigned(bits)
        return value >> 1 ^ -(value & 1)

    def signed_bytes(self):
        return list(array.array("b", self.take(3)))

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
    if value < 1 << 16:
        return b"\xfb" + value.to_bytes(2, "little")
    return b"\xfc" + value.to_bytes(4, "little")


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
        self.velocity = [0] * 3
        self.acceleration = [0] * 3
        self.spin = [0] * 3

    @staticmethod
    def read(data):
        reader = Reader(data)
        variant = reader.varint()
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
            (state.history,) = reader.take(1)
            state.position_errors = [reader.signed_bytes() for _ in range(2)]
            state.rotation_errors = [reader.signed_bytes() for _ in range(2)]
        if len(state.write()) != len(data):
            raise Malformed("bytes follow the state, or it has a shorter form")
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
        p = self.predict()
        return p.position, p.rotation()

    # What residuals do (section 4): ("stopped",), ("jumped", steps, (largest, turn steps) or
    # None) or ("error", off, largest, turns).

    def apply(self, p, residual):
        kind, *fields = residual
        if kind == "stopped":
            self.stop()
        elif kind == "jumped":
            self.jump(p, *fields)
        else:
            self.correct(p, *fields)
        self.age = 0
        self.history |= 1

    def jump(self, p, steps, turned):
        rotation = p.rotation()
        if turned is not None:
            largest, turn_steps = turned
            rotation = largest, [min(step * 7, 1023) for step in turn_steps]
        x, y, z = steps
        self.stop()
        self.stand_at((into_world((-131072 + 5 * x, -131072 + 5 * y, 5 * z)), rotation))
        self.remember([127] * 3, [0] * 3)

    def correct(self, p, off, largest, turns):
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
        self.remember([clamp(o, -127, 127) for o in off], [clamp(t, -127, 127) for t in turns])
        stored = [s + t for s, t in zip(pack(p.quaternion, largest), turns)]
        self.stand_at((new, (largest, limited(stored))))
        t = spin_between(p.quaternion, self.orientation)
        if t is None:
            self.spin = [0] * 3
        else:
            self.spin = [clamp(spin + quot(c, n), -32768, 32767) for spin, c in zip(self.spin, t)]

    def residual(self, truth):
        """What an encoder of ours sends, None if the cube is as predicted (section 9)."""
        position, (largest, stored) = into_world(truth[0]), truth[1]
        p = self.predict()
        off = differences(position, p.position)
        turns = differences(stored, pack(p.quaternion, largest))
        if is_within(off, 2) and is_within(turns, 3):
            return None
        back = differences(position, self.base[0])
        turned_back = differences(stored, pack(self.orientation, largest))
        if not self.is_still() and is_within(back, 2) and is_within(turned_back, 3):
            return ("stopped",)
        if not is_within(off, 2048):
            lowest = (-131072, -131072, 0)
            steps = [(c + 2) // 5 for c in differences(position, lowest)]
            turned = None
            if not is_within(turns, 3):
                turned = largest, [(c + 3) // 7 for c in stored]
            return "jumped", steps, turned
        off = [o if abs(o) > 2 else 0 for o in off]
        return "error", off, largest, [t if abs(t) > 3 else 0 for t in turns]

    def remember(self, position_error, rotation_error):
        self.position_errors = [position_error, self.position_errors[0]]
        self.rotation_errors = [rotation_error, self.rotation_errors[0]]


class Prediction:
    def __init__(self, position, quaternion, largest):
        self.position, self.quaternion, self.largest = position, quaternion, largest

    def rotation(self):
        return self.largest, limited(pack(self.quaternion, self.largest))


# The range coder (section 5) and the model (section 6). An encoder returns the answer that it is
# given, a decoder ignores it and returns what it read.


class RangeDecoder:
    def __init__(self, data):
        self.data, self.next, self.range = data, 4, 0xFFFFFFFF
        self.code = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def shift(self):
        byte = self.data[self.next] if self.next < len(self.data) else 0
        self.code = (self.code << 8 | byte) & 0xFFFFFFFF
        self.next += 1

    def decide(self, probability, _):
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


class RangeEncoder:
    def __init__(self):
        self.out, self.low, self.range = bytearray(), 0, 0xFFFFFFFF

    def decide(self, probability, yes):
        bound = (self.range >> 16) * probability
        if yes:
            self.range = bound
        else:
            self.low += bound
            self.range -= bound
            self.carry()
        while self.range < 1 << 24:
            self.out.append(self.low >> 24)
            self.low = (self.low << 8) & 0xFFFFFFFF
            self.range <<= 8
        return yes

    def carry(self):
        if self.low >> 32:
            self.low &= 0xFFFFFFFF
            last = len(self.out) - 1
            while self.out[last] == 255:
                self.out[last] = 0
                last -= 1
            self.out[last] += 1

    def finish(self):
        # Rounded up to 32 bits, or to 24: the range has as many.
        end, last = self.low + self.range, -(-self.low >> 32) << 32
        self.low = last if last < end else -(-self.low >> 24) << 24
        self.carry()
        self.out.append(self.low >> 24)
        return bytes(self.out[:1] + self.out[1:].rstrip(b"\0"))


def raw(coder, count, value):
    read = 0
    for place in reversed(range(count)):
        read = read << 1 | coder.decide(32768, value >> place & 1)
    return read


def logistic():
    probabilities = {}
    one = power = 1 << 60
    for s in range(177):
        probabilities[s] = ((1 << 76) + (one + power) // 2) // (one + power)
        probabilities[-s] = 65536 - probabilities[s]
        power = (power * 1083069521826238951) >> 60
    return probabilities


PROBABILITIES = logistic()

# Name: nodes, contexts of the six features.
GROUPS = {
    "surprised": (1, (256, 512, 128, 384, 256, 128)),
    "stopped": (2, (256, 64, 64, 128, 32, 343)),
    "largest": (3, (64, 8, 1, 1, 1, 1)),
    "position": (30, (90, 144, 192, 192, 256, 384)),
    "rotation": (30, (140, 192, 192, 192, 128, 64)),
    "woken": (30, (8, 1, 1, 1, 1, 1)),
    "gap": (30, (8, 1, 1, 1, 1, 1)),
}


def starts():
    """Returns where each feature of each group starts in the table."""
    starts, start = {}, 0
    for group, (nodes, sizes) in GROUPS.items():
        starts[group] = []
        for size in sizes:
            starts[group].append(start)
            start += nodes * size
    assert start == len(TABLE)
    return starts


STARTS = starts()


class View:
    """A group of questions in six contexts."""

    def __init__(self, coder, group, *contexts):
        nodes, starts = GROUPS[group][0], STARTS[group]
        self.coder, self.rows = coder, [*starts]
        for feature, context in enumerate(contexts):
            self.rows[feature] += nodes * context

    def ask(self, node, answer):
        total = sum(TABLE[row + node] for row in self.rows)
        return self.coder.decide(PROBABILITIES[clamp(total, -176, 176)], answer)

    def number(self, value):
        if self.ask(0, value == 0):
            return 0
        negative = self.ask(1, value < 0)
        wanted, size = abs(value) - 1, 0
        while size < 37:
            node = (14 if negative else 2) + min(size, 11)
            if not self.ask(node, wanted >= numbers_of(size + 1)[0]):
                break
            size += 1
        read, bits = numbers_of(size)
        if bits:
            read += self.ask(26 + min(size - 4, 3), wanted >> (bits - 1) & 1) << (bits - 1)
            read += raw(self.coder, bits - 1, wanted)
        return -(read + 1) if negative else read + 1


def numbers_of(size):
    """Returns the first number of a size, less 1, and the bits that say which one it is."""
    if size < 4:
        return size, 0
    bits = (size - 4) // 2 + 1
    return (2 + size % 2) << bits, bits


# The contexts (section 8).


def class_of(value):
    return sum(value > limit for limit in (0, 1, 2, 4, 8, 16, 64))


def clip(value, limit):
    return clamp(value, -limit, limit) + limit


def size_of(vector):
    return sum(map(abs, vector))


def told_before(index, errors):
    c0, c1 = (class_of(abs(error)) for error in (*errors, 0, 0)[:2])
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
        self.height = min(z >> 4, 31)
        self.position_size = class_of(size_of(state.position_errors[0]))
        self.rotation_size = class_of(size_of(state.rotation_errors[0]))
        self.pace = min((self.speed + 1) // 2, 3)


# Stands for what a decoder does not know yet.
NOTHING = bytes(3)


class Tick:
    """One tick's residuals (section 7): by id, those to write, or those that were read."""

    def __init__(self, coder, residuals=None):
        self.coder, self.residuals = coder, residuals or {}

    def code(self, cubes):
        ids = sorted(cubes)
        active = [id for id in ids if not cubes[id].is_settled()]
        settled = set(ids) - set(active)
        waking = [id for id in ids if id in settled and id in self.residuals]
        self.active = min(len(active).bit_length(), 7)
        self.before = 0
        for id in active:
            if self.is_surprising(cubes[id], id in self.residuals):
                self.surprise(id, cubes[id])
        woken = View(self.coder, "woken", self.active).number(len(waking))
        if woken > len(settled):
            raise Malformed("more cubes wake than are settled")
        at = 0
        for done in range(woken):
            wanted = ids.index(waking[done]) - at if waking else 0
            at += self.distance(len(ids) - at, woken - done, wanted)
            if at >= len(ids) or ids[at] not in settled:
                raise Malformed("a cube wakes that is not there, or not settled")
            self.surprise(ids[at], cubes[ids[at]])
            at += 1

    def is_surprising(self, state, answer):
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
        ).ask(0, answer)
        self.before = (self.before << 1 | answer) & 3
        return answer

    def distance(self, left, woken, wanted):
        m = left // (woken + 1)
        bits = max(0, m.bit_length() - 2)
        high = max(0, View(self.coder, "gap", min(woken, 7)).number(wanted >> bits))
        return (min(high, left >> bits) << bits) + raw(self.coder, bits, wanted)

    def surprise(self, id, state):
        p = state.predict()
        self.residuals[id] = self.residual(state, p, *self.residuals.get(id, (None,)))
        state.apply(p, self.residuals[id])

    def residual(self, state, p, kind, *fields):
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
        if not state.is_still() and view.ask(0, kind == "stopped"):
            return ("stopped",)
        if view.ask(1, kind == "jumped"):
            return "jumped", *self.jump(*fields)
        off, largest, turns = fields or (NOTHING, 0, NOTHING)
        off = self.position(c, off)
        largest = self.largest(c, p, class_of(size_of(off)), largest)
        return "error", off, largest, self.rotation(c, p, off, largest, turns)

    def jump(self, steps=NOTHING, turned=None):
        turns = raw(self.coder, 1, turned is not None)
        steps = [raw(self.coder, bits, value) for bits, value in zip((16, 16, 12), steps)]
        if not turns:
            return steps, None
        largest, turn_steps = turned or (0, NOTHING)
        largest = raw(self.coder, 2, largest)
        return steps, (largest, [raw(self.coder, 8, value) for value in turn_steps])

    def position(self, c, wanted):
        newer, older = c.state.position_errors
        everything = class_of(size_of(newer) + size_of(older))
        off = []
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
            off.append(sign * view.number(sign * wanted[i]))
        return off

    def largest(self, c, p, moved, wanted):
        lead = largest_of(p.quaternion)[1]
        view = View(self.coder, "largest", class_of(lead) * 8 + c.spin, moved)
        distance = (wanted - p.largest) % 4
        if not view.ask(0, distance != 0):
            return p.largest
        if view.ask(1, distance == 1):
            return (p.largest + 1) % 4
        return (p.largest + (2 if view.ask(2, distance == 2) else 3)) % 4

    def rotation(self, c, p, off, largest, wanted):
        newer, older = c.state.rotation_errors
        everything = class_of(size_of(newer) + size_of(older))
        expected = pack(p.quaternion, largest)
        base = pack(c.state.orientation, largest)
        parts = rounded(p.quaternion, largest)
        moved = class_of(size_of(off))
        risen = min(abs(off[2]), 2)
        turns = []
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
            turns.append(sign * view.number(sign * wanted[i]))
        return turns


def decode(cubes, residuals):
    """Applies what a tick's residuals say to its cubes. Returns the residuals, by id."""
    if not residuals:
        return {}
    tick = Tick(RangeDecoder(residuals))
    tick.code(cubes)
    if tick.coder.next < len(residuals):
        raise Malformed("bytes are left over")
    return tick.residuals


def encode(cubes, truth):
    """Returns the bytes that bring the predicted cubes to their true poses, and applies them."""
    residuals = {id: state.residual(truth[id]) for id, state in cubes.items()}
    residuals = {id: residual for id, residual in residuals.items() if residual}
    if not residuals:
        return b""
    tick = Tick(RangeEncoder(), residuals)
    tick.code(cubes)
    return tick.coder.finish()

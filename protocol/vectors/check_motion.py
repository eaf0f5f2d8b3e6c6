#!/usr/bin/env python3
"""Checks the codec in motion.py against the vectors in motion.txt.

Run:  python3 protocol/vectors/check_motion.py [FILE]

The head of motion.txt says what its lines are. A receiver decodes every tick, and its poses must be
those of the file; a sender encodes the true poses, and its bytes must be those of the file.
"""

import copy
import pathlib
import sys

import motion

HERE = pathlib.Path(__file__).resolve().parent


class Different(Exception):
    """The codec does not do what the file says."""


def same(what, is_so, expected):
    if is_so != expected:
        raise Different(f"{what}: {is_so}, not {expected}")


class Check:
    """Follows the lines of a file with a receiver and a sender, and compares."""

    def __init__(self, codec=motion):
        self.codec = codec
        self.ticks = self.poses = self.states = self.wrong = 0
        self.begin()

    def begin(self):
        self.receiver, self.sender, self.truth, self.believed = {}, {}, {}, {}
        self.tick = None

    def advance(self, tick):
        for cubes in (self.receiver, self.sender):
            for state in cubes.values():
                state.advance(tick - self.tick)
        self.tick, self.residuals = tick, b""
        self.ticks += 1

    def join(self, id, data):
        for cubes in (self.receiver, self.sender):
            cubes[id] = self.codec.State.read(data)

    def pose(self, x, y, z, rotation):
        rotation = self.codec.rotation_from(bytes.fromhex(rotation))
        return (int(x), int(y), int(z)), rotation

    def refused(self, take, *arguments):
        try:
            take(*arguments)
        except self.codec.Malformed:
            self.wrong += 1
        else:
            raise Different("these bytes are wrong, and were taken")

    def sample(self, data):
        """A whole message of a client: the tick, the cubes that are placed, and the residuals."""
        reader = self.codec.Reader(data)
        same("number of the message", reader.varint(), 1)
        self.advance(reader.varint())
        for _ in range(reader.varint()):
            id, pose = reader.varint(), reader.pose()
            self.receiver[id], self.sender[id] = self.codec.State(pose), self.codec.State(pose)
        self.residuals = reader.take(reader.varint())
        same("length", reader.next, len(data))
        self.codec.decode(self.receiver, self.residuals)

    def line(self, words):
        match words:
            case ["trace", *_]:
                self.begin()
            case ["tick", tick]:
                self.tick = int(tick) if self.tick is None else self.tick
                self.advance(int(tick))
            case ["left", id]:
                for each in (self.receiver, self.sender, self.truth, self.believed):
                    del each[int(id)]
            case ["joined", id, data]:
                self.join(int(id), bytes.fromhex(data))
            case ["sample", data]:
                self.tick = self.tick or 0
                self.sample(bytes.fromhex(data))
            case ["wrong", "state", data]:
                self.refused(self.codec.State.read, bytes.fromhex(data))
            case ["wrong", data]:
                self.refused(self.codec.decode, copy.deepcopy(self.receiver), bytes.fromhex(data))
            case ["surprises", data]:
                self.residuals = bytes.fromhex(data)
                self.codec.decode(self.receiver, self.residuals)
            case ["foreign", data]:
                for cubes in (self.receiver, self.sender):
                    self.codec.decode(cubes, bytes.fromhex(data))
            case ["cube", id, "true", x, y, z, rotation, "believed", *believed]:
                self.truth[int(id)] = self.pose(x, y, z, rotation)
                self.believed[int(id)] = self.pose(*believed)
            case ["end"]:
                poses = {id: state.pose() for id, state in self.receiver.items()}
                same("believed poses", poses, self.believed)
                written = self.codec.encode(self.sender, self.truth)
                same("residuals", written.hex(), self.residuals.hex())
                self.poses += len(poses)
            case ["state", id, data]:
                for cubes in (self.receiver, self.sender):
                    same("state", cubes[int(id)].write().hex(), data)
                # From here on as one who has joined with this keyframe.
                self.join(int(id), bytes.fromhex(data))
                self.states += 1
            case _:
                raise ValueError("no such line")


def main():
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "motion.txt"
    check = Check()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line and not line.startswith("#"):
            try:
                check.line(line.split())
            except (Different, motion.Malformed, KeyError, ValueError) as error:
                sys.exit(f"{path}:{number}: {error!r}")
    if check.poses == 0:
        sys.exit(f"{path}: no poses to compare")
    print(
        f"{check.ticks} ticks, {check.poses} poses, {check.states} states and "
        f"{check.wrong} refusals agree"
    )


if __name__ == "__main__":
    main()

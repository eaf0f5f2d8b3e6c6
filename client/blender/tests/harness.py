"""Servers on loopback and other players in them, for tests of any part of the add-on."""

import sys
import time
from pathlib import Path

import cubesync

ADDON = Path(__file__).resolve().parents[1]
PATIENCE_S = 20

sys.path.append(str(ADDON.parent / "python" / "tests"))
import support


class Server(support.Server):
    """A server process, which ends with the `with` block."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Friend:
    """Another player, without Blender."""

    def __init__(self, address, name="Friend", **options):
        self.room = cubesync.join(address, name=name, **options)
        self.place = None

    def step(self):
        """Does what a frame needs."""
        self.room.poll()
        if self.place:
            self.room.move(self.place)

    def sees(self, name):
        """Returns another player's cube."""
        return next((cube for cube in self.room.cubes if cube.name == name), None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.room.close()


def until(condition, *steps):
    """Does these steps up to 60 times a second until the condition holds, and returns what it returned."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for step in steps:
            step()
        result = condition()
        if result:
            return result
        time.sleep(1 / 60)
    raise AssertionError(f"not within {PATIENCE_S} s: {condition.__qualname__}")


def near(position, other, metres=0.05):
    """Returns whether two positions are the same but for what the wire rounds."""
    return all(abs(one - two) < metres for one, two in zip(position, other))

"""A server on loopback and other players in it, for tests of any part of the add-on."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import cubesync

ADDON = Path(__file__).resolve().parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ADDON.parents[1] / "target"))
SERVER = TARGET / "debug" / ("cubesync-server" + (".exe" if sys.platform == "win32" else ""))
PATIENCE_S = 20


class Server:
    """A server process, on ports that are free, which ends with the `with` block."""

    def __init__(self, *flags, listen="127.0.0.1:0"):
        command = [SERVER, "--listen", listen, "--http", "127.0.0.1:0", *flags]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        found = (re.search(r"clients +(\S+)", line) for line in self._process.stdout)
        self.address = next(address[1] for address in found if address)

    def kill(self):
        """Ends the server without a word to its players."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

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

"""Real servers for the tests, and waiting."""

from __future__ import annotations

import os
import pathlib
import subprocess
import tempfile
import time
import unittest
from typing import Callable, List, Type, TypeVar

import cubesync

ROOT = pathlib.Path(__file__).resolve().parents[3]
SERVER = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "cubesync-server"
FRAME_S = 1 / 60
# Ends a test that hangs; no test waits for it.
TOO_LONG_S = 30.0

Kind = TypeVar("Kind", bound=cubesync.Event)


class Server:
    """A server process with flags; it ends with the test."""

    def __init__(self, *flags: str, listen: str = "127.0.0.1:0") -> None:
        if not SERVER.exists():
            raise AssertionError(f"build it first: cargo build -p cubesync-server ({SERVER})")
        command = [str(SERVER), "--listen", listen, "--http", "127.0.0.1:0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout
        said = []
        for line in self.process.stdout:
            said.append(line)
            if line.strip().startswith("clients"):
                self.address = line.split()[1]
                return
        raise AssertionError(f"the server did not start: {said}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


class Case(unittest.TestCase):
    """A test with servers and rooms, which end with it."""

    def server(self, *flags: str, listen: str = "127.0.0.1:0") -> Server:
        server = Server(*flags, listen=listen)
        self.addCleanup(server.kill)
        return server

    def folder(self) -> pathlib.Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return pathlib.Path(folder.name)

    def room(self, address: str, **options: object) -> cubesync.Room:
        room = cubesync.join(address, **options)  # type: ignore[arg-type]
        self.addCleanup(room.close)
        return room

    def joined(self, address: str, *names: str) -> List[cubesync.Room]:
        """Returns rooms of players who see each other."""
        rooms = [self.room(address, name=name) for name in names]
        players = set(names)
        self.until(lambda _: all(players <= {cube.name for cube in room.cubes} for room in rooms), *rooms)
        return rooms

    def until(self, is_so: Callable[[List[cubesync.Event]], object], *rooms: cubesync.Room) -> List[cubesync.Event]:
        """Polls until something is so, and returns what has happened meanwhile."""
        events: List[cubesync.Event] = []
        end = time.monotonic() + TOO_LONG_S
        while True:
            for room in rooms:
                events += room.poll()
            if is_so(events):
                return events
            self.assertLess(time.monotonic(), end, f"{[room.status for room in rooms]} {events}")
            time.sleep(FRAME_S)

    def event(self, kind: Type[Kind], *rooms: cubesync.Room) -> Kind:
        """Polls until an event of a kind comes, and returns it."""
        events = self.until(lambda events: any(isinstance(event, kind) for event in events), *rooms)
        return next(event for event in events if isinstance(event, kind))

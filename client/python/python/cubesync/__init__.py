"""Join a cubesync server: everybody's cubes, live, once a frame.

    import math, time, cubesync

    with cubesync.join("localhost", name="Anna") as room:
        while True:
            for event in room.poll():
                print(event)
            t = time.monotonic()
            room.move((3 * math.cos(t), 3 * math.sin(t), 0.5))
            for cube in room.cubes:
                print(cube.name, cube.position)
            time.sleep(1 / 60)

Lengths are metres, z is up and the floor is z = 0; rotations are quaternions (x, y, z, w).
"""

from ._cubesync import Cube, Room, join
from ._report import (
    Connected,
    Corrected,
    Ended,
    Error,
    Event,
    Freed,
    Joined,
    Left,
    Lost,
    Refused,
    Status,
    Taken,
)

KINDS = ("player", "free", "ghost")
"""The kinds of cubes, by the number that a record has: a player's own cube, one that anybody may take, and
one whose player has lost the connection and may come back."""

DTYPE = [
    ("id", "<u8"),
    ("holder", "<i8"),
    ("position", "<f4", (3,)),
    ("rotation", "<f4", (4,)),
    ("width", "<f4"),
    ("colour", "u1", (3,)),
    ("kind", "u1"),
    ("is_own", "?"),
    ("is_stale", "?"),
    ("unused", "V2"),
]
"""The record of a cube, as numpy.dtype takes it; the holder is -1 where nobody holds the cube."""

RECORD = "<Qq3f4ff3BB??2x"
"""The same, as the module struct takes it."""

RECORD_BYTES = 56
"""The bytes of a record."""

__all__ = [
    "Connected",
    "Corrected",
    "Cube",
    "DTYPE",
    "Ended",
    "Error",
    "Event",
    "Freed",
    "Joined",
    "KINDS",
    "Left",
    "Lost",
    "RECORD",
    "RECORD_BYTES",
    "Refused",
    "Room",
    "Status",
    "Taken",
    "join",
]

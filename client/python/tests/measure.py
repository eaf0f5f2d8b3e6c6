"""Prints what a frame costs in a room of 1,000 loose cubes, by records and by objects.

Build the server and install the package first: python client/python/tests/measure.py
"""

import statistics
import time
from typing import Callable, Dict, List

import numpy

import cubesync
from support import Server

CUBES = 1_000
FRAMES = 600


def main() -> None:
    server = Server("--cubes", str(CUBES))
    room = cubesync.join(server.address)
    buffer = bytearray(2 * CUBES * cubesync.RECORD_BYTES)
    records = numpy.frombuffer(buffer, cubesync.DTYPE)

    def by_records() -> object:
        count = room.fill(buffer)
        return records["position"][:count], records["rotation"][:count]

    def by_objects() -> object:
        return [(cube.id, cube.position, cube.rotation) for cube in room.cubes]

    ways: Dict[str, Callable[[], object]] = {
        "poll": room.poll,
        "where all cubes are, for one of them (own)": lambda: room.own,
        "fill, and arrays of positions and rotations": by_records,
        "room.cubes, and a list of ids, positions and rotations": by_objects,
    }
    while len(room.cubes) <= CUBES:
        room.poll()
        time.sleep(1 / 60)
    for y, what in ((-20.0, "all at rest"), (7.0, "running into a wall of them")):
        times: Dict[str, List[float]] = {name: [] for name in ways}
        for frame in range(FRAMES):
            room.move((abs(frame % 120 - 60) / 10, y, 0.5))
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                times[name].append(1e6 * (time.perf_counter() - start))
            time.sleep(1 / 60)
        print(f"{what}, {CUBES} cubes, {FRAMES} frames; median (quartiles) in microseconds:")
        for name, taken in times.items():
            low, median, high = statistics.quantiles(taken, n=4)
            print(f"  {median:4.0f} ({low:.0f} to {high:.0f})  {name}")
        _, _, records_us, objects_us = map(statistics.median, times.values())
        print(f"  records are {objects_us / records_us:.1f} times as fast as objects")
    room.close()
    server.kill()


if __name__ == "__main__":
    main()

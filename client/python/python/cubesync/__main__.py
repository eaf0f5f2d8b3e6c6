"""Joins a room, and prints what happens and where cubes are."""

import argparse
import os
import sys
import time
from typing import NoReturn

import cubesync

FRAME_S = 1 / 60
LIST_EVERY_S = 2.0


def watch(room: cubesync.Room) -> NoReturn:
    """Prints until it is interrupted."""
    before, list_at = "", 0.0
    while True:
        for event in room.poll():
            print(event, flush=True)
        status = room.status
        if status.state != before:
            before = status.state
            print(status.text, flush=True)
        if status.state == "joined" and time.monotonic() >= list_at:
            list_at = time.monotonic() + LIST_EVERY_S
            cubes = room.cubes
            for cube in cubes:
                if cube.kind != "free":
                    x, y, z = cube.position
                    print(f"  {cube.name} is at ({x:.1f}, {y:.1f}, {z:.1f})", flush=True)
            loose = [cube for cube in cubes if cube.kind == "free"]
            held = sum(cube.holder is not None for cube in loose)
            print(f"  and {len(loose)} loose cubes, {held} of them held", flush=True)
        time.sleep(FRAME_S)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cubesync", description=__doc__)
    parser.add_argument("address", nargs="?", default="localhost", help="the server's host:port, with tls:// in front to encrypt, or an invite link")
    parser.add_argument("--name", help="your name")
    parser.add_argument("--room", help="the room to join [default: the invite link's, or lobby]")
    parser.add_argument("--key", default=os.environ.get("CUBESYNC_JOIN_KEY") or None, help="the server's join key; others can read it here, so prefer the variable CUBESYNC_JOIN_KEY")
    parser.add_argument("--ca", metavar="FILE", help="certificates (PEM) to trust beside the system's")
    given = parser.parse_args()
    try:
        room = cubesync.join(given.address, name=given.name, room=given.room, key=given.key, ca=given.ca)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    try:
        with room:
            watch(room)
    except cubesync.Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 0


if __name__ == "__main__":
    sys.exit(main())

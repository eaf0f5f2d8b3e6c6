"""Follows a player with the own cube, and with a loose one named "prize" while the player is low.

The judge of clients plays against it: python follow.py HOST:PORT NAME.
"""

import sys
import time

import cubesync

LOW_M = 10.0


def follow(room: cubesync.Room, name: str) -> None:
    """Follows the player with a name until it is over."""
    was_low = False
    while True:
        for event in room.poll():
            print(event, flush=True)
        by_name = {cube.name: cube for cube in room.cubes}
        place = room.newest(by_name[name]) if name in by_name else None
        is_low = place is not None and place[0][2] < LOW_M
        if place:
            room.move(*place)
        if is_low and not was_low and "prize" in by_name:
            room.take(by_name["prize"])
        if room.held and place and is_low:
            room.move(*place, cube=room.held)
        elif room.held:
            room.release()
        was_low = is_low
        time.sleep(1 / 60)


if __name__ == "__main__":
    try:
        with cubesync.join(sys.argv[1], name="Follower") as joined:
            follow(joined, sys.argv[2])
    except cubesync.Error as error:
        sys.exit(f"error: {error}")

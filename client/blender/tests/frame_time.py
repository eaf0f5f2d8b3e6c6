"""How long a frame takes."""

import itertools
from contextlib import ExitStack
from statistics import median
from time import process_time

from installed import addon, bpy, settings

from harness import Friend, Server, until


def measure(count=100, frames=120):
    """Prints the CPU time of a frame with this many cubes that all move. Blender's own part is of all threads."""
    times, numbers = [], itertools.count()
    with Server("--cubes", "0", "--max-speed", "0") as server, ExitStack() as stack:
        friends = [stack.enter_context(Friend(server.address, f"Friend {number}")) for number in range(count)]
        settings().server, settings().key = server.address, ""
        bpy.ops.cubesync.join()
        stack.callback(addon.frame.stop)

        def walk():
            seconds = next(numbers) / 60
            for index, friend in enumerate(friends):
                friend.place = (index % 10 + seconds % 1, index // 10, 0.5)
                friend.step()

        def draw():
            start = process_time()
            addon.frame.step()
            stepped = process_time()
            bpy.context.view_layer.update()
            times.append((stepped - start, process_time() - stepped))

        until(lambda: len(addon.frame.session.cubes) > count, walk, draw)
        times.clear()
        while len(times) < frames:
            walk()
            draw()
    for name, part in (("a frame of the add-on", 0), ("Blender's evaluation of the scene", 1)):
        ordered = sorted(1e3 * each[part] for each in times)
        middle, late = median(ordered), ordered[frames * 95 // 100]
        print(f"{name}, {count} moving cubes: median {middle:.1f} ms, p95 {late:.1f} ms")

"""A room in a game for UPBGE: each cube is a copy of an object of yours, and the object with this component is you.

Put this file beside the game's .blend, make two objects in a hidden collection (a cube of a metre whose material shows
the object's colour, and a text), and add the component `cubesync_component.CubesyncComponent` to your own object.
The package `cubesync` must be importable: `pip install ./client/python` with the Python of UPBGE.
"""

from collections import OrderedDict

import bge
import cubesync

NAME_GAP_M = 0.2


class CubesyncComponent(bge.types.KX_PythonComponent):
    """Joins a room, shows its cubes, and moves the own cube to where this object is."""

    args = OrderedDict(
        [
            ("Server", "localhost"),
            ("Name", "UPBGE"),
            ("Room", "lobby"),
            ("Key", ""),
            ("Cube", "Cube"),
            ("Text", ""),
        ]
    )

    def start(self, args):
        self.cube, self.text = args["Cube"], args["Text"]
        self.shown = {}
        """The object of each cube, and that of its name."""
        self.room, self.words = None, "connecting"
        try:
            self.room = cubesync.join(args["Server"], name=args["Name"], room=args["Room"], key=args["Key"] or None)
        except (cubesync.Error, ValueError, OSError) as error:
            self.say(f"cannot join: {error}")

    def update(self):
        if self.room is None:
            return
        try:
            for event in self.room.poll():
                print("cubesync:", event)
                # Where the server lets it begin, or puts it back to because it was too fast.
                starts = isinstance(event, cubesync.Connected) and event.is_new
                is_back = isinstance(event, cubesync.Corrected) and event.cube == self.own()
                if starts or is_back:
                    self.object.worldPosition = event.position
                    self.object.worldOrientation = matrix(*event.rotation)
            x, y, z = self.object.worldPosition
            turned = self.object.worldOrientation.to_quaternion()
            try:
                self.room.move((x, y, z), (turned.x, turned.y, turned.z, turned.w))
            except ValueError as error:
                self.say(f"not sent: {error}")
            else:
                # It may count down to the next try, too often to be printed.
                self.words = self.room.status.text
            self.show([cube for cube in self.room.cubes if not cube.is_own])
        except cubesync.Error as error:
            self.say(str(error))
            self.dispose()

    def dispose(self):
        """Leaves the room. UPBGE calls it when the object or the game ends."""
        if self.room is not None:
            self.room.close()
        self.room = None
        self.show([])

    def own(self):
        """Returns the id of the own cube, while in the room."""
        own = self.room.own
        return own and own.id

    def say(self, words):
        """Prints something once. `words` is there for whatever a game shows to its player."""
        if words != self.words:
            print("cubesync:", words)
        self.words = words

    def show(self, cubes):
        """Makes the objects those of these cubes."""
        gone = set(self.shown) - {cube.id for cube in cubes}
        for cube in gone:
            for thing in self.shown.pop(cube):
                if thing and not thing.invalid:
                    thing.endObject()
        for cube in cubes:
            body, name = self.shown.get(cube.id, (None, None))
            if body is None or body.invalid:
                body = self.object.scene.addObject(self.cube)
            if self.text and (name is None or name.invalid):
                # With data of its own, or all would show the same text.
                name = self.object.scene.addObject(self.text, None, 0.0, True)
            self.shown[cube.id] = body, name
            body.worldPosition = cube.position
            body.worldOrientation = matrix(*cube.rotation)
            body.worldScale = [cube.width] * 3
            body.color = [channel / 255 for channel in cube.colour] + [1.0]
            if name:
                name.blenderObject.data.body = cube.name
                x, y, z = cube.position
                name.worldPosition = (x, y, z + cube.width * 0.75 + NAME_GAP_M)


def matrix(x, y, z, w):
    """Returns a rotation as the matrix that UPBGE takes."""
    return [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]

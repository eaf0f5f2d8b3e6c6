"""A room, and what a person is told about it. It knows nothing of Blender."""

import math
import time
import traceback

import cubesync

WORLD_M = ((-256, 256), (-256, 256), (0, 32))
"""The least and the greatest x, y and z of a cube's centre."""

FIRST_LIMIT_MPS = 20.0
"""How fast the own cube goes after its first jump that the server did not allow: half of what servers allow, unless
told otherwise. After each further one it is half of that."""
LONGEST_FRAME_S = 0.1
ARRIVED_M = 0.01


class Session:
    """A room that is joined, stepped once a frame, and left. Errors become words; none is raised."""

    def __init__(self):
        self._room = None
        self._status = "Not joined"
        self._obstacle = None
        self._news = None
        self._limit_mps = math.inf
        self._stepped_at = 0.0
        self.cubes = []
        """Every cube in sight, as of the last step."""

    @property
    def is_open(self):
        """Whether there is a room to step: it is joined, or tries to be."""
        return self._room is not None

    @property
    def held(self):
        """The id of the loose cube that this player holds."""
        held = self._call(lambda room: room.held)
        return held and held.id

    def words(self):
        """Returns what to tell the person, one sentence a line."""
        lines = [self._status, self._obstacle, self._news]
        return [line for line in lines if line]

    def join(self, server, name, room, key=""):
        """Begins to join a room. It connects while it is stepped."""
        self.leave()
        self._news, self._limit_mps = None, math.inf
        try:
            self._room = cubesync.join(server, name=name, room=room, key=key or None)
            self._status = self._room.status.text
        except (cubesync.Error, ValueError, OSError) as error:
            self.end(f"Cannot join: {error}")

    def leave(self):
        """Leaves the room."""
        if self.is_open:
            self.end("Left the room")

    def end(self, reason):
        """Leaves the room and says why."""
        room, self._room = self._room, None
        if room:
            room.close()
        self._status, self._obstacle, self.cubes = reason, None, []

    def fail(self, error):
        """Leaves the room after an error that nobody foresaw, whose trace is for whoever mends it."""
        traceback.print_exception(error)
        self.end(f"Left the room after an error in the add-on: {error!r}")

    def step(self, pose=None):
        """Reads what has arrived and moves the own cube to a pose: its position, and its rotation (x, y, z, w)."""

        def step(room):
            for event in room.poll():
                if isinstance(event, cubesync.Corrected):
                    self._limit_mps = min(FIRST_LIMIT_MPS, self._limit_mps / 2)
                else:
                    self._news = str(event)
            self._obstacle = pose and self._move(room, *pose)
            self._status = room.status.text
            self.cubes = room.cubes

        self._call(step)

    def take(self, cube):
        """Asks to hold a loose cube, given by its id. It then goes along with the own cube."""
        self._call(lambda room: room.take(cube))

    def release(self):
        """Lets the held cube go."""
        self._call(lambda room: room.release())

    def _call(self, function):
        if self._room is None:
            return None
        try:
            return function(self._room)
        except cubesync.Error as error:
            self.end(str(error))
        except Exception as error:
            self.fail(error)
        return None

    def _move(self, room, position, rotation):
        """Moves the own cube towards a pose, and returns what keeps it from being there."""
        now = time.monotonic()
        frame_s, self._stepped_at = min(now - self._stepped_at, LONGEST_FRAME_S), now
        bounds = zip(position, WORLD_M)
        if any(metres < least or metres > greatest for metres, (least, greatest) in bounds):
            place = ", ".join(f"{metres:.1f}" for metres in position)
            return f"Not sent: ({place}) is outside the world, which is 512 by 512 by 32 m"
        own = room.own
        way_m = math.dist(own.position, position) if own else 0.0
        step_m = self._limit_mps * frame_s
        try:
            if way_m <= step_m + ARRIVED_M:
                room.move(position, rotation)
                return None
            part = step_m / way_m
            between = [at + (to - at) * part for at, to in zip(own.position, position)]
            room.move(between, rotation)
        except ValueError as error:
            return f"Not sent: {error}"
        return f"On the way: the server limits the speed, and {way_m:.0f} m are left"

"""What a room reports: its status, its events, and errors. The Rust side makes the objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

Position = Tuple[float, float, float]
Rotation = Tuple[float, float, float, float]


class Error(Exception):
    """Something that cannot be done, such as using a room that is closed."""


class Ended(Error):
    """The server will not have this client: a wrong key, another version, kicked. Its text says why."""


@dataclass(frozen=True)
class Status:
    """How the connection is."""

    state: str
    """"connecting", "joined", "waiting" (it tries again by itself) or "ended"."""
    text: str
    """The same in words, with the reason."""
    address: str
    """The server that the client is at, or tries to reach."""
    ping_ms: Optional[float]
    """The round trip to the server, once it is known."""
    delay_ms: float
    """By how much other players' cubes are shown behind the server's clock, so that they move smoothly."""
    players: int
    """Players in sight, this one included."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Event:
    """Something that happened. As a text it is a sentence for a person."""


@dataclass(frozen=True)
class Connected(Event):
    """The client is in the room, or in it again."""

    room: str
    name: str
    """The name that the server gave: somebody else may have had the one that was asked for."""
    cube: int
    """The id of the own cube."""
    position: Position
    """Where the own cube starts."""
    rotation: Rotation
    is_new: bool
    """False after a moment without a connection, when the own cube goes on from where it is."""
    max_speed: Optional[float]
    """The top speed of a cube in m/s. What goes faster is put back, as `Corrected` says."""

    def __str__(self) -> str:
        if self.is_new:
            return f"joined room {self.room} as {self.name} (cube {self.cube})"
        return "connected again"


@dataclass(frozen=True)
class Lost(Event):
    """The connection is lost. The room connects again by itself, as its status says."""

    reason: str

    def __str__(self) -> str:
        return f"connection lost: {self.reason}"


@dataclass(frozen=True)
class Joined(Event):
    """Another player's cube came into the room, in sight."""

    cube: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} joined"


@dataclass(frozen=True)
class Left(Event):
    """A cube in sight left the room."""

    cube: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} left"


@dataclass(frozen=True)
class Taken(Event):
    """A free cube was taken."""

    cube: int
    by: int
    """The holder's own cube, which may be yours."""
    name: Optional[str]
    """The holder's name, if the holder is in sight."""

    def __str__(self) -> str:
        return f"{self.name or 'somebody'} took cube {self.cube}"


@dataclass(frozen=True)
class Freed(Event):
    """A held cube was released."""

    cube: int

    def __str__(self) -> str:
        return f"cube {self.cube} is free"


@dataclass(frozen=True)
class Refused(Event):
    """The server did not give a cube that was asked for."""

    cube: int
    holder: Optional[int]
    """The own cube of whoever holds it, if anybody does."""
    name: Optional[str]
    """The holder's name, if the holder is in sight."""

    def __str__(self) -> str:
        if self.holder is None:
            return f"cube {self.cube} cannot be taken"
        return f"{self.name or 'somebody'} was faster to take cube {self.cube}"


@dataclass(frozen=True)
class Corrected(Event):
    """The server put your cube, or the one that you hold, somewhere else. Go on from there."""

    cube: int
    position: Position
    rotation: Rotation

    def __str__(self) -> str:
        x, y, z = self.position
        return f"the server put cube {self.cube} at ({x:.2f}, {y:.2f}, {z:.2f})"

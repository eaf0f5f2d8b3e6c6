from os import PathLike
from types import TracebackType
from typing import List, Optional, Tuple, Type, Union, final

from _typeshed import SupportsLenAndGetItem
from typing_extensions import Buffer, Self

from ._report import Event, Status

__all__ = ["Cube", "Room", "join"]

@final
class Cube:
    """A cube as it is to be drawn now."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str:
        """ "player", "free" or "ghost"."""
    @property
    def holder(self) -> Optional[int]:
        """The own cube of whoever holds this one, if anybody does."""
    @property
    def colour(self) -> Tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
    @property
    def width(self) -> float:
        """The length of its edges, in metres."""
    @property
    def position(self) -> Tuple[float, float, float]:
        """Its centre, in metres; z is up."""
    @property
    def rotation(self) -> Tuple[float, float, float, float]:
        """A quaternion (x, y, z, w)."""
    @property
    def is_own(self) -> bool: ...
    @property
    def is_stale(self) -> bool:
        """Whether it may be elsewhere by now, because nothing has been received for a while."""

@final
class Room:
    """A room that this program joins, stays in, and comes back to after a lost connection.

    A `with` block leaves it at its end, and so does its destruction. Any thread may use it. Once it is closed,
    everything but `close` raises `Error`.
    """

    def poll(self) -> List[Event]:
        """Reads what has arrived, sends what is due, and returns what has happened. Call it once a frame; it
        never blocks. It raises `Ended` when the server will not have this client."""
    @property
    def cubes(self) -> List[Cube]:
        """Every cube in sight, by rising id."""
    @property
    def own(self) -> Optional[Cube]:
        """The own cube, while in the room."""
    @property
    def held(self) -> Optional[Cube]:
        """The cube that this client holds."""
    def fill(self, buffer: Buffer) -> int:
        """Writes every cube in sight as a record (`DTYPE`) into a bytearray or another contiguous buffer of
        bytes, by rising id, and returns how many they are. It raises ValueError if they do not fit."""
    def move(
        self,
        position: SupportsLenAndGetItem[float],
        rotation: SupportsLenAndGetItem[float] = ...,
        *,
        cube: Union[Cube, int, None] = None,
    ) -> None:
        """Moves the own cube, and a held one in front of it; or with `cube` the held one alone, which from then on
        goes only where this puts it. A position outside the world becomes the nearest one inside it. While there
        is no connection, and for a cube that is not yours, nothing moves. Not a number raises ValueError."""
    def newest(
        self, cube: Union[Cube, int]
    ) -> Optional[Tuple[Tuple[float, float, float], Tuple[float, float, float, float]]]:
        """Returns the position and the rotation of a cube at the newest tick of the server. `cubes` shows it there
        a playout delay later, and smoothly."""
    def take(self, cube: Union[Cube, int]) -> None:
        """Asks to hold a free cube; `Taken` or `Refused` answers."""
    def release(self) -> None:
        """Lets the held cube go. It flies on with the speed that it has, or stands in rooms without physics."""
    @property
    def status(self) -> Status: ...
    def close(self) -> None:
        """Leaves the room."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None: ...

def join(
    address: str = "localhost",
    *,
    name: Optional[str] = None,
    room: Optional[str] = None,
    key: Optional[str] = None,
    colour: Union[str, SupportsLenAndGetItem[int], None] = None,
    tls: bool = False,
    ca: Union[str, PathLike[str], None] = None,
    insecure: bool = False,
    datagrams: bool = True,
) -> Room:
    """Returns a room at once, which connects while it is polled.

    The address is host:port, with tls:// in front to encrypt, or an invite link. Without a name and a room it joins
    the link's, or the lobby as "Python". `key` is the server's join key, `colour` "#rrggbb" or three numbers 0 to
    255, `ca` a file of certificates (PEM) to trust beside the system's; `insecure` accepts any certificate.

    What is wrong with an argument raises ValueError, a file that cannot be used OSError.
    """

"""Compares the objects that a scene has with those that a room asks for. It knows nothing of Blender."""

from typing import NamedTuple


class Part(NamedTuple):
    """One object of a cube. It is found again by these two, whatever happened to the object."""

    role: str
    """"cube", or "name" for the text above it."""
    cube: str
    """The cube's id."""


class Look(NamedTuple):
    """Everything that an object shows except where it is."""

    text: str
    colour: tuple
    """Red, green and blue, 0 to 255."""
    width: float
    kind: str
    """"player", "free" or "ghost"."""
    is_own: bool


class Differences(NamedTuple):
    """The way from the objects that there are to those that are asked for."""

    added: list
    changed: list
    removed: list


def wanted(cubes):
    """Returns the look of each part of these cubes."""
    parts = {}
    for cube in cubes:
        name = f"{cube.name} (away)" if cube.kind == "ghost" else cube.name
        look = Look(name, cube.colour, cube.width, cube.kind, cube.is_own)
        parts[Part("cube", str(cube.id))] = look
        if name:
            parts[Part("name", str(cube.id))] = look
    return parts


def differences(shown, wanted):
    """Returns the parts to add, to change and to remove. `shown` maps a part to the text of its look, which is
    what an object can keep; `wanted` to the look."""
    return Differences(
        [part for part in wanted if part not in shown],
        [part for part, look in wanted.items() if part in shown and shown[part] != str(look)],
        [part for part in shown if part not in wanted],
    )

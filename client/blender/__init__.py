"""Blender's part of a room: its cubes stand in the scene, and an object of yours moves your own cube.

Begin with `frame`, which says what is done once a frame. `session` is the room, `differences` says which objects
to make, and both know nothing of Blender; `objects` makes them, and `panel` is what one sees in the sidebar.
"""

import bpy
from bpy.app.handlers import persistent

from . import frame, objects, panel


@persistent
def _after_load(*_):
    """Removes what a file has kept of a room, as one that Blender has saved by itself may. An open room has the
    next step for it."""
    if not frame.session.is_open:
        objects.clear()


@persistent
def _after_undo(*_):
    if frame.session.is_open:
        frame.after_undo()
    else:
        objects.clear()


@persistent
def _before_save(*_):
    objects.give_back()


HANDLERS = (
    (bpy.app.handlers.load_post, _after_load),
    (bpy.app.handlers.undo_post, _after_undo),
    (bpy.app.handlers.redo_post, _after_undo),
    (bpy.app.handlers.save_pre, _before_save),
)


def register():
    """Is called by Blender when the add-on is enabled."""
    panel.register()
    for handlers, function in HANDLERS:
        handlers.append(function)


def unregister():
    """Is called by Blender when the add-on is disabled and when Blender quits."""
    frame.stop()
    for handlers, function in HANDLERS:
        handlers.remove(function)
    panel.unregister()

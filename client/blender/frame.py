"""What is done once a frame, by a timer, while a room is open."""

import bpy
from mathutils import Matrix

from . import objects
from .session import Session

session = Session()
"""The room. It outlives files: loading another one does not leave it."""

FRAME_S = 1 / 60

_driver = None
"""The name of the object that moved the own cube in the last frame."""


def step():
    """Does what a frame needs, and returns the time until the next one. No error leaves it: it would end the timer."""
    windows = bpy.context.window_manager.windows
    was_open, words = session.is_open, session.words()
    try:
        scenes = [window.scene for window in windows]
        session.step(_pose(scenes))
        if not session.is_open:
            objects.clear()
        # A render reads the scene on a thread of its own.
        elif not bpy.app.is_job_running("RENDER"):
            objects.show(session.cubes, scenes, _facing(windows), can_remove=not _is_dragging(windows))
    except Exception as error:
        session.fail(error)
    if session.words() != words:
        _redraw(windows)
    # One more frame removes what a room has left behind.
    return FRAME_S if was_open else None


def start():
    """Begins to call `step` once a frame."""
    if not bpy.app.timers.is_registered(step):
        bpy.app.timers.register(step, persistent=True)


def stop():
    """Leaves the room and removes its cubes."""
    session.leave()
    step()
    if bpy.app.timers.is_registered(step):
        bpy.app.timers.unregister(step)


def is_followed(driver, scene):
    """Returns whether an object can move the own cube: one that was deleted is in no scene, and Blender does not
    move a hidden one."""
    return any(driver.visible_get(view_layer=layer) for layer in scene.view_layers)


def after_undo():
    """Chooses the object again that moved the own cube: an undo to the time before the room has taken it away."""
    scene = bpy.context.window_manager.windows[0].scene
    if scene.cubesync.driver is None and _driver is not None:
        scene.cubesync.driver = bpy.data.objects.get(_driver)


def _pose(scenes):
    """Returns the pose of the object that moves the own cube, in the first scene that has one."""
    global _driver
    for scene in scenes:
        driver = scene.cubesync.driver
        if driver and is_followed(driver, scene):
            _driver = driver.name
            return objects.pose_of(driver)
    _driver = None
    return None


def _is_dragging(windows):
    """Returns whether the mouse moves objects, which then must not vanish under it."""
    running = (operator.bl_idname for window in windows for operator in window.modal_operators)
    return any(name.startswith("TRANSFORM_OT_") for name in running)


def _facing(windows):
    """Returns the rotation of the camera of the first 3D view, or else of the scene."""
    for window in windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                return area.spaces.active.region_3d.view_matrix.to_quaternion().inverted()
    camera = windows[0].scene.camera
    return (camera.matrix_world if camera else Matrix()).to_quaternion()


def _redraw(windows):
    for window in windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()

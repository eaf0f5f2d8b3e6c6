"""The add-on, installed in Blender from the zip as a person would."""

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

folder = tempfile.TemporaryDirectory()
os.environ["BLENDER_USER_RESOURCES"] = folder.name

import bpy  # Before addon_utils, which it makes known.

import addon_utils

MODULE = "bl_ext.user_default.cubesync"

addon_utils.enable("bl_pkg")
bpy.context.preferences.system.use_online_access = True
bpy.context.preferences.edit.use_global_undo = True
bpy.ops.extensions.package_install_files(
    filepath=str(Path(sys.argv[1]).resolve()), repo="user_default", enable_on_install=True
)
addon = SimpleNamespace()
"""The modules of the add-on."""


def find_modules():
    """Finds the add-on's modules: Blender loads them anew when it is enabled again."""
    addon.frame, addon.objects = (sys.modules[f"{MODULE}.{name}"] for name in ("frame", "objects"))


find_modules()


def ours():
    """Returns everything that the add-on has made."""
    kinds = (bpy.data.objects, bpy.data.collections, bpy.data.meshes, bpy.data.curves, bpy.data.materials)
    return [thing.name for kind in kinds for thing in kind if addon.objects.MARK in thing]


def parts():
    """Returns the objects of cubes."""
    return [thing for thing in bpy.data.objects if addon.objects.MARK in thing]


def settings():
    """Returns what the panel asks for."""
    return bpy.context.preferences.addons[MODULE].preferences


def words():
    """Returns what the panel says."""
    return " ".join(addon.frame.session.words())


def shown(name, role="cube"):
    """Returns the object of somebody's cube."""
    cube = next((cube for cube in addon.frame.session.cubes if cube.name == name), None)
    found = [
        thing
        for thing in bpy.context.scene.objects
        if cube and thing.get(addon.objects.CUBE) == str(cube.id) and thing.get(addon.objects.MARK) == role
    ]
    assert len(found) < 2, found
    return found[0] if found else None

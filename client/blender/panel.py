"""The panel in the sidebar of the 3D view, its settings and its buttons."""

import textwrap

import bpy

from . import frame, objects
from .frame import session

_key = ""


def _set_key(_settings, key):
    global _key
    _key = key


class CubesyncPreferences(bpy.types.AddonPreferences):
    """What the panel asks for. It belongs to the person, not to the file."""

    bl_idname = __package__

    server: bpy.props.StringProperty(name="Server", default="localhost", description="Its address, HOST or HOST:PORT")
    player: bpy.props.StringProperty(name="Name", default="Blender", description="Your name, above your cube")
    room: bpy.props.StringProperty(name="Room", default="lobby")
    # With these two functions Blender stores it nowhere.
    key: bpy.props.StringProperty(
        name="Key",
        subtype="PASSWORD",
        description="What the server asks for, if it does. It is forgotten when Blender quits",
        get=lambda _settings: _key,
        set=_set_key,
    )


class CubesyncScene(bpy.types.PropertyGroup):
    """The settings of a scene."""

    driver: bpy.props.PointerProperty(
        name="Moves you",
        type=bpy.types.Object,
        description="Your cube is where this object is",
        poll=lambda _settings, thing: not objects.is_ours(thing),
    )


class CubesyncJoin(bpy.types.Operator):
    """Join the room. The active object moves your cube, if none is chosen"""

    bl_idname = "cubesync.join"
    bl_label = "Join"

    def execute(self, context):
        settings, scene = preferences(context), context.scene.cubesync
        active = context.view_layer.objects.active
        if scene.driver is None and active and not objects.is_ours(active):
            scene.driver = active
        if bpy.app.online_access:
            session.join(settings.server, settings.player, settings.room, settings.key)
        else:
            session.end("Blender may not go online: Preferences, System, Network, Allow Online Access")
        frame.start()
        return {"FINISHED"}


class CubesyncLeave(bpy.types.Operator):
    """Leave the room and remove its cubes from the scene"""

    bl_idname = "cubesync.leave"
    bl_label = "Leave"

    def execute(self, _context):
        frame.stop()
        return {"FINISHED"}


class CubesyncTake(bpy.types.Operator):
    """Hold the active loose cube: it goes along with yours"""

    bl_idname = "cubesync.take"
    bl_label = "Take"

    @classmethod
    def poll(cls, context):
        return session.is_open and objects.cube_of(context.active_object) is not None

    def execute(self, context):
        session.take(objects.cube_of(context.active_object))
        return {"FINISHED"}


class CubesyncRelease(bpy.types.Operator):
    """Let the cube go that you hold"""

    bl_idname = "cubesync.release"
    bl_label = "Release"

    def execute(self, _context):
        session.release()
        return {"FINISHED"}


class CubesyncPanel(bpy.types.Panel):
    bl_idname = "VIEW3D_PT_cubesync"
    bl_label = "cubesync"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "cubesync"

    def draw(self, context):
        layout, settings = self.layout, preferences(context)
        column = layout.column()
        column.enabled = not session.is_open
        for name in ("server", "player", "room", "key"):
            column.prop(settings, name)
        driver = context.scene.cubesync.driver
        layout.prop(context.scene.cubesync, "driver")
        if driver and not frame.is_followed(driver, context.scene):
            layout.label(text="It is hidden or deleted, and moves nothing")
        button = CubesyncLeave if session.is_open else CubesyncJoin
        layout.operator(button.bl_idname)
        if session.is_open:
            button = CubesyncRelease if session.held is not None else CubesyncTake
            layout.operator(button.bl_idname)
        # A label does not wrap, and a letter is about 7 pixels wide.
        scale = context.preferences.system.ui_scale or 1
        width = max(20, int(context.region.width / (7 * scale)))
        lines = layout.column(align=True)
        for sentence in session.words():
            for line in textwrap.wrap(sentence, width):
                lines.label(text=line)
        if session.is_open:
            lines.label(text=f"Cubes in sight: {len(session.cubes)}")


CLASSES = (
    CubesyncPreferences,
    CubesyncScene,
    CubesyncJoin,
    CubesyncLeave,
    CubesyncTake,
    CubesyncRelease,
    CubesyncPanel,
)


def preferences(context):
    """Returns the settings of the add-on."""
    return context.preferences.addons[__package__].preferences


def register():
    """Adds the panel to Blender."""
    for each in CLASSES:
        bpy.utils.register_class(each)
    bpy.types.Scene.cubesync = bpy.props.PointerProperty(type=CubesyncScene)


def unregister():
    """Takes the panel away."""
    del bpy.types.Scene.cubesync
    for each in reversed(CLASSES):
        bpy.utils.unregister_class(each)

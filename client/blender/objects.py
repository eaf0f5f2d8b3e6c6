"""The room's cubes as objects of Blender's scenes.

Undo replaces every data-block, so nothing here keeps one: each call finds its own by the custom property
`MARK`. They are runtime data, which Blender leaves out of the files that it saves.
"""

import bpy
from mathutils import Quaternion, Vector

from .differences import Part, differences, wanted

MARK = "cubesync"
"""Custom property of everything made here. An object's is the role of its part."""
CUBE = "cubesync_cube"
"""Custom property of an object: the id of its cube, as a text, since Blender's integers have 32 bits."""
LOOK = "cubesync_look"
"""Custom property of an object: the text of its look."""

MOVED_M = 1e-5
"""Smallest move that is written. Each write makes Blender evaluate and draw the scene again."""
TURNED = 1e-4
"""The same for a quaternion."""
NAME_SIZE_M = 0.4
NAME_GAP_M = 0.2


def show(cubes, scenes, facing, can_remove=True):
    """Makes the objects in these scenes those of the cubes. Names turn to `facing`, the rotation of a camera."""
    collection = _collection()
    for scene in scenes:
        if collection.name not in scene.collection.children:
            scene.collection.children.link(collection)
    objects, copies = _find(collection)
    shown = {part: thing.get(LOOK) for part, thing in objects.items()}
    looks = wanted(cubes)
    steps = differences(shown, looks)
    for part in steps.added:
        objects[part] = _new(part, looks[part])
        collection.objects.link(objects[part])
    for part in steps.added + steps.changed:
        _dress(objects[part], part, looks[part])
    if can_remove:
        _remove([*copies, *(objects[part] for part in steps.removed)])
    for cube in cubes:
        x, y, z, w = cube.rotation
        position = Vector(cube.position)
        _place(objects[Part("cube", str(cube.id))], position, Quaternion((w, x, y, z)))
        name = objects.get(Part("name", str(cube.id)))
        if name:
            position.z += cube.width * 0.75 + NAME_GAP_M
            _place(name, position, facing)


def clear():
    """Removes everything that was made here."""
    give_back()
    blocks = (bpy.data.objects, bpy.data.collections, bpy.data.meshes, bpy.data.curves, bpy.data.materials)
    _remove([thing for kind in blocks for thing in kind if is_ours(thing)])


def give_back():
    """Links what somebody has moved into our collection to the scenes as well, since it is not saved."""
    for collection in filter(is_ours, bpy.data.collections):
        others = [thing for thing in collection.objects if not is_ours(thing)]
        scenes = [scene for scene in bpy.data.scenes if collection.name in scene.collection.children]
        for scene in scenes:
            for thing in others:
                if thing.name not in scene.collection.objects:
                    scene.collection.objects.link(thing)


def is_ours(thing):
    """Returns whether a data-block was made here."""
    return thing.library is None and MARK in thing


def cube_of(thing):
    """Returns the id of the cube that an object shows, if it does."""
    if thing and thing.get(MARK) == "cube":
        return int(thing[CUBE])
    return None


def pose_of(thing):
    """Returns an object's position, and its rotation (x, y, z, w)."""
    position, rotation, _ = thing.matrix_world.decompose()
    return tuple(position), (rotation.x, rotation.y, rotation.z, rotation.w)


def _collection():
    collection = next(filter(is_ours, bpy.data.collections), None)
    if collection is None:
        # Somebody deleted it by hand, and its objects may be anywhere.
        clear()
        collection = _ours(bpy.data.collections.new("cubesync"), "collection")
    return collection


def _ours(thing, mark):
    thing[MARK] = mark
    thing.is_runtime_data = True
    return thing


def _find(collection):
    """Returns the object of each part, and what somebody has made by copying one."""
    objects, copies = {}, []
    for thing in collection.objects:
        role = thing.get(MARK)
        if role is not None:
            part = Part(role, thing.get(CUBE))
            if part in objects:
                copies.append(thing)
            else:
                objects[part] = thing
    return objects, copies


def _new(part, look):
    if part.role == "name":
        curve = _ours(bpy.data.curves.new("cubesync name", "FONT"), "curve")
        curve.align_x = "CENTER"
        curve.size = NAME_SIZE_M
        thing = bpy.data.objects.new(f"{look.text} (name)", curve)
    else:
        thing = bpy.data.objects.new(look.text or "Loose cube", _mesh())
    thing[CUBE] = part.cube
    thing.rotation_mode = "QUATERNION"
    return _ours(thing, part.role)


def _dress(thing, part, look):
    """Gives an object its look."""
    thing[LOOK] = str(look)
    material = _material(look.colour)
    if part.role == "name":
        thing.data.body = look.text
        thing.data.materials.clear()
        thing.data.materials.append(material)
        thing.hide_select = True
        return
    thing.scale = (look.width,) * 3
    # The mesh is everybody's, so the material is the object's.
    thing.material_slots[0].link = "OBJECT"
    thing.material_slots[0].material = material
    # The own cube surrounds the object that drives it.
    thing.display_type = "WIRE" if look.is_own or look.kind == "ghost" else "TEXTURED"
    thing.hide_render = look.is_own
    # Loose cubes can be selected, to be taken.
    thing.hide_select = look.kind != "free"


def _mesh():
    """Returns a cube of a metre."""
    mesh = next(filter(is_ours, bpy.data.meshes), None)
    if mesh is None:
        mesh = _ours(bpy.data.meshes.new("cubesync cube"), "mesh")
        corners = [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]
        faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        mesh.from_pydata(corners, [], faces)
        mesh.materials.append(None)
    return mesh


def _material(colour):
    name = "cubesync #{:02x}{:02x}{:02x}".format(*colour)
    material = bpy.data.materials.get(name)
    if material is None or not is_ours(material):
        material = _ours(bpy.data.materials.new(name), "material")
        linear = (*map(_linear, colour), 1.0)
        material.diffuse_color = linear
        material.use_nodes = True
        # Its name is in the language of the person.
        nodes = material.node_tree.nodes
        surface = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
        surface.inputs["Base Color"].default_value = linear
    return material


def _linear(channel):
    """Returns a channel of sRGB as a part of light (IEC 61966-2-1)."""
    part = channel / 255
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def _place(thing, position, rotation):
    if (thing.location - position).length > MOVED_M:
        thing.location = position
    if (thing.rotation_quaternion - rotation).magnitude > TURNED:
        thing.rotation_quaternion = rotation


def _remove(things):
    """Removes data-blocks, and the texts that showed nothing else than these names."""
    curves = [thing.data for thing in things if isinstance(thing, bpy.types.Object) and thing.type == "FONT"]
    bpy.data.batch_remove(set(things) | set(curves))

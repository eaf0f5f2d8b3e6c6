"""The add-on in Blender itself, without a window: `python in_blender.py CUBESYNC.zip` where `bpy` is installed.

`cargo xtask blender --test` runs it. Without a window Blender runs no timers, so each test calls the timer's
function itself; everything else is as a person has it, from the installation of the zip on.
"""

import io
import itertools
import os
import shutil
import sys
import tempfile
import unittest
from contextlib import ExitStack, redirect_stderr
from pathlib import Path
from statistics import median
from time import process_time
from types import SimpleNamespace

folder = tempfile.TemporaryDirectory()
os.environ["BLENDER_USER_RESOURCES"] = folder.name

import bpy  # Before addon_utils, which it makes known.

import addon_utils

MODULE = "bl_ext.user_default.cubesync"
ZIP = Path(sys.argv.pop(1)).resolve()
KEY = "the key of these tests"
PARTS = 7
"""The objects of two players with names, a free cube with a name and one without."""
PICTURE = os.environ.get("PICTURE")


def install():
    addon_utils.enable("bl_pkg")
    bpy.context.preferences.system.use_online_access = True
    bpy.ops.extensions.package_install_files(filepath=str(ZIP), repo="user_default", enable_on_install=True)
    bpy.context.preferences.edit.use_global_undo = True


install()
# The package comes from the wheel in the zip.
import cubesync

frame, objects = (sys.modules[f"{MODULE}.{name}"] for name in ("frame", "objects"))

from harness import Friend, Server, near, until


def ours():
    """Returns everything that the add-on has made."""
    kinds = (bpy.data.objects, bpy.data.collections, bpy.data.meshes, bpy.data.curves, bpy.data.materials)
    return [thing.name for kind in kinds for thing in kind if objects.MARK in thing]


def parts():
    """Returns the objects of cubes."""
    return [thing for thing in bpy.data.objects if objects.MARK in thing]


def settings():
    return bpy.context.preferences.addons[MODULE].preferences


def words():
    return " ".join(frame.session.words())


def shown(name, role="cube"):
    """Returns the object of somebody's cube."""
    cube = next((cube for cube in frame.session.cubes if cube.name == name), None)
    found = [
        thing
        for thing in bpy.context.scene.objects
        if cube and thing.get(objects.CUBE) == str(cube.id) and thing.get(objects.MARK) == role
    ]
    assert len(found) < 2, found
    return found[0] if found else None


class Layout:
    """Stands in for the layout of a panel, which Blender gives to a window only. It notes what is shown."""

    def __init__(self, shown):
        self._shown = shown

    def column(self, align=False):
        return Layout(self._shown)

    def prop(self, data, name):
        self._shown.append(f"{name}={getattr(data, name)}")

    def operator(self, name):
        self._shown.append(name)

    def label(self, text):
        self._shown.append(text)


class InBlender(unittest.TestCase):
    def setUp(self):
        bpy.ops.wm.read_homefile(use_factory_startup=False, use_empty=False)
        bpy.ops.ed.undo_push(message="a new file")
        self.server = self.enterContext(Server("--cubes", "2", "--max-speed", "0", "--join-key", KEY))
        self.friend = self.enterContext(Friend(self.server.address, key=KEY, colour=(255, 0, 0)))
        self.friend.place = (3.0, 0.0, 0.5)
        self.addCleanup(frame.stop)
        settings().server, settings().player, settings().key = self.server.address, "Anna", KEY

    def join(self):
        bpy.ops.cubesync.join()
        self.until(lambda: shown("Friend") and shown("Anna") and self.friend.sees("Anna"))
        self.until(lambda: len(frame.session.cubes) == 4)

    def until(self, condition):
        def draw():
            # As a window does between two frames: matrices follow locations.
            frame.step()
            bpy.context.view_layer.update()

        return until(condition, self.friend.step, draw)

    def test_every_cube_is_an_object_with_its_colour_and_its_name_above_it(self):
        self.join()
        self.until(lambda: near(shown("Friend").location, self.friend.place))
        cube, name = shown("Friend"), shown("Friend", "name")
        self.assertEqual(tuple(cube.material_slots[0].material.diffuse_color), (1, 0, 0, 1))
        self.assertEqual(tuple(cube.dimensions), (1, 1, 1))
        self.assertEqual(name.data.body, "Friend")
        self.assertGreater(name.location.z, cube.location.z + 0.5)
        for cube in frame.session.cubes:
            thing = next(thing for thing in bpy.data.objects if objects.cube_of(thing) == cube.id)
            self.assertEqual(thing.dimensions.x, cube.width)

    def test_objects_move_with_their_cubes(self):
        self.join()
        for place in ((5.0, 1.0, 0.5), (-2.0, 7.0, 2.5)):
            self.friend.place = place
            self.until(lambda: near(shown("Friend").location, place))

    def test_the_object_that_was_active_moves_the_own_cube(self):
        self.join()
        driver = bpy.context.scene.cubesync.driver
        self.assertEqual(driver.name, "Cube")
        driver.location, driver.rotation_euler, driver.scale = (1, 2, 3), (0, 0, 1), (2, 3, 4)
        self.until(lambda: near(self.friend.sees("Anna").position, (1, 2, 3)))
        self.until(lambda: near(self.friend.sees("Anna").rotation, (0, 0, 0.4794, 0.8776), 0.01))
        self.assertEqual(shown("Anna").display_type, "WIRE")

    def test_an_animated_parent_moves_the_own_cube_while_it_plays(self):
        self.join()
        parent = bpy.data.objects.new("Parent", None)
        bpy.context.collection.objects.link(parent)
        bpy.data.objects["Cube"].parent = parent
        for number, x in ((1, 0.0), (50, 10.0)):
            parent.location.x = x
            parent.keyframe_insert("location", frame=number)
        bpy.context.scene.frame_set(50)
        self.until(lambda: near(self.friend.sees("Anna").position, (10, 0, 0)))

    def test_what_cannot_be_sent_is_told_and_goes_on_afterwards(self):
        self.join()
        driver = bpy.data.objects["Cube"]
        for x in (1000.0, float("nan"), float("inf")):
            driver.location = (x, 0, 1)
            self.until(lambda: "Not sent" in words())
            driver.location = (4, 0, 1)
            self.until(lambda: "Not sent" not in words() and near(self.friend.sees("Anna").position, (4, 0, 1)))
        driver.scale = (0, 0, 0)
        driver.location = (6, 0, 1)
        self.until(lambda: near(self.friend.sees("Anna").position, (6, 0, 1)))

    def test_a_hidden_or_deleted_driver_leaves_the_cube_where_it_is(self):
        self.join()
        driver = bpy.data.objects["Cube"]
        driver.location = (1, 1, 1)
        self.until(lambda: near(self.friend.sees("Anna").position, (1, 1, 1)))
        driver.hide_set(True)
        driver.location = (2, 2, 2)
        self.assertFalse(frame.is_followed(driver, bpy.context.scene))
        driver.hide_set(False)
        self.until(lambda: near(self.friend.sees("Anna").position, (2, 2, 2)))
        with bpy.context.temp_override(selected_objects=[driver]):
            bpy.ops.object.delete()
        self.assertFalse(frame.is_followed(driver, bpy.context.scene))
        self.until(lambda: near(self.friend.sees("Anna").position, (2, 2, 2)))
        self.assertTrue(frame.session.is_open, words())

    def test_undo_and_redo_bring_nothing_back_and_take_nothing_away(self):
        bpy.data.objects["Cube"].location.x = 1
        bpy.ops.ed.undo_push(message="before the room")
        self.join()
        bpy.data.objects["Cube"].location.x = 2
        bpy.ops.ed.undo_push(message="in the room")
        with Friend(self.server.address, name="Late", key=KEY) as late:
            until(lambda: shown("Late"), self.friend.step, late.step, frame.step)
            bpy.data.objects["Cube"].location.x = 3
            bpy.ops.ed.undo_push(message="with one more")
        self.until(lambda: shown("Late") is None and len(frame.session.cubes) == 4)
        self.friend.place = (9.0, 9.0, 0.5)
        for call, x in ((bpy.ops.ed.undo, 2), (bpy.ops.ed.undo, 1), (bpy.ops.ed.redo, 2), (bpy.ops.ed.redo, 3)):
            self.assertEqual(call(), {"FINISHED"})
            self.assertEqual(bpy.data.objects["Cube"].location.x, x)
            self.until(lambda: near(shown("Friend").location, self.friend.place))
            self.assertEqual(len(parts()), PARTS)
            self.until(lambda: near(self.friend.sees("Anna").position, (x, 0, 0)))

    def test_an_undo_after_leaving_brings_no_cube_back(self):
        self.join()
        bpy.ops.ed.undo_push(message="in the room")
        bpy.ops.cubesync.leave()
        bpy.ops.ed.undo_push(message="left")
        bpy.ops.ed.undo()
        self.assertEqual(ours(), [])

    def test_a_saved_file_has_no_cubes_and_saving_does_not_leave(self):
        self.join()
        # Somebody puts an object of theirs among the cubes, and lets another one look at a cube.
        own = bpy.data.objects.new("Mine", None)
        next(thing for thing in bpy.data.collections if objects.MARK in thing).objects.link(own)
        bpy.data.objects["Camera"].constraints.new("TRACK_TO").target = shown("Friend")
        path = str(Path(folder.name) / "saved.blend")
        for _ in range(2):
            bpy.ops.wm.save_as_mainfile(filepath=path)
            frame.step()
            self.assertTrue(shown("Friend"))
        self.assertEqual(bpy.data.objects["Camera"].constraints[0].target, shown("Friend"))
        # Blender reads no names from the file that is open.
        with bpy.data.libraries.load(shutil.copy(path, f"{path}.copy.blend")) as (saved, _):
            self.assertFalse([name for name in saved.objects if name in ours()])
            self.assertIn("Mine", saved.objects)
            self.assertFalse([name for name in saved.collections + saved.meshes + saved.materials if "cubesync" in name])
        bpy.ops.wm.open_mainfile(filepath=path)
        self.assertIn("Mine", bpy.context.scene.objects)
        # The room has gone on, and the file has its driver.
        self.until(lambda: shown("Friend") and shown("Anna"))
        bpy.data.objects["Cube"].location = (7, 7, 1)
        self.until(lambda: near(self.friend.sees("Anna").position, (7, 7, 1)))
        self.assertFalse(KEY.encode() in Path(path).read_bytes())

    def test_what_was_deleted_by_hand_comes_back_and_what_was_copied_goes(self):
        self.join()
        bpy.data.objects.remove(shown("Friend"))
        bpy.data.objects.remove(shown("Anna", "name"))
        self.until(lambda: shown("Friend") and shown("Anna", "name"))
        copy = shown("Friend").copy()
        shown("Friend").users_collection[0].objects.link(copy)
        frame.step()
        self.assertEqual(len(parts()), PARTS)
        collection = shown("Friend").users_collection[0]
        bpy.data.collections.remove(collection)
        self.until(lambda: shown("Friend"))
        self.assertEqual(len(parts()), PARTS)
        shown("Friend").name = "Cube.042"
        bpy.data.meshes.remove(shown("Friend").data)
        self.until(lambda: shown("Friend"))
        self.assertTrue(frame.session.is_open, words())

    def test_each_scene_that_a_window_shows_has_the_cubes(self):
        self.join()
        first, second = bpy.context.scene, bpy.data.scenes.new("Second")
        window = bpy.context.window_manager.windows[0]
        window.scene = second
        self.until(lambda: any(objects.MARK in thing for thing in second.objects))
        driver = bpy.data.objects.new("Other", None)
        second.collection.objects.link(driver)
        second.cubesync.driver, driver.location = driver, (8, 8, 1)
        until(lambda: near(self.friend.sees("Anna").position, (8, 8, 1)), self.friend.step, frame.step,
              second.view_layers[0].update)
        window.scene = first
        bpy.data.scenes.remove(second)
        self.until(lambda: near(self.friend.sees("Anna").position, (0, 0, 0)))

    def test_a_loose_cube_is_taken_by_its_object(self):
        self.join()
        loose = next(thing for thing in bpy.data.objects if thing.name.startswith("Loose cube"))
        bpy.context.view_layer.objects.active = loose
        self.assertTrue(bpy.ops.cubesync.take.poll())
        bpy.ops.cubesync.take()
        cube = int(loose[objects.CUBE])
        self.until(lambda: frame.session.held == cube)
        bpy.ops.cubesync.release()
        self.until(lambda: frame.session.held is None)

    def test_the_panel_shows_the_settings_the_status_and_one_button_for_each_state(self):
        def drawn():
            shown = []
            context = SimpleNamespace(scene=bpy.context.scene, preferences=bpy.context.preferences,
                                      region=SimpleNamespace(width=200))
            bpy.types.VIEW3D_PT_cubesync.draw(SimpleNamespace(layout=Layout(shown)), context)
            return shown

        for text in ("player=Anna", f"key={KEY}", "cubesync.join"):
            self.assertIn(text, drawn())
        self.join()
        self.assertLessEqual({"cubesync.leave", "cubesync.take", "Cubes in sight: 4"}, set(drawn()))
        self.assertIn("in room lobby as Anna", " ".join(drawn()))
        bpy.data.objects["Cube"].hide_set(True)
        self.assertIn("It is hidden or deleted, and moves nothing", drawn())

    def test_a_dead_server_is_told_in_frames_that_do_not_wait(self):
        self.join()
        self.server.kill()
        until(lambda: "again" in words(), frame.step)
        bpy.ops.cubesync.leave()
        self.assertEqual(ours(), [])

    def test_a_refused_key_and_a_wrong_address_are_told(self):
        settings().key = "wrong"
        bpy.ops.cubesync.join()
        until(lambda: not frame.session.is_open, frame.step)
        self.assertIn("key", words())
        settings().server = "localhost:many"
        bpy.ops.cubesync.join()
        self.assertIn("Cannot join", words())

    def test_nobody_is_joined_while_blender_may_not_go_online(self):
        bpy.context.preferences.system.use_online_access = False
        self.addCleanup(lambda: setattr(bpy.context.preferences.system, "use_online_access", True))
        bpy.ops.cubesync.join()
        self.assertFalse(frame.session.is_open)
        self.assertIn("Allow Online Access", words())

    def test_an_error_that_nobody_foresaw_is_told_and_leaves_nothing(self):
        self.join()
        show = objects.show
        self.addCleanup(lambda: setattr(objects, "show", show))
        objects.show = None
        with redirect_stderr(io.StringIO()) as trace:
            self.assertEqual(frame.step(), frame.FRAME_S)
        self.assertIn("Traceback", trace.getvalue())
        self.assertIn("error in the add-on", words())
        frame.step()
        self.assertIsNone(frame.step())
        self.assertEqual(ours(), [])

    def test_leaving_and_disabling_the_add_on_clean_up(self):
        self.join()
        self.assertTrue(bpy.app.timers.is_registered(frame.step))
        bpy.ops.cubesync.leave()
        self.assertEqual(ours(), [])
        self.assertFalse(bpy.app.timers.is_registered(frame.step))
        until(lambda: self.friend.sees("Anna") is None, self.friend.step)
        self.join()
        addon_utils.disable(MODULE)
        self.assertEqual(ours(), [])
        self.assertFalse(hasattr(bpy.types.Scene, "cubesync"))
        until(lambda: self.friend.sees("Anna") is None, self.friend.step)
        addon_utils.enable(MODULE, default_set=True)
        reload_modules()

    def test_a_room_is_rendered_with_its_cubes(self):
        self.join()
        self.friend.place = (0.5, 2.5, 0.5)
        bpy.data.objects["Cube"].location = (-1.5, 0, 1)
        self.until(lambda: near(shown("Friend").location, self.friend.place))
        scene = bpy.context.scene
        scene.render.engine, scene.cycles.samples = "CYCLES", 64 if PICTURE else 1
        scene.render.resolution_x, scene.render.resolution_y = (480, 270) if PICTURE else (48, 27)
        scene.render.filepath = PICTURE or str(Path(folder.name) / "room.png")
        bpy.ops.render.render(write_still=True)
        self.assertTrue(Path(scene.render.filepath).exists())
        frame.step()
        self.assertTrue(frame.session.is_open, words())


def reload_modules():
    """Finds the add-on's modules again, which Blender loads anew."""
    global frame, objects
    frame, objects = (sys.modules[f"{MODULE}.{name}"] for name in ("frame", "objects"))


def measure(count=100, frames=120):
    """Prints the CPU time of a frame with this many cubes that all move. Blender's own part is of all threads."""
    times, numbers = [], itertools.count()
    with Server("--cubes", "0", "--max-speed", "0") as server, ExitStack() as stack:
        friends = [stack.enter_context(Friend(server.address, f"Friend {number}")) for number in range(count)]
        settings().server, settings().key = server.address, ""
        bpy.ops.cubesync.join()
        stack.callback(frame.stop)

        def walk():
            seconds = next(numbers) / 60
            for index, friend in enumerate(friends):
                friend.place = (index % 10 + seconds % 1, index // 10, 0.5)
                friend.step()

        def draw():
            start = process_time()
            frame.step()
            stepped = process_time()
            bpy.context.view_layer.update()
            times.append((stepped - start, process_time() - stepped))

        until(lambda: len(frame.session.cubes) > count, walk, draw)
        times.clear()
        while len(times) < frames:
            walk()
            draw()
    for name, part in (("a frame of the add-on", 0), ("Blender's evaluation of the scene", 1)):
        ordered = sorted(1e3 * each[part] for each in times)
        print(f"{name}, {count} moving cubes: median {median(ordered):.1f} ms, p95 {ordered[frames * 95 // 100]:.1f} ms")


if __name__ == "__main__":
    print("Blender", bpy.app.version_string)
    result = unittest.main(exit=False).result
    if result.wasSuccessful():
        measure()
    sys.stdout.flush()
    addon_utils.disable_all()
    folder.cleanup()
    # The end of Python in bpy frees what Blender has freed.
    os._exit(not result.wasSuccessful())

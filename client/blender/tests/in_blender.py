"""The add-on in Blender itself, without a window: `python in_blender.py CUBESYNC.zip` where `bpy` is installed.

`cargo xtask blender --test` runs it. Without a window Blender runs no timers, so each test calls the timer's
function itself; everything else is as a person has it, from the installation of the zip on.
"""

import io
import os
import shutil
import sys
import unittest
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace

from installed import MODULE, addon, addon_utils, bpy, find_modules, folder, ours, parts, settings, shown, words

# Its package comes from the wheel in the zip.
from harness import Friend, Server, near, until
from frame_time import measure

KEY = "the key of these tests"
PARTS = 7
"""The objects of two players with names, a free cube with a name and one without."""


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
        self.addCleanup(addon.frame.stop)
        settings().server, settings().player, settings().key = self.server.address, "Anna", KEY

    def join(self):
        bpy.ops.cubesync.join()
        self.until(lambda: shown("Friend") and shown("Anna") and self.friend.sees("Anna"))
        self.until(lambda: len(addon.frame.session.cubes) == 4)

    def until(self, condition):
        def draw():
            # As a window does between two frames: matrices follow locations.
            addon.frame.step()
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
        for cube in addon.frame.session.cubes:
            thing = next(thing for thing in bpy.data.objects if addon.objects.cube_of(thing) == cube.id)
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
        self.assertFalse(addon.frame.is_followed(driver, bpy.context.scene))
        driver.hide_set(False)
        self.until(lambda: near(self.friend.sees("Anna").position, (2, 2, 2)))
        with bpy.context.temp_override(selected_objects=[driver]):
            bpy.ops.object.delete()
        self.assertFalse(addon.frame.is_followed(driver, bpy.context.scene))
        self.until(lambda: near(self.friend.sees("Anna").position, (2, 2, 2)))
        self.assertTrue(addon.frame.session.is_open, words())

    def test_undo_and_redo_bring_nothing_back_and_take_nothing_away(self):
        bpy.data.objects["Cube"].location.x = 1
        bpy.ops.ed.undo_push(message="before the room")
        self.join()
        bpy.data.objects["Cube"].location.x = 2
        bpy.ops.ed.undo_push(message="in the room")
        with Friend(self.server.address, name="Late", key=KEY) as late:
            until(lambda: shown("Late"), self.friend.step, late.step, addon.frame.step)
            bpy.data.objects["Cube"].location.x = 3
            bpy.ops.ed.undo_push(message="with one more")
        self.until(lambda: shown("Late") is None and len(addon.frame.session.cubes) == 4)
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
        next(thing for thing in bpy.data.collections if addon.objects.MARK in thing).objects.link(own)
        bpy.data.objects["Camera"].constraints.new("TRACK_TO").target = shown("Friend")
        path = str(Path(folder.name) / "saved.blend")
        for _ in range(2):
            bpy.ops.wm.save_as_mainfile(filepath=path)
            addon.frame.step()
            self.assertTrue(shown("Friend"))
        self.assertEqual(bpy.data.objects["Camera"].constraints[0].target, shown("Friend"))
        # Blender reads no names from the file that is open.
        with bpy.data.libraries.load(shutil.copy(path, f"{path}.copy.blend")) as (saved, _):
            self.assertFalse([name for name in saved.objects if name in ours()])
            self.assertIn("Mine", saved.objects)
            others = saved.collections + saved.meshes + saved.materials
            self.assertFalse([name for name in others if "cubesync" in name])
        bpy.ops.wm.open_mainfile(filepath=path)
        self.assertIn("Mine", bpy.context.scene.objects)
        # The room has gone on, and the file has its driver.
        self.until(lambda: shown("Friend") and shown("Anna"))
        bpy.data.objects["Cube"].location = (7, 7, 1)
        self.until(lambda: near(self.friend.sees("Anna").position, (7, 7, 1)))
        self.assertFalse(KEY.encode() in Path(path).read_bytes())

    def test_cubes_that_a_recovered_file_has_kept_go_when_it_is_loaded(self):
        self.join()
        # Blender's own copies for recovery have everything in memory.
        for kind in (bpy.data.objects, bpy.data.collections, bpy.data.meshes, bpy.data.curves, bpy.data.materials):
            for thing in kind:
                thing.is_runtime_data = False
        path = str(Path(folder.name) / "recovered.blend")
        bpy.ops.wm.save_as_mainfile(filepath=path, copy=True)
        bpy.ops.cubesync.leave()
        with bpy.data.libraries.load(path) as (saved, _):
            self.assertIn("Friend", saved.objects)
        bpy.ops.wm.open_mainfile(filepath=path)
        self.assertEqual(ours(), [])

    def test_what_was_deleted_by_hand_comes_back_and_what_was_copied_goes(self):
        self.join()
        bpy.data.objects.remove(shown("Friend"))
        bpy.data.objects.remove(shown("Anna", "name"))
        self.until(lambda: shown("Friend") and shown("Anna", "name"))
        copy = shown("Friend").copy()
        shown("Friend").users_collection[0].objects.link(copy)
        addon.frame.step()
        self.assertEqual(len(parts()), PARTS)
        collection = shown("Friend").users_collection[0]
        bpy.data.collections.remove(collection)
        self.until(lambda: shown("Friend"))
        self.assertEqual(len(parts()), PARTS)
        shown("Friend").name = "Cube.042"
        bpy.data.meshes.remove(shown("Friend").data)
        self.until(lambda: shown("Friend"))
        self.assertTrue(addon.frame.session.is_open, words())

    def test_each_scene_that_a_window_shows_has_the_cubes(self):
        self.join()
        first, second = bpy.context.scene, bpy.data.scenes.new("Second")
        window = bpy.context.window_manager.windows[0]
        window.scene = second
        self.until(lambda: any(addon.objects.MARK in thing for thing in second.objects))
        driver = bpy.data.objects.new("Other", None)
        second.collection.objects.link(driver)
        second.cubesync.driver, driver.location = driver, (8, 8, 1)
        until(lambda: near(self.friend.sees("Anna").position, (8, 8, 1)), self.friend.step, addon.frame.step,
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
        cube = int(loose[addon.objects.CUBE])
        self.until(lambda: addon.frame.session.held == cube)
        bpy.ops.cubesync.release()
        self.until(lambda: addon.frame.session.held is None)

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
        until(lambda: "again" in words(), addon.frame.step)
        bpy.ops.cubesync.leave()
        self.assertEqual(ours(), [])

    def test_a_refused_key_and_a_wrong_address_are_told(self):
        settings().key = "wrong"
        bpy.ops.cubesync.join()
        until(lambda: not addon.frame.session.is_open, addon.frame.step)
        self.assertIn("key", words())
        settings().server = "localhost:many"
        bpy.ops.cubesync.join()
        self.assertIn("Cannot join", words())

    def test_nobody_is_joined_while_blender_may_not_go_online(self):
        bpy.context.preferences.system.use_online_access = False
        self.addCleanup(lambda: setattr(bpy.context.preferences.system, "use_online_access", True))
        bpy.ops.cubesync.join()
        self.assertFalse(addon.frame.session.is_open)
        self.assertIn("Allow Online Access", words())

    def test_an_error_that_nobody_foresaw_is_told_and_leaves_nothing(self):
        self.join()
        show = addon.objects.show
        self.addCleanup(lambda: setattr(addon.objects, "show", show))
        addon.objects.show = None
        with redirect_stderr(io.StringIO()) as trace:
            self.assertEqual(addon.frame.step(), addon.frame.FRAME_S)
        self.assertIn("Traceback", trace.getvalue())
        self.assertIn("error in the add-on", words())
        addon.frame.step()
        self.assertIsNone(addon.frame.step())
        self.assertEqual(ours(), [])

    def test_leaving_and_disabling_the_add_on_clean_up(self):
        self.join()
        self.assertTrue(bpy.app.timers.is_registered(addon.frame.step))
        bpy.ops.cubesync.leave()
        self.assertEqual(ours(), [])
        self.assertFalse(bpy.app.timers.is_registered(addon.frame.step))
        until(lambda: self.friend.sees("Anna") is None, self.friend.step)
        self.join()
        addon_utils.disable(MODULE)
        self.assertEqual(ours(), [])
        self.assertFalse(hasattr(bpy.types.Scene, "cubesync"))
        until(lambda: self.friend.sees("Anna") is None, self.friend.step)
        addon_utils.enable(MODULE, default_set=True)
        find_modules()

    def test_a_room_is_rendered_with_its_cubes(self):
        self.join()
        self.friend.place = (0.5, 2.5, 0.5)
        bpy.data.objects["Cube"].location = (-1.5, 0, 1)
        self.until(lambda: near(shown("Friend").location, self.friend.place))
        scene = bpy.context.scene
        scene.render.engine, scene.cycles.samples = "CYCLES", 1
        scene.render.resolution_x, scene.render.resolution_y = 48, 27
        scene.render.filepath = str(Path(folder.name) / "room.png")
        bpy.ops.render.render(write_still=True)
        self.assertTrue(Path(scene.render.filepath).exists())
        addon.frame.step()
        self.assertTrue(addon.frame.session.is_open, words())


if __name__ == "__main__":
    print("Blender", bpy.app.version_string)
    result = unittest.main(argv=sys.argv[:1] + sys.argv[2:], exit=False).result
    if result.wasSuccessful():
        measure()
    sys.stdout.flush()
    addon_utils.disable_all()
    folder.cleanup()
    # The end of Python in bpy frees what Blender has freed.
    os._exit(not result.wasSuccessful())

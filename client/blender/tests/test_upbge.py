"""The component for UPBGE against a real server. UPBGE itself is not here: `bge` is a stand-in of the few names
that the component uses, as UPBGE's documentation has them. It shows that the component's logic is right, and
not that UPBGE does what its documentation says."""

import sys
import unittest
from pathlib import Path
from types import ModuleType, SimpleNamespace

from harness import ADDON, Friend, Server, near, until

ANNA = {"Server": "", "Name": "Anna", "Room": "lobby", "Key": "", "Cube": "Cube", "Text": "Text"}


class GameObject:
    """What the component uses of `KX_GameObject` and `KX_FontObject`."""

    def __init__(self, scene):
        self.scene, self.invalid, self.worldPosition = scene, False, (0.0, 0.0, 0.5)
        self.turned = (0.0, 0.0, 0.0, 1.0)
        self.blenderObject = SimpleNamespace(data=SimpleNamespace(body=""))

    @property
    def worldOrientation(self):
        """`mathutils.Matrix` has more."""
        turned = SimpleNamespace(**dict(zip("xyzw", self.turned)))
        return SimpleNamespace(to_quaternion=lambda: turned)

    @worldOrientation.setter
    def worldOrientation(self, rows):
        assert [len(row) for row in rows] == [3, 3, 3]

    def endObject(self):
        self.invalid = True
        self.scene.objects.remove(self)


class Scene:
    """What the component uses of `KX_Scene`."""

    def __init__(self):
        self.objects = []

    def addObject(self, object, reference="", time=0.0, dupli=False):
        added = GameObject(self)
        added.template = object
        self.objects.append(added)
        return added


class KX_PythonComponent:
    def __init__(self, owner):
        self.object = owner


bge = ModuleType("bge")
bge.types = SimpleNamespace(KX_PythonComponent=KX_PythonComponent)
sys.modules["bge"] = bge
sys.path.insert(0, str(Path(ADDON, "upbge")))

from cubesync_component import CubesyncComponent, matrix


class Component(unittest.TestCase):
    def start(self, **arguments):
        self.scene = Scene()
        component = CubesyncComponent(GameObject(self.scene))
        component.start({**ANNA, **arguments})
        self.addCleanup(component.dispose)
        return component

    def bodies(self):
        return [thing for thing in self.scene.objects if thing.template == "Cube"]

    def test_it_does_once_a_frame_what_the_add_on_does(self):
        with Server("--cubes", "2", "--max-speed", "0") as server:
            component = self.start(Server=server.address)
            with Friend(server.address, colour=(255, 0, 51)) as friend:
                friend.place = (3.0, 4.0, 0.5)
                steps = (component.update, friend.step)
                until(lambda: any(near(body.worldPosition, friend.place) for body in self.bodies()), *steps)
                body = next(body for body in self.bodies() if near(body.worldPosition, friend.place))
                self.assertEqual((body.color, body.worldScale), ([1.0, 0.0, 0.2, 1.0], [1.0, 1.0, 1.0]))
                texts = [thing.blenderObject.data.body for thing in self.scene.objects]
                self.assertIn("Friend", texts)
                self.assertNotIn("Anna", texts)

                # It begins where the server says.
                self.assertFalse(near(component.object.worldPosition, (0.0, 0.0, 0.5)))
                component.object.worldPosition, component.object.turned = (1.0, 2.0, 3.0), (0.0, 0.0, 0.6, 0.8)
                until(lambda: near(friend.sees("Anna").position, (1, 2, 3)), *steps)
                self.assertTrue(near(friend.sees("Anna").rotation, (0, 0, 0.6, 0.8), 0.01))

                component.object.worldPosition = (float("nan"), 0.0, 0.0)
                component.update()
                self.assertIn("not sent", component.words)
                component.object.worldPosition = (1.0, 2.0, 3.0)

                body.endObject()
                until(lambda: any(near(body.worldPosition, friend.place) for body in self.bodies()), *steps)
                self.assertEqual(len(self.bodies()), 3)
            until(lambda: len(self.bodies()) == 2, component.update)
            server.kill()
            until(lambda: "again" in component.words, component.update)
            component.dispose()
            self.assertEqual(self.scene.objects, [])

    def test_an_object_that_is_too_fast_is_put_back(self):
        with Server("--max-speed", "1") as server:
            component = self.start(Server=server.address)
            until(lambda: component.own() is not None, component.update)
            far = component.object.worldPosition = (200.0, 200.0, 0.5)
            until(lambda: not near(component.object.worldPosition, far), component.update)

    def test_what_is_wrong_is_told_and_the_game_goes_on(self):
        component = self.start(Server="localhost:many")
        component.update()
        self.assertIn("cannot join", component.words)
        with Server("--join-key", "right") as server:
            component = self.start(Server=server.address, Key="wrong")
            until(lambda: component.room is None, component.update)
            self.assertIn("key", component.words)

    def test_a_rotation_is_the_matrix_that_turns_by_it(self):
        self.assertEqual(matrix(0, 0, 0, 1), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        # A quarter turn around z takes x to y.
        half = 0.5**0.5
        for row, expected in zip(matrix(0, 0, half, half), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]):
            for number, other in zip(row, expected):
                self.assertAlmostEqual(number, other)


if __name__ == "__main__":
    unittest.main()

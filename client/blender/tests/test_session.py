"""A session against a real server: what it shows, and the words for what goes wrong."""

import io
import unittest
from contextlib import redirect_stderr

from harness import Friend, Server, near, until
from session import WORLD_M, Session


class Joined(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(Server("--cubes", "3", "--max-speed", "0"))
        self.friend = self.enterContext(Friend(self.server.address))
        self.session = Session()
        self.addCleanup(self.session.leave)
        self.session.join(self.server.address, "Anna", "lobby")
        self.pose = None
        self.until(lambda: self.friend.sees("Anna") and self.own())

    def until(self, condition):
        return until(condition, self.friend.step, lambda: self.session.step(self.pose))

    def own(self):
        return next((cube for cube in self.session.cubes if cube.is_own), None)

    def test_everybody_and_every_loose_cube_is_seen(self):
        kinds = self.until(lambda: len(self.session.cubes) == 5 and [cube.kind for cube in self.session.cubes])
        self.assertEqual(sorted(kinds), ["free"] * 3 + ["player"] * 2)
        self.assertIn("Anna", self.session.words()[0])

    def test_the_pose_of_a_step_is_seen_by_others(self):
        self.pose = ((3.0, 4.0, 0.5), (0.0, 0.0, 0.6, 0.8))
        self.until(lambda: near(self.friend.sees("Anna").position, self.pose[0]))
        self.until(lambda: near(self.friend.sees("Anna").rotation, self.pose[1], 0.01))

    def test_a_pose_that_is_no_place_in_the_world_is_told_and_not_sent(self):
        self.pose = ((3.0, 4.0, 0.5), (0.0, 0.0, 0.0, 1.0))
        self.until(lambda: near(self.friend.sees("Anna").position, self.pose[0]))
        nan = float("nan")
        for place in ((nan, 0, 0), (300.0, 0, 0), (0, 0, -0.1), (0, 0, float("inf")), (1e39, 0, 0)):
            with self.subTest(place):
                self.pose = (place, (0.0, 0.0, 0.0, 1.0))
                self.session.step(self.pose)
                self.assertIn("Not sent", self.session.words()[1])
                self.assertTrue(near(self.own().position, (3.0, 4.0, 0.5)))
        self.pose = ((0, 0, 0.5), (nan, 0, 0, 1))
        self.session.step(self.pose)
        self.assertIn("Not sent", self.session.words()[1])
        self.pose = ((1.0, 1.0, 0.5), (0.0, 0.0, 0.0, 1.0))
        self.session.step(self.pose)
        self.assertNotIn("Not sent", " ".join(self.session.words()))

    def test_the_corners_of_the_world_are_the_protocols(self):
        for end, beyond in ((0, -1), (1, 1)):
            corner = tuple(bounds[end] for bounds in WORLD_M)
            self.friend.place = tuple(metres + beyond for metres in corner)
            self.until(lambda: near(self.friend.sees("Friend").position, corner, 0.01))

    def test_a_loose_cube_is_held_and_released(self):
        loose = self.until(lambda: next((cube for cube in self.session.cubes if cube.kind == "free"), None))
        self.session.take(loose.id)
        self.until(lambda: self.session.held == loose.id)
        self.session.release()
        self.until(lambda: self.session.held is None)

    def test_a_server_that_dies_is_told_and_the_room_stays_open(self):
        self.server.kill()
        until(lambda: "again" in self.session.words()[0], self.session.step)
        self.assertTrue(self.session.is_open)

    def test_who_leaves_is_gone_for_others(self):
        self.session.leave()
        self.assertEqual((self.session.words()[0], self.session.cubes), ("Left the room", []))
        until(lambda: self.friend.sees("Anna") is None, self.friend.step)


class SpeedLimit(unittest.TestCase):
    def test_a_place_that_is_too_far_for_the_servers_speed_limit_is_reached_in_steps(self):
        with Server("--cubes", "0", "--max-speed", "8") as server, Friend(server.address) as friend:
            session = Session()
            self.addCleanup(session.leave)
            session.join(server.address, "Anna", "lobby")
            until(lambda: friend.sees("Anna"), friend.step, session.step)
            start, *_ = (cube.position for cube in session.cubes if cube.is_own)
            place = (start[0] + 15.0, start[1], start[2])

            def step():
                session.step((place, (0.0, 0.0, 0.0, 1.0)))

            until(lambda: "On the way" in " ".join(session.words()), friend.step, step)
            until(lambda: near(friend.sees("Anna").position, place), friend.step, step)
            self.assertNotIn("On the way", " ".join(session.words()))


class Refused(unittest.TestCase):
    def test_what_is_wrong_with_an_answer_of_the_form_is_told(self):
        for server, name, room in (("", "Anna", "lobby"), ("localhost:x", "Anna", "lobby"),
                                   ("localhost", "", "lobby"), ("localhost", "A" * 100, "lobby"),
                                   ("localhost", "Anna", "a\nb"), ("localhost", "\ud800", "lobby")):
            with self.subTest(server=server, name=name, room=room):
                session = Session()
                session.join(server, name, room)
                self.assertFalse(session.is_open)
                self.assertTrue(session.words()[0].startswith("Cannot join: "))

    def test_a_wrong_key_ends_it_with_words(self):
        with Server("--join-key", "right") as server:
            for key in ("", "wrong"):
                session = Session()
                session.join(server.address, "Anna", "lobby", key)
                until(lambda: not session.is_open, session.step)
                self.assertIn("key", session.words()[0])

    def test_a_server_that_is_not_there_is_tried_again(self):
        with Server() as server:
            pass
        session = Session()
        session.join(server.address, "Anna", "lobby")
        until(lambda: "again" in session.words()[0], session.step)
        self.assertTrue(session.is_open)
        session.leave()

    def test_an_error_that_nobody_foresaw_leaves_the_room_with_words(self):
        with Server() as server:
            session = Session()
            session.join(server.address, "Anna", "lobby")
            with redirect_stderr(io.StringIO()) as trace:
                session.step(pose=5)
            self.assertIn("Traceback", trace.getvalue())
            self.assertFalse(session.is_open)
            self.assertIn("error in the add-on", session.words()[0])

    def test_nothing_happens_where_no_room_is_open(self):
        session = Session()
        session.step()
        session.take(1)
        session.release()
        session.leave()
        self.assertIsNone(session.held)
        self.assertEqual(session.words(), ["Not joined"])


if __name__ == "__main__":
    unittest.main()

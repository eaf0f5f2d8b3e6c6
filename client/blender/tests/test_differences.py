"""Which objects a scene gets for the cubes of a room."""

import unittest
from types import SimpleNamespace

from differences import Part, differences, wanted


def cube(id=1, name="Anna", kind="player", **other):
    values = {"colour": (1, 2, 3), "width": 1.0, "is_own": False, **other}
    return SimpleNamespace(id=id, name=name, kind=kind, **values)


def shown(cubes):
    return {part: str(look) for part, look in wanted(cubes).items()}


class Differences(unittest.TestCase):
    def test_each_cube_has_an_object_and_one_for_its_name(self):
        self.assertEqual(list(wanted([cube(7)])), [Part("cube", "7"), Part("name", "7")])

    def test_a_cube_without_a_name_has_no_object_for_it(self):
        self.assertEqual(list(wanted([cube(7, "", "free")])), [Part("cube", "7")])

    def test_what_is_shown_as_it_is_asked_for_stays(self):
        cubes = [cube(1), cube(2, "Bob")]
        self.assertEqual(differences(shown(cubes), wanted(cubes)), ([], [], []))

    def test_newcomers_are_added_and_leavers_removed(self):
        steps = differences(shown([cube(1)]), wanted([cube(2)]))
        self.assertEqual(steps.added, [Part("cube", "2"), Part("name", "2")])
        self.assertEqual(steps.removed, [Part("cube", "1"), Part("name", "1")])

    def test_another_name_colour_width_kind_or_owner_is_another_look(self):
        before = shown([cube(1)])
        others = ({"name": "Bob"}, {"colour": (9, 9, 9)}, {"width": 2.0}, {"kind": "ghost"}, {"is_own": True})
        for other in others:
            with self.subTest(other):
                steps = differences(before, wanted([cube(1, **other)]))
                self.assertEqual(steps, ([], [Part("cube", "1"), Part("name", "1")], []))

    def test_a_ghost_is_said_to_be_away(self):
        self.assertEqual(wanted([cube(1, kind="ghost")])[Part("name", "1")].text, "Anna (away)")

    def test_an_object_that_was_deleted_by_hand_is_added_again(self):
        left = shown([cube(1)])
        del left[Part("name", "1")]
        self.assertEqual(differences(left, wanted([cube(1)])).added, [Part("name", "1")])

    def test_an_object_that_an_undo_has_brought_back_as_it_was_is_changed(self):
        old = shown([cube(1, "Ann")])
        self.assertEqual(differences(old, wanted([cube(1)])).changed, [Part("cube", "1"), Part("name", "1")])

    def test_an_object_that_has_lost_its_look_is_changed(self):
        self.assertEqual(differences({Part("cube", "1"): None}, wanted([cube(1, "")])).changed, [Part("cube", "1")])


if __name__ == "__main__":
    unittest.main()

"""The manifest as Blender asks for it: `blender --command extension validate` says the same, but needs Blender."""

import tomllib
import unittest

from harness import ADDON


class Manifest(unittest.TestCase):
    def test_it_is_what_blender_asks_of_an_add_on(self):
        manifest = tomllib.loads(ADDON.joinpath("blender_manifest.toml").read_text())
        asked = "schema_version id version name tagline maintainer type blender_version_min license"
        self.assertLessEqual(set(asked.split()), set(manifest))
        self.assertEqual((manifest["schema_version"], manifest["type"]), ("1.0.0", "add-on"))
        self.assertEqual(manifest["blender_version_min"], "4.2.0")
        for words in (manifest["tagline"], *manifest["permissions"].values()):
            self.assertLessEqual(len(words), 64)
            self.assertNotIn(words[-1], ".!?")

    def test_packing_names_the_wheels(self):
        self.assertNotIn("wheels", ADDON.joinpath("blender_manifest.toml").read_text())


if __name__ == "__main__":
    unittest.main()

"""Tests of the advisory check: run by .ci/run, or `python3 -m unittest discover -s .ci -p '*_test.py'`."""

import pathlib
import subprocess
import sys
import tempfile
import tomllib
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import advisories  # noqa: E402

RULES = {
    "without_advisory": ["httparse"],
    "minimum": [
        {"crate": "h2", "advisory": "RUSTSEC-2024-0332", "patched": ["0.3.26", "0.4.4"], "what": "x"},
        {"crate": "h2", "advisory": "RUSTSEC-2026-0258", "patched": ["0.4.18"], "what": "x"},
    ],
    "exception": [
        {
            "crate": "h2",
            "advisory": "RUSTSEC-2026-0258",
            "below": "0.4.0",
            "reason": "x",
            "tests": ["proof.rs: it_is_shown"],
        }
    ],
}
PATCHED = [("httparse", "1.10.1"), ("h2", "0.3.27"), ("h2", "0.4.18")]


class Advisories(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        (self.root / "proof.rs").write_text("#[test]\nfn it_is_shown() {}\n")

    def problems(self, locked, **changes):
        return list(advisories.problems({**RULES, **changes}, locked, self.root))

    def test_a_patched_lock_has_no_problem(self):
        self.assertEqual(self.problems(PATCHED), [])

    def test_an_old_version_fails(self):
        for old, advisory in [("0.4.17", "RUSTSEC-2026-0258"), ("0.4.18-rc.1", "RUSTSEC-2026-0258")]:
            found = self.problems([*PATCHED, ("h2", old)])
            self.assertEqual(len(found), 1, found)
            self.assertIn(f"h2 {old}: {advisory}", found[0])
        found = self.problems([*PATCHED, ("h2", "0.3.25")])
        self.assertIn("h2 0.3.25: RUSTSEC-2024-0332", found[0])
        self.assertEqual(len(found), 1, "an exception covers one advisory, not the crate")

    def test_without_the_exception_the_old_line_fails(self):
        found = self.problems(PATCHED, exception=[])
        self.assertEqual(len(found), 1, found)
        self.assertIn("h2 0.3.27: RUSTSEC-2026-0258", found[0])

    def test_an_exception_needs_its_test_and_a_version_that_needs_it(self):
        (self.root / "proof.rs").write_text("fn it_is_shown_elsewhere() {}\n")
        self.assertIn("does not exist: proof.rs: it_is_shown", self.problems(PATCHED)[0])
        (self.root / "proof.rs").write_text("fn it_is_shown() {}\n")
        newer = [each for each in PATCHED if each != ("h2", "0.3.27")]
        self.assertIn("no locked version needs it", self.problems(newer)[0])
        unproven = [{**RULES["exception"][0], "tests": []}]
        self.assertIn("it has no test", self.problems(PATCHED, exception=unproven)[0])

    def test_a_rule_without_effect_fails(self):
        self.assertIn("httparse is not in the lock", self.problems(PATCHED[1:])[0])
        self.assertIn("has an advisory", self.problems(PATCHED, without_advisory=["httparse", "h2"])[0])
        misnamed = [{**RULES["minimum"][0], "advisory": "RUSTSEC-1"}]
        self.assertIn("is not an advisory ID", self.problems(PATCHED, minimum=misnamed)[0])
        misspelt = [{**RULES["minimum"][0], "versions": ["1.0.0"]}]
        self.assertIn("needs exactly", self.problems(PATCHED, minimum=misspelt)[0])
        self.assertIn("unknown key unknown", self.problems(PATCHED, unknown=[])[0])

    def test_versions_are_ordered(self):
        ordered = ["0.3.9", "0.3.10", "0.4.0-alpha.1", "0.4.0", "1.0.0", "1.2.1+spec-1.1.0", "1.10.0"]
        self.assertEqual(sorted(reversed(ordered), key=advisories.parse), ordered)
        with self.assertRaises(ValueError):
            advisories.parse("1.0")

    def test_the_program_fails_on_this_tree_with_an_older_lock(self):
        root = pathlib.Path(__file__).resolve().parent.parent
        lock = (root / "Cargo.lock").read_text()
        version = next(
            package["version"] for package in tomllib.loads(lock)["package"] if package["name"] == "ring"
        )
        for name in ("advisories.py", "advisories.toml"):
            copy = self.root / ".ci" / name
            copy.parent.mkdir(exist_ok=True)
            copy.write_text((root / ".ci" / name).read_text())
        for test in (each for row in self.rules(root)["exception"] for each in row["tests"]):
            copy = self.root / test.partition(": ")[0]
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text((root / test.partition(": ")[0]).read_text())
        for content, code, output in [
            (lock, 0, "0 problems"),
            (lock.replace(f'"ring"\nversion = "{version}"', '"ring"\nversion = "0.17.8"'), 1, "ring 0.17.8: RUSTSEC-2025-0009"),
        ]:
            (self.root / "Cargo.lock").write_text(content)
            command = [sys.executable, str(self.root / ".ci" / "advisories.py")]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual(ended.returncode, code, ended.stdout + ended.stderr)
            self.assertIn(output, ended.stdout)

    @staticmethod
    def rules(root):
        return tomllib.loads((root / ".ci" / "advisories.toml").read_text())


if __name__ == "__main__":
    unittest.main()

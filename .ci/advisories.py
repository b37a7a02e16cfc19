#!/usr/bin/env python3
"""Checks Cargo.lock against the minimum versions in advisories.toml. Works offline.

A locked version below a patched one is a problem, unless an exception covers it. An exception has a reason and the tests
that prove it. A row or an exception without effect is a problem too, so that no obsolete rule remains.
"""

import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEYS = {
    "minimum": {"crate", "advisory", "patched", "what"},
    "exception": {"crate", "advisory", "below", "reason", "tests"},
}
ADVISORY = re.compile(r"RUSTSEC-\d{4}-\d{4}|GHSA(-[0-9a-z]{4}){3}|CVE-\d{4}-\d{4,}")


def parse(version):
    """The order of a version (semver.org, 11): a pre-release is older than its release, build metadata is ignored."""
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", version)
    if match is None:
        raise ValueError(f"{version!r} is not a version")
    return (*(int(part) for part in match.group(1, 2, 3)), match.group(4) is None, match.group(4) or "")


def line(version):
    """The release line of compatible versions: the major number, or 0 with the minor number."""
    major, minor = parse(version)[:2]
    return (major, minor if major == 0 else None)


def is_patched(version, patched):
    """Whether a version is at least the patched one of its line, or at least the highest patched one."""
    own = [each for each in patched if line(each) == line(version)]
    return parse(version) >= min(map(parse, own), default=max(map(parse, patched)))


def malformed(rules):
    for kind, keys in KEYS.items():
        for row in rules.get(kind, []):
            if row.keys() != keys:
                yield f"advisories.toml: a {kind} needs exactly {', '.join(sorted(keys))}: {row}"
            elif not ADVISORY.fullmatch(row["advisory"]):
                yield f"advisories.toml: {row['advisory']!r} is not an advisory ID"
    for key in rules.keys() - KEYS.keys() - {"reviewed", "without_advisory"}:
        yield f"advisories.toml: unknown key {key}"


def missing_tests(exception, root):
    """The tests of an exception that do not exist."""
    if not exception["tests"]:
        yield "it has no test"
    for named in exception["tests"]:
        path, _, name = named.partition(": ")
        file = root / path
        if not file.is_file() or not re.search(rf"\bfn {re.escape(name)}\(", file.read_text()):
            yield named


def problems(rules, locked, root=ROOT):
    """All problems of a lock. `locked` lists pairs of a crate's name and its version."""
    faults = list(malformed(rules))
    if faults:
        yield from faults
        return
    versions = {}
    for name, version in locked:
        versions.setdefault(name, []).append(version)
    listed = {row["crate"] for row in rules["minimum"]}
    for name in sorted(listed.union(rules["without_advisory"]) - versions.keys()):
        yield f"advisories.toml: {name} is not in the lock: remove its rows"
    for name in sorted(listed.intersection(rules["without_advisory"])):
        yield f"advisories.toml: {name} has an advisory and is in without_advisory"
    effective = set()
    for row in rules["minimum"]:
        for version in versions.get(row["crate"], []):
            if is_patched(version, row["patched"]):
                continue
            covering = [
                at
                for at, exception in enumerate(rules["exception"])
                if (exception["crate"], exception["advisory"]) == (row["crate"], row["advisory"])
                and parse(version) < parse(exception["below"])
            ]
            effective.update(covering)
            if not covering:
                least = " or ".join(row["patched"])
                yield f"{row['crate']} {version}: {row['advisory']}: {row['what']}; needs at least {least}"
    for at, exception in enumerate(rules["exception"]):
        name = f"exception for {exception['crate']}, {exception['advisory']}"
        if at not in effective:
            yield f"{name}: no locked version needs it: remove it"
        for test in missing_tests(exception, root):
            yield f"{name}: names a test that does not exist: {test}"


def main():
    rules = tomllib.loads((ROOT / ".ci" / "advisories.toml").read_text())
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    locked = [(package["name"], package["version"]) for package in lock["package"]]
    found = list(problems(rules, locked))
    for problem in found:
        print(problem)
    rows, exceptions = len(rules["minimum"]), len(rules["exception"])
    print(f"{rows} advisories, {exceptions} exceptions, {len(locked)} locked packages, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Checks every dependency against deny.toml: its licence, its source, the banned crates.

A small replacement for cargo-deny, which takes minutes to build and needs a network for its advisories. It supports the
keys that deny.toml uses; any other key is an error, so that no rule is silently without effect.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
KNOWN = {
    "graph": {"targets", "all-features"},
    "licenses": {"allow"},
    "bans": {"multiple-versions", "wildcards", "allow-wildcard-paths", "deny"},
    "sources": {"unknown-registry", "unknown-git", "allow-registry"},
}
KNOWN_BAN = {"crate", "deny-multiple-versions"}


def allowed(expression, allow):
    """Whether an SPDX expression can be met with licences from `allow`; the old `A/B` means `A OR B`."""
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)
    position = 0

    def peek():
        return tokens[position].upper() if position < len(tokens) else ""

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def atom():
        if peek() == "(":
            take()
            inner = either()
            if peek() != ")":
                raise ValueError(expression)
            take()
            return inner
        if peek() in ("", ")", "OR", "AND", "/"):
            raise ValueError(expression)
        name = take()
        if peek() == "WITH":
            take()
            name = f"{name} WITH {take()}"
        return name in allow

    def both():
        result = atom()
        while peek() == "AND":
            take()
            result = atom() and result
        return result

    def either():
        result = both()
        while peek() in ("OR", "/"):
            take()
            result = both() or result
        return result

    result = either()
    if position != len(tokens):
        raise ValueError(expression)
    return result


def unknown_keys(rules):
    for section, keys in rules.items():
        for key in keys.keys() - KNOWN.get(section, set()):
            yield f"deny.toml: unknown key [{section}] {key}"
    for ban in rules["bans"]["deny"]:
        for key in ban.keys() - KNOWN_BAN:
            yield f"deny.toml: unknown key bans.deny: {key}"


def licence_problem(package, allow):
    expression = package["license"]
    if not expression:
        return "has no licence expression"
    try:
        return None if allowed(expression, allow) else f"licence {expression} is not on the list"
    except ValueError:
        return f"licence {expression!r} cannot be parsed"


def problems(rules, packages, members):
    yield from unknown_keys(rules)
    versions = collections.defaultdict(set)
    registries = {f"registry+{url}" for url in rules["sources"]["allow-registry"]}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        versions[package["name"]].add(package["version"])
        if problem := licence_problem(package, set(rules["licenses"]["allow"])):
            yield f"{name}: {problem}"
        if package["id"] in members:
            for dependency in package["dependencies"]:
                if dependency["req"] == "*" and not dependency.get("path"):
                    yield f"{name}: accepts any version of {dependency['name']}"
        elif package["source"] not in registries:
            yield f"{name}: comes from {package['source']}"
    for ban in rules["bans"]["deny"]:
        found = versions.get(ban["crate"], set())
        if ban.get("deny-multiple-versions"):
            if len(found) > 1:
                yield f"{ban['crate']}: more than one version: {', '.join(sorted(found))}"
        elif found:
            yield f"{ban['crate']}: banned"


def self_check():
    allow = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"}
    for expression, expected in {
        "MIT": True,
        "GPL-3.0": False,
        "GPL-3.0 OR MIT": True,
        "GPL-3.0 AND MIT": False,
        "MIT/Apache-2.0": True,
        "(MIT OR Apache-2.0) AND Unicode-3.0": True,
        "(MIT OR Apache-2.0) AND GPL-2.0": False,
        "MIT OR GPL-2.0 AND BSD-3-Clause": True,
        "Apache-2.0 WITH LLVM-exception": True,
        "MIT WITH LLVM-exception": False,
    }.items():
        if allowed(expression, allow) is not expected:
            sys.exit(f"licences.py: {expression!r} is evaluated wrongly")


def main():
    self_check()
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    command += ["--all-features"] if rules["graph"]["all-features"] else []
    for target in rules["graph"]["targets"]:
        command += ["--filter-platform", target]
    graph = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    used = {node["id"] for node in graph["resolve"]["nodes"]}
    packages = [package for package in graph["packages"] if package["id"] in used]
    found = sorted(problems(rules, packages, set(graph["workspace_members"])))
    for problem in found:
        print(problem)
    print(f"{len(packages)} packages, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

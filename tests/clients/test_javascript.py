"""The AWS SDK for JavaScript: its cases are in javascript/cases.js, run by one process for each endpoint.

`npm ci --ignore-scripts` in javascript/ installs the packages of package-lock.json. Besides the usual targets there is
one gateway that verifies signatures, in front of the same two servers.
"""

import dataclasses
import json
import subprocess
import uuid

import pytest
from configuration import DATA, key, policy, section
from conftest import DIRECT

import servers

FOLDER = servers.HERE / "javascript"
KEYS = ("AKIAJAVASCRIPT", "a/secret+of=some/forty+characters")
PLACES = ["origin", "rgw"] if DIRECT else ["origin", "rgw", "signed origin", "signed rgw"]


def node(*arguments, place=None):
    done = subprocess.run(
        ["node", FOLDER / "suite.js", *arguments],
        env=servers.clean_environment(),
        input=json.dumps(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        raise servers.StartError(f"node, or `npm ci` in {FOLDER}: {done.stderr[-3000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def asked(place):
    """The cases for one endpoint, without those that its store, or the store without the gateway, does not support."""
    store = place.rpartition(" ")[2]
    for case in node("list"):
        left_out = (DIRECT and case["gateway"]) or (case["signed"] and not place.startswith("signed"))
        if store in case["stores"] and not left_out:
            yield case["name"]


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases = [(place, name) for place in PLACES for name in asked(place)]
        metafunc.parametrize(("place", "case"), cases, ids=[f"{place}: {name}" for place, name in cases])


@pytest.fixture(scope="module")
def verifying(start_gateway, origin_server, rgw_server):
    """A gateway that accepts SigV4 only."""
    stores = section("demo", origin_server) + section("every", rgw_server, pattern="*")
    return start_gateway("javascript", stores, key(KEYS), policy(methods=DATA))


@pytest.fixture(scope="module")
def outcomes(request):
    """The outcome of each case, by endpoint; each endpoint is tested once."""
    known = {}

    def ask(place):
        if place not in known:
            signed, _, store = place.rpartition(" ")
            target = request.getfixturevalue(store)
            if signed:
                gateway = request.getfixturevalue("verifying")
                target = dataclasses.replace(target, endpoint=gateway.endpoint, keys=KEYS)
            settings = {
                "endpoint": target.endpoint,
                "bucket": target.bucket,
                "store": store,
                "keyId": target.keys[0],
                "secret": target.keys[1],
                "prefix": f"js-{uuid.uuid4().hex[:10]}/",
                "cases": list(asked(place)),
            }
            known[place] = {case["name"]: case["error"] for case in node("run", place=settings)}
        return known[place]

    return ask


def test_the_javascript_sdk(outcomes, place, case):
    """A1, V5, I1, I2, E2: objects, parts, checksums in header and trailer, keys, ranges, conditions, errors."""
    assert outcomes(place)[case] is None, outcomes(place)[case]

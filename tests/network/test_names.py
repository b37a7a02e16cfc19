"""Names of upstreams that the resolver loses and finds again. The file of names is this namespace's own."""

import subprocess

import pytest

from causes import has_begun, has_ended
from conftest import ask, bucket

NAME = "store.tidegate-test.example"
HOSTS = "/etc/hosts"
#: Without idle connections each request resolves the name.
SETTINGS = {"connection_pool.max_idle": 0, "retry.max_attempts": 1}


@pytest.fixture
def names(tmp_path):
    """Replaces the lines of the file of names. The network has no DNS server."""
    file = tmp_path / "hosts"
    file.write_text("127.0.0.1 localhost\n")
    file.chmod(0o644)
    subprocess.run(["mount", "--bind", file, HOSTS], check=True)

    def write(*lines):
        file.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))

    yield write
    subprocess.run(["umount", "--lazy", HOSTS], check=True)


def named(port):
    return "[dns]\nttl = 0.5\n" + bucket("b", port, **SETTINGS).replace("127.0.0.1", NAME)


def test_a_lost_name_is_served_from_its_last_answer(start, upstream, names):
    """P8, X10: while lookups fail the last addresses are used. That is a cause with the age of the answer and the requests that
    were served with it, and it ends with the next answer."""
    names(f"127.0.0.1 {NAME}")
    gateway = start(named(upstream.port))
    assert ask(gateway, "/b/k").status == 200
    names()
    served = []

    def request():
        answer = ask(gateway, "/b/k")
        assert answer.status == 200, answer
        served.append(answer)

    cause = has_begun(gateway, "resolver_stale", doing=request)
    assert cause["scope"] == {"kind": "endpoint", "bucket": "b", "name": f"{NAME}:{upstream.port}"}, cause
    assert cause["threshold"] == {"value": 0.5, "unit": "s"}, cause
    assert cause["measured"]["unit"] == "s" and cause["measured"]["value"] >= 0.5, cause
    assert NAME in cause["message"] and "last addresses are in use" in cause["message"], cause
    names(f"127.0.0.1 {NAME}")
    ended = has_ended(gateway, "resolver_stale", doing=request, scope="b")
    effect = ended["cause"]["effect"]
    assert effect["refused"] == 0 and 1 <= effect["stale"] <= len(served), ended
    assert gateway.status()["status"] == "ok"


def test_an_unknown_name_is_a_cause_until_it_is_known(start, upstream, names):
    """P8, X10: a name that was never resolved is a cause with its refusals; it ends with the first answer, without a restart."""
    gateway = start(named(upstream.port))
    refused = []

    def request():
        answer = ask(gateway, "/b/k")
        assert (answer.status, answer.reason) == (502, "upstream_dns"), answer
        refused.append(answer)

    cause = has_begun(gateway, "upstream_unresolved", doing=request)
    assert cause["scope"] == {"kind": "endpoint", "bucket": "b", "name": f"{NAME}:{upstream.port}"}, cause
    assert cause["measured"]["unit"] == "failed lookups in a row" and cause["measured"]["value"] >= 1, cause
    names(f"127.0.0.1 {NAME}")
    assert ask(gateway, "/b/k").status == 200
    ended = has_ended(gateway, "upstream_unresolved", scope="b")
    assert ended["cause"]["effect"]["refused"] == len(refused), ended

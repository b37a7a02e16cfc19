"""Files of the kernel that are missing, unreadable or malformed: the sensor is unknown, and nothing is refused."""

import subprocess

import pytest

from causes import has_begun, has_ended, present
from conftest import ask, bucket, eventually

PORT_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"


def hidden(directory):
    """Starts the gateway where an empty file system covers a directory."""
    return ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {directory} && exec "$@"', "sh"]


@pytest.fixture
def store(upstream):
    """An upstream that reads uploads."""
    def read_and_answer(exchange):
        exchange.body()
        exchange.answer()

    upstream.handle = read_and_answer
    return upstream


@pytest.fixture
def malformed_range(tmp_path):
    """Covers the range of local ports with a file without numbers; the value ends it."""
    file = tmp_path / "range"
    file.write_text("many\n")
    covered = []

    def cover():
        subprocess.run(["mount", "--bind", file, PORT_RANGE], check=True)
        covered.append(file)

    def uncover():
        if covered:
            subprocess.run(["umount", "--lazy", PORT_RANGE], check=True)
            covered.pop()

    yield cover, uncover
    uncover()


def assert_serves(gateway):
    """Requests are served, and the level is normal."""
    for _ in range(20):
        assert ask(gateway, "/b/k").status == 200
    answer = ask(gateway, "/b/k", "PUT", b"x" * 100_000)
    assert answer.status == 200, answer
    assert gateway.status()["level"] == "normal"
    assert gateway.metric("load_shed_total") == 0


def unknown(gateway):
    """The resources that are unknown, and why."""
    resources = gateway.status()["resources"]
    return {name: found["why"] for name, found in resources.items() if found.get("unknown")}


def test_a_sensor_that_fails_is_a_cause_until_it_works(start, store, malformed_range):
    """X4, X10: a file of the kernel with another content than expected makes one resource unknown. That is a cause which names the
    file; it sheds nothing, and ends with the next good reading."""
    cover, uncover = malformed_range
    gateway = start(bucket("b", store.port))
    eventually("the ports are measured", lambda: "used" in gateway.status()["resources"]["ephemeral_ports"])
    cover()
    cause = has_begun(gateway, "sensor_unknown", name="ephemeral_ports")
    assert cause["scope"] == {"kind": "process", "bucket": None, "name": "ephemeral_ports"}, cause
    assert PORT_RANGE in cause["message"] and "the level does not depend on it" in cause["effect"]["text"], cause
    assert unknown(gateway)["ephemeral_ports"] == "the sensor failed"
    assert gateway.metric('resource_unknown{resource="ephemeral_ports"}') == 1
    assert_serves(gateway)
    uncover()
    assert has_ended(gateway, "sensor_unknown")["cause"]["effect"]["refused"] == 0
    assert gateway.metric('resource_unknown{resource="ephemeral_ports"}') == 0


def test_a_gateway_without_proc_serves(start, store):
    """X4, X10: without /proc the sensors of memory and descriptors are unknown, each a cause; requests are served."""
    gateway = start(bucket("b", store.port), launcher=hidden("/proc"))
    has_begun(gateway, "sensor_unknown", name="memory")
    causes = present(gateway, "sensor_unknown")
    assert {cause["scope"]["name"] for cause in causes} == {"memory", "memory_total", "descriptors"}, causes
    assert all("must be able to read /proc/self/" in cause["message"] for cause in causes), causes
    assert unknown(gateway)["ephemeral_ports"] == "the system does not publish its range of local ports"
    assert_serves(gateway)
    assert gateway.status()["status"] == "degraded"


def test_a_gateway_without_cgroup_files_serves(start, store):
    """X1, X4: without the files of the cgroups the memory of the host is the limit, which is no cause; requests are served."""
    gateway = start(bucket("b", store.port), launcher=hidden("/sys/fs/cgroup"))
    eventually("the memory is measured", lambda: gateway.status()["memory"])
    status = gateway.status()
    assert status["memory"]["source"] == "host" and status["causes"] == [], status
    assert unknown(gateway)["cpu_throttled"] == "no cgroup of the process has a CPU quota"
    assert_serves(gateway)

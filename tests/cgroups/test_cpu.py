"""CPU: throttling by the quota of a real cgroup, and pressure of busy processes."""

import os
import subprocess
import sys
import threading

import pytest

from cgroup import CpuCgroup
from conftest import ask, bucket, eventually, section

QUOTA = 0.05
PATIENCE_SECONDS = 60


@pytest.fixture
def cpu_group():
    group = CpuCgroup.create(f"tidegate-test-cpu-{os.getpid()}")
    yield group
    group.remove()


@pytest.fixture
def busy_processes():
    """Twice as many busy processes as processors: a task always waits."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(2 * os.cpu_count())]
    yield
    for process in processes:
        process.kill()
        process.wait()


def resource(gateway, name):
    return gateway.status()["resources"][name]


def test_throttling_by_a_quota_is_measured(cpu_group, start, upstream):
    """X1, X2: the time in which the quota holds the gateway is a resource; it raises the level and refuses nothing."""
    gateway = start(cpu_group, bucket("b", upstream.port))
    absent = resource(gateway, "cpu_throttled")
    assert absent["unknown"] and "quota" in absent["why"], absent
    is_over = threading.Event()

    def load():
        while not is_over.is_set():
            assert ask(gateway, "/b/1000")[0] == 200

    clients = [threading.Thread(target=load) for _ in range(8)]
    for client in clients:
        client.start()
    try:
        cpu_group.set_quota(QUOTA)
        eventually(
            "the throttling raises the level",
            lambda: (gateway.status()["reason"] or "").startswith("cpu_throttled at "),
            PATIENCE_SECONDS,
        )
        throttled = resource(gateway, "cpu_throttled")
        assert throttled["limit"] == 100 and throttled["limit_source"] == "percent of the time", throttled
        assert throttled["subject"].startswith("cgroup v"), throttled
        assert throttled["level_max"] == "critical"
        assert cpu_group.throttled() > 0
        assert gateway.level() != "exhausted" and gateway.metric("load_shed_total") == 0
    finally:
        cpu_group.set_quota(None)
        is_over.set()
        for client in clients:
            client.join()
    eventually("the quota is gone", lambda: resource(gateway, "cpu_throttled").get("unknown"), PATIENCE_SECONDS)
    eventually("the level falls", lambda: gateway.level() == "normal")


def test_pressure_of_busy_processes(cpu_group, start, upstream, busy_processes):
    """X1, X2: CPU pressure is measured; it raises the level to warning, and only with a limit."""
    limited = start(cpu_group, bucket("b", upstream.port), section("monitor", {"cpu_pressure_limit": 40}))
    unlimited = start(cpu_group, bucket("b", upstream.port))
    eventually("the pressure raises the level", lambda: limited.level() == "warning", PATIENCE_SECONDS)
    assert limited.status()["reason"].startswith("cpu at "), limited.status()["reason"]
    assert resource(limited, "cpu")["limit_source"] == "monitor.cpu_pressure_limit"
    assert resource(unlimited, "cpu")["used"] > 20
    assert resource(unlimited, "cpu")["level_max"] == "normal" and unlimited.level() == "normal"

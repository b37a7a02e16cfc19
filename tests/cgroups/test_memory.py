"""Memory in cgroups: which memory counts, which only warns, and that the gateway is neither killed nor stuck."""

import os
import subprocess
import sys
import time

import pytest

from conftest import MIB, bucket, eventually, request, section
from crowd import answered, outcomes

WIDE = {"concurrency.max_concurrent": 5000, "connection_pool.size": 5000}
#: `monitor.dwell_ms` and a few samples.
DWELL_SECONDS = 2 + 1
#: Objects that no slow client receives completely.
LARGE = "/b/50000000"


def memory(gateway):
    eventually("memory was read", lambda: gateway.status()["memory"])
    return gateway.status()["memory"]


def reads_per_second(gateway, rate, seconds):
    """The statuses of small reads at this rate."""
    statuses = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        statuses.append(request(gateway, "/b/10")[0])
        time.sleep(1 / rate)
    return statuses


@pytest.mark.parametrize("limit_mib", [96, 160])
def test_memory_is_released_after_slow_downloads(make_cgroup, start, upstream, crowd, limit_mib):
    """X8: after 2,000 slow downloads the idle gateway is normal within the dwell, refuses nothing afterwards, and uses as little
    memory as before."""
    limits = section("server", {"max_concurrent_requests": 20000})
    limits += section("monitor", {"memory_limit_bytes": f"{limit_mib}MiB"})
    gateway = start(make_cgroup(1024 * MIB), limits, bucket("b", upstream.port, **WIDE))
    before = gateway.rss_bytes()
    clients = crowd(gateway)
    downloads = clients.downloads(2000, LARGE)
    eventually("most have an answer", lambda: answered(downloads) >= 1000)
    time.sleep(5)
    clients.close()
    eventually("nothing is in flight", lambda: gateway.status()["requests_in_flight"] == 0)
    eventually("the level is normal", lambda: gateway.level() == "normal", DWELL_SECONDS)
    assert set(reads_per_second(gateway, 20, 5)) == {200}
    assert gateway.rss_bytes() <= before + 20 * MIB


@pytest.mark.parametrize("limit_mib", [64, 128, 320])
def test_slow_downloads_cause_no_oom_kill(make_cgroup, start, upstream, crowd, limit_mib):
    """X6, X1: in a small cgroup with the default monitor, 2,000 slow downloads are served or refused with a reason; there is no OOM
    kill, and the status answers."""
    group = make_cgroup(limit_mib * MIB)
    limits = section("server", {"max_concurrent_requests": 20000})
    gateway = start(group, limits, bucket("b", upstream.port, **WIDE))
    clients = crowd(gateway)
    downloads = clients.downloads(2000, LARGE)
    eventually("most have an answer", lambda: answered(downloads) >= 1900)
    for _ in range(10):
        assert gateway.is_running(), f"OOM kills: {group.oom_kills()}"
        assert gateway.status()["memory"]["limit_bytes"] == limit_mib * MIB
        time.sleep(0.5)
    assert group.oom_kills() == 0
    served = outcomes(downloads)
    assert served[(200, None)] >= 16, served
    refused = {outcome for outcome in served if outcome[0] not in (200, None)}
    assert all(status == 503 and reason for status, reason in refused), served
    clients.close()
    eventually("nothing is in flight", lambda: gateway.status()["requests_in_flight"] == 0)
    eventually("the level is normal", lambda: gateway.level() == "normal", DWELL_SECONDS)


def test_memory_of_a_sibling_only_warns(make_cgroup, start, upstream):
    """X2: a process in the same cgroup that uses nearly all of its memory raises the level to `warning`, and nothing is refused."""
    group = make_cgroup(128 * MIB)
    gateway = start(group, bucket("b", upstream.port))
    eater = group.eat(112 * MIB)
    eventually("the level is warning", lambda: gateway.level() == "warning")
    status = gateway.status()
    assert status["reason"].startswith("memory_total at "), status["reason"]
    assert status["memory"]["own_bytes"] < 64 * MIB < status["memory"]["used_bytes"]
    assert set(reads_per_second(gateway, 20, 3)) == {200}
    assert gateway.level() == "warning"
    eater.stop()
    eventually("the level is normal", lambda: gateway.level() == "normal", DWELL_SECONDS)


def test_page_cache_of_a_log_is_not_used_memory(make_cgroup, start, upstream, tmp_path):
    """X1: pages of a large log file fill the cgroup; the kernel would reclaim them before a kill, so they do not count."""
    group = make_cgroup(96 * MIB)
    gateway = start(group, bucket("b", upstream.port))
    log = tmp_path / "access.log"
    writer = "import sys\nwith open(sys.argv[1], 'wb') as log:\n    for _ in range(200):\n        log.write(bytes(1 << 20))"
    subprocess.run([*group.launcher(), sys.executable, "-c", writer, str(log)], check=True)
    if group.usage_bytes() < 80 * MIB:
        pytest.fail(f"{tmp_path} is on a file system without page cache: usage is {group.usage_bytes()}")
    time.sleep(1)
    assert gateway.level() == "normal" and memory(gateway)["used_bytes"] < 48 * MIB
    assert set(reads_per_second(gateway, 20, 1)) == {200}


def test_the_tightest_ancestor_counts(make_cgroup, start, upstream):
    """X1: the limit of an outer cgroup counts with the usage of the outer cgroup."""
    outer = make_cgroup(96 * MIB)
    inner, sibling = make_cgroup(90 * MIB, outer), make_cgroup(90 * MIB, outer)
    gateway = start(inner, bucket("b", upstream.port))
    assert memory(gateway)["own_limit_bytes"] == 90 * MIB
    eater = sibling.eat(80 * MIB)
    eventually("the outer usage counts", lambda: memory(gateway)["used_bytes"] >= 80 * MIB)
    assert memory(gateway)["limit_bytes"] == 96 * MIB and memory(gateway)["own_bytes"] < 48 * MIB
    eventually("the level is warning", lambda: gateway.level() == "warning")
    eater.stop()
    inner.set_limit(40 * MIB)
    eventually("the inner limit counts", lambda: memory(gateway)["limit_bytes"] == 40 * MIB)


def test_changes_of_limits_and_cgroups_at_run_time_are_detected(make_cgroup, start, upstream):
    """X1: a lowered limit, a removed limit, and another cgroup for the running process."""
    group, other = make_cgroup(512 * MIB), make_cgroup(256 * MIB)
    gateway = start(group, bucket("b", upstream.port))
    assert memory(gateway)["limit_bytes"] == 512 * MIB
    group.set_limit(100 * MIB)
    eventually("the lower limit counts", lambda: memory(gateway)["limit_bytes"] == 100 * MIB)
    (other.path / "cgroup.procs").write_text(str(gateway.pid))
    eventually("the other cgroup counts", lambda: memory(gateway)["limit_bytes"] == 256 * MIB)
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    other.set_limit(2 * host)
    eventually("the host counts", lambda: memory(gateway)["source"] == "host")
    assert memory(gateway)["limit_bytes"] >= host

"""Kernel buffers of large bodies follow the pace of the client, within a budget."""

import hashlib
import statistics
import threading
import time

from conftest import MIB, ask, bucket, eventually, section
from crowd import answered, cut, outcomes

KIB = 1 << 10
#: Receive and send buffer of one slow transfer, with the kernel's overhead.
SLOW_TRANSFER_BYTES = 80 * KIB
#: One address may not hold half of a gate with answers that it does not read.
SOURCES = [f"127.0.0.{number}" for number in range(2, 12)]
#: Reasons of refusals while memory is short.
REFUSALS = {(200, None), (503, "exhausted")}


def wide(count):
    return {"concurrency.max_concurrent": count, "connection_pool.size": count}


def crowd_of(clients, count, target, **slow):
    each = count // len(SOURCES)
    return [member for source in SOURCES for member in clients.downloads(each, target, source=source, **slow)]


def test_a_thousand_slow_downloads_fit_a_cgroup(make_cgroup, start, upstream, crowd):
    """P1, X8: 1,000 slow downloads of large objects in 256 MiB: small buffers, nobody is cut, refusals have a reason."""
    group = make_cgroup(256 * MIB)
    gateway = start(
        group,
        section("server", {"max_concurrent_requests": 2000, "min_send_rate": 0}),
        bucket("b", upstream.port, **wide(1000)),
        descriptors=8192,
    )
    clients = crowd(gateway)
    # Their own kernel takes the first 64 KiB at once.
    downloads = crowd_of(clients, 1000, f"/b/{100 * MIB}", bytes_per_second=3000, receive_buffer=None)
    eventually("everybody has an answer", lambda: answered(downloads) == 1000, seconds=60)
    for _ in range(5):
        time.sleep(1)
        admitted = [member for member in downloads if member.status == 200]
        held = gateway.sockets_bytes() / len(admitted)
        print(len(admitted), held, statistics.mean(s.send for s in gateway.sockets()) * 2, statistics.mean(s.receive for s in gateway.sockets()) * 2, max(s.send for s in gateway.sockets()), max(s.receive for s in gateway.sockets()), outcomes(downloads), gateway.status()["resources"]["memory"], gateway.level(), group.usage_bytes())
        assert held <= SLOW_TRANSFER_BYTES
    assert set(outcomes(downloads)) <= REFUSALS
    assert gateway.metric("transfers_cut_total") == 0
    assert not cut(downloads)
    assert gateway.is_running() and group.oom_kills() == 0

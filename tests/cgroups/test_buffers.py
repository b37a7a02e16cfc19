"""Kernel buffers of large bodies follow the pace of the client, within a budget."""

import time

from conftest import MIB, ask, bucket, eventually, section
from crowd import answered, cut, outcomes

KIB = 1 << 10
#: Receive and send buffer of one slow transfer, with the kernel's overhead.
SLOW_TRANSFER_BYTES = 80 * KIB


def wide(count):
    return {"concurrency.max_concurrent": count, "connection_pool.size": count}


def test_a_thousand_slow_downloads_fit_a_cgroup(make_cgroup, start, upstream, crowd):
    """P1, X8: 1,000 slow downloads of large objects in 256 MiB: small socket buffers, nobody is cut, refusals have a reason."""
    group = make_cgroup(256 * MIB)
    gateway = start(
        group,
        section("server", {"max_concurrent_requests": 2000, "min_send_rate": 0}),
        bucket("b", upstream.port, **wide(1000)),
        descriptors=8192,
    )
    alone = fastest(gateway)
    clients = crowd(gateway)
    downloads = clients.downloads(1000, f"/b/{100 * MIB}", bytes_per_second=2000, receive_buffer=None)
    eventually("everybody has an answer", lambda: answered(downloads) == 1000, seconds=60)
    time.sleep(5)
    admitted = [member for member in downloads if member.status == 200]
    held = gateway.sockets_bytes() / len(admitted)
    ups = sorted([s for s in gateway.sockets() if s.peer.endswith(f":{upstream.port}")], key=lambda s: s.receive)
    print(len(ups), ups[::100])
    print(len(admitted), held, outcomes(downloads), gateway.status()["resources"], group.usage_bytes())
    assert held <= SLOW_TRANSFER_BYTES
    crowded = fastest(gateway)
    print(alone, crowded)
    assert not cut(downloads)
    assert gateway.is_running() and group.oom_kills() == 0


def fastest(gateway):
    """Bytes a second of a fast download, the best of three; 0 where it is refused."""
    return max(rate(gateway) for _ in range(3))


def rate(gateway):
    began = time.monotonic()
    status, _, body = ask(gateway, f"/b/{20 * MIB}-fast")
    return len(body) / (time.monotonic() - began) if status == 200 else 0

"""The gateway detects the limit of its memory cgroup and serves within it."""

from conftest import MIB, bucket, eventually, request
from crowd import answered, outcomes

WIDE = {"concurrency.max_concurrent": 300, "connection_pool.size": 300}


def test_the_limit_of_the_cgroup_is_detected(make_cgroup, start, upstream):
    """X1: by default the memory limit is that of the cgroup, and objects are served within it."""
    group = make_cgroup(64 * MIB)
    gateway = start(group, bucket("b", upstream.port))
    assert gateway.status()["resources"]["memory"]["limit"] == group.limit_bytes() == 64 * MIB
    status, _, body = request(gateway, f"/b/{100 * MIB}")
    assert (status, len(body)) == (200, 100 * MIB)
    assert gateway.is_running() and group.oom_kills() == 0


def test_many_clients_are_served_in_a_cgroup(make_cgroup, start, upstream, crowd):
    """X1, S4: slow downloads and uploads, idle connections and a frozen store pass through a gateway in a cgroup."""
    group = make_cgroup(128 * MIB)
    gateway = start(group, bucket("b", upstream.port, **WIDE))
    clients = crowd(gateway)
    downloads = clients.downloads(20, "/b/1000000", bytes_per_second=1000)
    uploads = clients.uploads(20, "/b/1000", body_bytes=3000)
    idle = clients.idle(20, "/b/10")
    eventually("downloads have begun", lambda: answered(downloads) == 20)
    eventually("uploads are complete", lambda: all(member.state == "complete" for member in uploads))
    eventually("idle ones were answered", lambda: all(member.state == "complete" for member in idle))
    assert outcomes(downloads + uploads + idle) == {(200, None): 60}
    assert gateway.sockets_bytes() > 0 and len(gateway.sockets()) >= 60
    upstream.freeze()
    waiting = clients.downloads(1, "/b/10")
    assert answered(waiting) == 0
    upstream.thaw()
    eventually("the store answers again", lambda: outcomes(waiting) == {(200, None): 1})


def test_a_sibling_is_counted_and_the_limit_can_change(make_cgroup, start, upstream):
    """X1: memory of a sibling is in the usage of the cgroup, and its limit can be changed while the gateway runs."""
    group = make_cgroup(128 * MIB)
    gateway = start(group, bucket("b", upstream.port))
    before = group.usage_bytes()
    eater = group.eat(32 * MIB)
    assert group.usage_bytes() >= before + 32 * MIB
    eater.stop()
    group.set_limit(96 * MIB)
    assert group.limit_bytes() == 96 * MIB and gateway.is_running()
    group.set_limit(160 * MIB)
    assert group.limit_bytes() == 160 * MIB

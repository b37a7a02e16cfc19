"""Shared fixtures: memory cgroups, gateways inside them, a fast object store, and thousands of clients.

`tests/cgroups/run` creates the network namespace. If no cgroup can be created, the run fails.
"""

import itertools
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

import documented
import servers
import sockets
from cgroup import Hierarchy
from crowd import Crowd
from upstream import Upstream

MIB = 1 << 20
PATIENCE_SECONDS = 20


def pytest_collection_modifyitems(items):
    documented.require_names(items)


def pytest_report_header():
    hierarchy = Hierarchy.find()
    return f"memory cgroups: version {hierarchy.version}, below {hierarchy.parent}"


def pytest_terminal_summary(terminalreporter):
    """Also with --quiet."""
    terminalreporter.write_line(pytest_report_header())


@pytest.fixture(scope="session", autouse=True)
def own_network():
    """`ss` filters by port, so other processes' sockets would be counted."""
    routes = subprocess.run(["ip", "route"], check=True, capture_output=True).stdout
    assert not routes, "start it with tests/cgroups/run: this network has routes"


@pytest.fixture(scope="session")
def hierarchy():
    return Hierarchy.find()


@pytest.fixture
def make_cgroup(hierarchy):
    """Creates memory cgroups, which are removed with their processes when the test ends."""
    made = []

    def make_cgroup(limit_bytes, outer=None):
        name = f"tidegate-test-{os.getpid()}-{len(made)}"
        group = outer.inner(name, limit_bytes) if outer else hierarchy.create(name, limit_bytes)
        made.append(group)
        return group

    yield make_cgroup
    for group in reversed(made):
        group.remove()


@pytest.fixture
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.close()


def section(name, settings):
    """A section of the configuration; settings by their dotted names."""
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    return f"[{name}]\n{lines}"


def bucket(name, port, own=None, **s3):
    """A bucket of kind s3 with anonymous access; `own` are settings of the bucket, the others of its `s3`."""
    whole = section(f"buckets.{name}", {"auth": ["anonymous"], **(own or {})})
    return whole + section(f"buckets.{name}.s3", {"endpoints": [f"http://127.0.0.1:{port}"], **s3})


class Gateway(servers.Gateway):
    """A gateway in a memory cgroup."""

    def __init__(self, group, upstream_ports, directory, configuration, descriptors, hard_descriptors, variables):
        self.group = group
        self._upstream_ports = upstream_ports
        launcher = group.launcher(descriptors, hard_descriptors)
        super().__init__(directory, configuration, launcher, **variables)
        self.port = int(self.endpoint.rsplit(":", 1)[1])
        #: Of the gateway itself: the launcher becomes it.
        self.pid = self.process.pid

    def admin_text(self, path, timeout=10):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.admin + path, timeout=timeout) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def status(self):
        return json.loads(self.admin_text("/status"))

    def level(self):
        return self.status()["level"]

    def metric(self, name):
        """A metric by its name without the namespace."""
        for line in self.admin_text("/metrics").splitlines():
            if line.startswith(f"tidegate_{name} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def is_running(self):
        return self.process.poll() is None

    def rss_bytes(self):
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def sockets(self):
        """Memory of each socket of the gateway, as the kernel counts it."""
        return sockets.of_gateway(self.port, *self._upstream_ports)

    def sockets_bytes(self):
        return sockets.held_bytes(self.sockets())


@pytest.fixture
def start(tmp_path, upstream):
    """Starts gateways in cgroups; those still running are stopped with a drain when the test ends."""
    started = []
    directories = (tmp_path / f"gateway-{number}" for number in itertools.count())

    def start(group, *sections, descriptors=None, hard_descriptors=None, **variables):
        directory = next(directories)
        directory.mkdir()
        configuration = "".join(sections)
        gateway = Gateway(
            group, [upstream.port], directory, configuration, descriptors, hard_descriptors, variables
        )
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        killed = gateway.group.oom_kills()
        assert gateway.stop() == 0, f"the gateway ended by itself; OOM kills of its cgroup: {killed}"


@pytest.fixture
def crowd():
    """Creates crowds of slow clients, which disconnect when the test ends."""
    made = []

    def crowd(gateway):
        made.append(Crowd(gateway.port))
        return made[-1]

    yield crowd
    for each in made:
        each.close()


def eventually(what, holds, seconds=PATIENCE_SECONDS):
    """Waits until the condition holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s: {what}"
        time.sleep(0.05)


def ask(gateway, target, method="GET", body=b"", headers=()):
    """One complete exchange on its own connection: status, headers, body."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE_SECONDS) as stream:
        lines = [f"{method} {target} HTTP/1.1", "host: a", "connection: close", *headers]
        lines += [f"content-length: {len(body)}"] if body else []
        stream.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        received = bytearray()
        while piece := stream.recv(1 << 18):
            received += piece
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    return int(first.split(" ")[1]), dict(line.lower().split(": ", 1) for line in rest), body

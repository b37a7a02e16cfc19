"""Shared fixtures: a private network, a firewall, upstreams, gateways, and a client that sees every byte.

`tests/network/run` creates the namespace. All traffic is on its loopback; nothing outside is changed.
"""

import dataclasses
import json
import socket
import subprocess
import time
import urllib.request

import pytest

import documented
import servers
from upstream import Upstream

PATIENCE_SECONDS = 20


def pytest_collection_modifyitems(items):
    documented.require_names(items)


@pytest.fixture(scope="session", autouse=True)
def own_network():
    """Refuses to drop packets outside a private network namespace."""
    links = json.loads(subprocess.run(["ip", "-json", "link"], check=True, capture_output=True).stdout)
    names = [link["ifname"] for link in links]
    routes = subprocess.run(["ip", "route"], check=True, capture_output=True).stdout
    assert "lo" in names and not routes, f"start it with tests/network/run: this network has {names} and routes"


class Firewall:
    """Rules on packets that arrive on loopback, by TCP port."""

    def __init__(self):
        self._nft("add table inet faults")
        self._nft("add chain inet faults arriving { type filter hook input priority 0 ; }")

    @staticmethod
    def _nft(command):
        done = subprocess.run(["nft", *command.split(" ")], capture_output=True, text=True)
        assert done.returncode == 0, f"nft {command}: {done.stderr}"

    def rule(self, text):
        self._nft(f"add rule inet faults arriving {text}")

    def clear(self):
        self._nft("flush chain inet faults arriving")

    def close(self):
        self._nft("delete table inet faults")


@pytest.fixture
def firewall():
    firewall = Firewall()
    yield firewall
    firewall.close()


@pytest.fixture
def upstream():
    upstream = Upstream(lambda exchange: exchange.answer())
    yield upstream
    upstream.close()


def bucket(name, port, **settings):
    """A bucket of kind s3 with anonymous access; settings of its upstream by their dotted names."""
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    return f"""
[buckets.{name}]
auth = ["anonymous"]
[buckets.{name}.s3]
endpoints = ["http://127.0.0.1:{port}"]
{lines}
"""


class Gateway(servers.Gateway):
    @property
    def port(self):
        return int(self.endpoint.rsplit(":", 1)[1])

    def _admin(self, path):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.admin + path, timeout=10) as answer:
            return answer.read().decode()

    def status(self):
        return json.loads(self._admin("/status"))

    def metric(self, name):
        """A metric by its name without the namespace."""
        for line in self._admin("/metrics").splitlines():
            if line.startswith(f"tidegate_{name} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def is_idle(self):
        status = self.status()
        pools = [bucket["pool"] for bucket in status["buckets"].values()]
        return status["requests_in_flight"] == 0 and all(pool["in_flight"] == 0 for pool in pools)


@pytest.fixture
def start(tmp_path):
    """Starts gateways, which are stopped with a drain when the test ends. A launcher starts the binary; variables are those of its
    environment."""
    started = []

    def start(*sections, launcher=(), **variables):
        directory = tmp_path / f"gateway-{len(started)}"
        directory.mkdir()
        gateway = Gateway(directory, "".join(sections), launcher, **variables)
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        assert gateway.stop() == 0


def eventually(what, holds):
    """Waits until the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    body: bytes
    #: Whether the body came to the end that its head announces.
    is_whole: bool

    @property
    def reason(self):
        return self.headers.get("x-tidegate-reason")


class Client:
    """One connection to the gateway."""

    def __init__(self, gateway, receive_buffer=None):
        self.stream = socket.socket()
        if receive_buffer:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.stream.settimeout(PATIENCE_SECONDS)
        self.stream.connect(("127.0.0.1", gateway.port))
        self.port = self.stream.getsockname()[1]
        self.unread = b""

    def send(self, method, target, body=None):
        head = f"{method} {target} HTTP/1.1\r\nhost: a\r\n"
        if body is not None:
            head += f"content-length: {len(body)}\r\n"
        self.stream.sendall(head.encode() + b"\r\n" + (body or b""))

    def fill(self):
        piece = self.stream.recv(1 << 16)
        self.unread += piece
        return bool(piece)

    def until(self, end):
        while end not in self.unread:
            if not self.fill():
                raise ConnectionError("the connection ended")
        text, self.unread = self.unread.split(end, 1)
        return text

    def head(self):
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        return Answer(int(lines[0].split(" ")[1]), headers, b"", False)

    def answer(self):
        answer = self.head()
        try:
            if answer.headers.get("transfer-encoding") == "chunked":
                while size := int(self.until(b"\r\n"), 16):
                    answer.body += self.exactly(size)
                    self.until(b"\r\n")
                self.until(b"\r\n")
            else:
                answer.body = self.exactly(int(answer.headers["content-length"]))
            answer.is_whole = True
        except ConnectionError:
            answer.body += self.unread
        return answer

    def exactly(self, length):
        while len(self.unread) < length:
            if not self.fill():
                raise ConnectionError("the connection ended")
        taken, self.unread = self.unread[:length], self.unread[length:]
        return taken

    def close(self):
        self.stream.close()


def ask(gateway, target, method="GET", body=None):
    """One complete exchange on its own connection."""
    client = Client(gateway)
    client.send(method, target, body)
    answer = client.answer()
    client.close()
    return answer

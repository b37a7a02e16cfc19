"""The sensor of local ports: connections of the gateway and ports in TIME_WAIT, against the range of a private network namespace."""

import json
import pathlib
import socket
import subprocess
from urllib.parse import urlsplit

import pytest

from conftest import Client, bucket, eventually

SETTINGS = pathlib.Path("/proc/sys/net/ipv4")
FIRST, LAST = 22_000, 22_019
COUNT = LAST - FIRST + 1
OWN_PORTS = iter(range(10_000, 20_000))


@pytest.fixture
def twenty_ports():
    """Leaves twenty local ports, two more that are reserved for others, and no early reuse. The gateway's listeners must be bound before.

    The range has an even number of ports: connect(2) tries the ports of one parity first, and in an odd range it skips one of them."""
    files = {name: SETTINGS / name for name in ["ip_local_port_range", "ip_local_reserved_ports", "tcp_tw_reuse"]}
    before = {name: file.read_text() for name, file in files.items()}

    def narrow():
        files["ip_local_port_range"].write_text(f"{FIRST} {LAST + 2}")
        files["ip_local_reserved_ports"].write_text(f"{LAST + 1}-{LAST + 2}")
        files["tcp_tw_reuse"].write_text("0")

    yield narrow
    for name, file in files.items():
        file.write_text(before[name].strip() or "\n")


class OwnPortClient(Client):
    """A client with a port outside the range, so that it takes none of the gateway's."""

    def __init__(self, gateway):
        self.stream = socket.create_connection(("127.0.0.1", gateway.port), 20, ("127.0.0.1", next(OWN_PORTS)))
        self.unread = b""


def status(gateway):
    """`/status`, requested from a port outside the range."""
    to = urlsplit(gateway.admin)
    with socket.create_connection((to.hostname, to.port), 20, ("127.0.0.1", next(OWN_PORTS))) as stream:
        stream.sendall(b"GET /status HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n\r\n" % to.netloc.encode())
        text = b""
        while piece := stream.recv(1 << 16):
            text += piece
    return json.loads(text.split(b"\r\n\r\n", 1)[1])


def ports(gateway):
    return status(gateway)["resources"]["ephemeral_ports"]


def in_time_wait(port):
    """As the kernel counts them: connections to this port that their client closed first."""
    command = ["ss", "-Htan", "state", "time-wait", "dst", f":{port}"]
    return len(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


def test_ports_in_time_wait_count_against_the_range(start, upstream, twenty_ports):
    """X1, X2: the sensor has as many ports as the kernel, and raises the level to critical and no further."""
    # Without idle connections the gateway closes each connection first.
    gateway = start(bucket("b", upstream.port, **{"connection_pool.max_idle": 0}))
    twenty_ports()
    eventually("the range is read again", lambda: ports(gateway)["limit"] == COUNT)
    assert ports(gateway)["limit_source"] == "/proc/sys/net/ipv4/ip_local_port_range"
    client = OwnPortClient(gateway)

    def requests(count):
        for _ in range(count):
            client.send("GET", "/b/k")
            answer = client.answer()
            assert answer.status == 200, answer

    requests(15)
    eventually("the connections are closed", lambda: in_time_wait(upstream.port) == 15)
    eventually("the sensor has the kernel's count", lambda: ports(gateway)["used"] == 15)
    assert ports(gateway)["subject"] == f"127.0.0.1:{upstream.port}"
    assert status(gateway)["level"] == "normal", "three quarters of the ports are in use"
    requests(3)
    eventually("the level is critical", lambda: status(gateway)["level"] == "critical")
    assert in_time_wait(upstream.port) == 18
    assert status(gateway)["reason"].startswith("ephemeral_ports at 90.0 %"), status(gateway)["reason"]
    requests(2)
    client.send("GET", "/b/k")
    answer = client.answer()
    assert (answer.status, answer.reason) == (503, "out_of_ports"), "the range is used up"
    eventually("all ports are counted", lambda: ports(gateway)["used"] == COUNT)
    assert status(gateway)["level"] == "critical", "other buckets are served"


def test_connections_that_the_store_closes_leave_no_port(start, upstream, twenty_ports):
    """X1: the kernel keeps the port of the side that closes first."""
    def closing(exchange):
        # The end of the body is the end of the connection.
        exchange.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nx")
        raise ConnectionError

    upstream.handle = closing
    gateway = start(bucket("b", upstream.port))
    twenty_ports()
    eventually("the range is read again", lambda: ports(gateway)["limit"] == COUNT)
    client = OwnPortClient(gateway)
    for _ in range(2 * COUNT):
        client.send("GET", "/b/k")
        answer = client.answer()
        assert answer.status == 200, answer
    assert in_time_wait(upstream.port) == 0
    eventually("no port is in use", lambda: ports(gateway)["used"] == 0)

"""The gateway runs out of local ports: it reports its own shortage, and the upstream is not counted as failed."""

import json
import pathlib
import socket
import threading
from urllib.parse import urlsplit

import pytest

from conftest import Client, bucket, eventually, request

PORT_RANGE = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST, LAST = 21_000, 21_009
COUNT = LAST - FIRST + 1


@pytest.fixture
def few_ports():
    """Limits the ephemeral ports of this network to ten. Listeners must exist before."""
    before = PORT_RANGE.read_text()
    yield lambda: PORT_RANGE.write_text(f"{FIRST} {LAST}")
    PORT_RANGE.write_text(before)


@pytest.fixture
def without_ipv6():
    """Removes the IPv6 address of the loopback interface."""
    disable = pathlib.Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
    before = disable.read_text()
    disable.write_text("1")
    yield
    disable.write_text(before)


class OwnPortClient(Client):
    """A client with a port outside the ephemeral range, so that it uses none of the gateway's ports."""

    def __init__(self, gateway, port):
        self.stream = socket.create_connection(("127.0.0.1", gateway.port), 20, ("127.0.0.1", port))
        self.unread = b""


def test_out_of_ports_is_not_a_failure_of_the_upstream(start, upstream, few_ports):
    """X9: with more concurrent requests than local ports, the excess gets 503 out_of_ports, and the circuit stays closed."""
    is_over = threading.Event()

    def held(exchange):
        is_over.wait(20)
        exchange.answer()

    upstream.handle = held
    settings = {"retry.max_attempts": 3, "concurrency.max_concurrent": 40, "connection_pool.size": 40}
    gateway = start(bucket("b", upstream.port, **settings))
    few_ports()
    holding = [OwnPortClient(gateway, 30_000 + at) for at in range(COUNT)]
    for client in holding:
        client.send("GET", "/b/held")
    eventually("all ports are in use", lambda: len(upstream.exchanges) == COUNT)
    # More failures than the threshold of the circuit.
    beyond = [OwnPortClient(gateway, 31_000 + at) for at in range(12)]
    for client in beyond:
        client.send("GET", "/b/beyond")
        answer = client.answer()
        assert (answer.status, answer.reason) == (503, "out_of_ports"), answer
        assert int(answer.headers["retry-after"]) >= 1
    circuit = status_over_own_port(gateway)["buckets"]["b"]["breaker"]["read"]
    assert circuit["state"] == "closed" and circuit["consecutive_failures"] == 0, circuit
    is_over.set()
    for client in holding:
        assert client.answer().status == 200
    for client in beyond:
        client.send("GET", "/b/again")
        assert client.answer().status == 200
    PORT_RANGE.write_text("32768 60999")
    assert gateway.metric('own_shortages_total{cause="out_of_ports"}') == 12
    assert gateway.metric('s3_retry_attempts_total{bucket="b"}') == 0


def status_over_own_port(gateway):
    """Reads `/status` from a port outside the range."""
    to = urlsplit(gateway.admin)
    with socket.create_connection((to.hostname, to.port), 20, ("127.0.0.1", 33_333)) as stream:
        stream.sendall(b"GET /status HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n\r\n" % to.netloc.encode())
        text = b""
        while piece := stream.recv(1 << 16):
            text += piece
    return json.loads(text.split(b"\r\n\r\n", 1)[1])


def test_a_host_without_ipv6_is_not_out_of_ports(start, upstream, without_ipv6):
    """X9: a missing local address has the same error code, but is a connect failure of the upstream."""
    gateway = start(bucket("b", upstream.port, **{"retry.max_attempts": 1}).replace("127.0.0.1", "[::1]"))
    answer = request(gateway, "/b/k")
    assert (answer.status, answer.reason) == (502, "upstream_connect"), answer

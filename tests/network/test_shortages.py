"""The gateway runs out of local ports or of memory for sockets: its own shortage, which is not counted against the store."""

import json
import pathlib
import socket
import sys
import threading
from urllib.parse import urlsplit

import pytest

from causes import has_begun, has_ended
from conftest import Client, ask, bucket, eventually

PORT_RANGE = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST, LAST = 21_000, 21_009
COUNT = LAST - FIRST + 1


@pytest.fixture
def few_ports():
    """Leaves ten local ports for outgoing connections in this network namespace. Listeners must be bound before."""
    before = PORT_RANGE.read_text()
    yield lambda: PORT_RANGE.write_text(f"{FIRST} {LAST}")
    PORT_RANGE.write_text(before)


@pytest.fixture
def without_ipv6():
    """Takes the loopback's IPv6 address away."""
    disable = pathlib.Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
    before = disable.read_text()
    disable.write_text("1")
    yield
    disable.write_text(before)


class OwnPortClient(Client):
    """A client with a port outside the range, so that it takes none of the gateway's."""

    def __init__(self, gateway, port):
        self.stream = socket.create_connection(("127.0.0.1", gateway.port), 20, ("127.0.0.1", port))
        self.unread = b""


def test_out_of_ports_is_not_the_stores_fault(start, upstream, few_ports):
    """X9, X10: with more concurrent requests than local ports the excess gets 503 out_of_ports, and the circuit stays
    closed. The shortage is a cause with its refusals, and ends ten seconds after the last failed call."""
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
    # More failures than open a circuit.
    beyond = [OwnPortClient(gateway, 31_000 + at) for at in range(12)]
    for client in beyond:
        client.send("GET", "/b/beyond")
        answer = client.answer()
        assert (answer.status, answer.reason) == (503, "out_of_ports"), answer
        assert int(answer.headers["retry-after"]) >= 1
    cause = has_begun(gateway, "out_of_ports")
    assert cause["measured"] == {"value": 12, "unit": "failed calls"}, cause
    assert "no local port left" in cause["message"] and "ip_local_port_range" in cause["message"], cause
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
    assert has_ended(gateway, "out_of_ports")["cause"]["effect"]["refused"] == 12


def test_out_of_memory_is_not_the_stores_fault(start, upstream):
    """X9, X10: without kernel memory for a socket requests get 503 out_of_memory, and the circuit stays closed; other upstreams
    are called. The shortage is a cause with its refusals, and ends ten seconds after the last failed call."""
    starved = bucket("b", upstream.port).replace("127.0.0.1", "[::1]")
    launcher = [sys.executable, pathlib.Path(__file__).with_name("errno_launcher.py")]
    gateway = start(starved, bucket("c", upstream.port), launcher=launcher)
    for _ in range(8):
        answer = ask(gateway, "/b/k")
        assert (answer.status, answer.reason) == (503, "out_of_memory"), answer
        assert int(answer.headers["retry-after"]) >= 1
    assert ask(gateway, "/c/k").status == 200
    cause = has_begun(gateway, "out_of_memory")
    assert cause["measured"] == {"value": 8, "unit": "failed calls"}, cause
    assert cause["threshold"] == {"value": 1, "unit": "failed calls"}, cause
    assert "no memory left" in cause["message"] and "raise the memory limit" in cause["message"], cause
    status = gateway.status()
    assert status["status"] == "critical"
    circuit = status["buckets"]["b"]["breaker"]["read"]
    assert circuit["state"] == "closed" and circuit["consecutive_failures"] == 0, circuit
    assert gateway.metric('own_shortages_total{cause="out_of_memory"}') == 8
    assert has_ended(gateway, "out_of_memory")["cause"]["effect"]["refused"] == 8
    assert gateway.status()["status"] == "ok"


def status_over_own_port(gateway):
    """`/status`, requested from a port outside the range."""
    to = urlsplit(gateway.admin)
    with socket.create_connection((to.hostname, to.port), 20, ("127.0.0.1", 33_333)) as stream:
        stream.sendall(b"GET /status HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n\r\n" % to.netloc.encode())
        text = b""
        while piece := stream.recv(1 << 16):
            text += piece
    return json.loads(text.split(b"\r\n\r\n", 1)[1])


def test_a_host_without_ipv6_is_not_out_of_ports(start, upstream, without_ipv6):
    """X9: a missing local address has the same errno, and is reported as an unreachable upstream."""
    gateway = start(bucket("b", upstream.port, **{"retry.max_attempts": 1}).replace("127.0.0.1", "[::1]"))
    answer = ask(gateway, "/b/k")
    assert (answer.status, answer.reason) == (502, "upstream_connect"), answer

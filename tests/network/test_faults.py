"""Network faults injected by the kernel on either side of the gateway: dropped packets, resets, packet loss."""

import hashlib
import threading
import time

from conftest import Client, bucket, eventually, request

BIG = bytes(range(256)) * 16_384
ONCE = {"retry.max_attempts": 1}


def noise(count):
    return hashlib.shake_256(b"seed").digest(count)


def slow_answer(exchange, framing, pieces=200, pause=0.02):
    """A slow answer of a megabyte, in either framing."""
    piece = b"x" * 5000
    chunked = framing == "chunked"
    length = "transfer-encoding: chunked" if chunked else f"content-length: {pieces * len(piece)}"
    exchange.send(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n")
    for _ in range(pieces):
        exchange.send(b"1388\r\n" + piece + b"\r\n" if chunked else piece)
        time.sleep(pause)
    if chunked:
        exchange.send("0\r\n\r\n")


def start_download(client):
    """Starts a download and reads its first bytes."""
    client.send("GET", "/b/k")
    assert client.head().status == 200
    while len(client.unread) < 20_000:
        assert client.fill()


def rest_of(client):
    """All bytes until the connection ends, by a close or a reset."""
    try:
        while client.fill():
            pass
    except ConnectionResetError:
        pass
    return client.unread


def check_broken_download(firewall, upstream, gateway, framing, rule, reason):
    """A firewall rule hits a download: the transfer breaks, is released, and is counted with its reason."""
    upstream.handle = lambda exchange: slow_answer(exchange, framing)
    client = Client(gateway)
    start_download(client)
    firewall.rule(rule)
    received = rest_of(client)
    assert len(received) < 1_000_000 and not received.endswith(b"0\r\n\r\n"), framing
    eventually("everything is released", gateway.is_idle)
    assert gateway.metric(f'errors_total{{bucket="b",reason="{reason}"}}') == 1
    firewall.clear()


def test_a_download_with_dropped_packets_is_broken(firewall, upstream, start):
    """T2, T3, T6, M5: a black hole during an answer ends by the idle timeout, and the answer is recognisably incomplete."""
    for framing in ("length", "chunked"):
        gateway = start(bucket("b", upstream.port, idle_timeout=1))
        check_broken_download(firewall, upstream, gateway, framing, f"tcp sport {upstream.port} drop", "timeout_idle")


def test_an_answer_that_never_arrives_is_504(firewall, upstream, start):
    """T2, T3: the request arrives, the answer is dropped: 504 by the first-byte timeout, and the connection is closed."""

    def drop_answer(exchange):
        firewall.rule(f"tcp sport {upstream.port} drop")
        exchange.answer()

    upstream.handle = drop_answer
    gateway = start(bucket("b", upstream.port, timeout=0.5, **ONCE))
    answer = request(gateway, "/b/k")
    assert (answer.status, answer.reason, answer.is_complete) == (504, "timeout_first_byte", True)
    firewall.clear()
    upstream.handle = lambda exchange: exchange.answer()
    assert request(gateway, "/b/k").status == 200
    assert upstream.exchanges[0].port != upstream.exchanges[-1].port
    eventually("everything is released", gateway.is_idle)


def test_a_reset_in_mid_answer_is_a_broken_transfer(firewall, upstream, start):
    """T6, M5: a firewall resets the upstream's connection: the client gets a broken transfer, in either framing."""
    for framing in ("length", "chunked"):
        gateway = start(bucket("b", upstream.port))
        rule = f"tcp dport {upstream.port} reject with tcp reset"
        check_broken_download(firewall, upstream, gateway, framing, rule, "broken_answer")


def test_a_reset_of_an_idle_connection_is_retried(firewall, upstream, start):
    """R1, R3: a firewall has dropped the state of the idle connection and resets it: the request is sent again on a new one."""
    gateway = start("[server]\nworkers = 1\n", bucket("b", upstream.port))
    assert request(gateway, "/b/k").status == 200
    kept = upstream.exchanges[0].port
    firewall.rule(f"tcp sport {kept} tcp dport {upstream.port} reject with tcp reset")
    answer = request(gateway, "/b/k")
    assert (answer.status, answer.body) == (200, b"x")
    assert upstream.exchanges[-1].port != kept


def test_a_refused_connection_is_502(firewall, upstream, start):
    """T2, B3: a port that a firewall rejects: 502 immediately, and the circuit counts the failure."""
    gateway = start(bucket("b", upstream.port, **ONCE, **{"circuit_breaker.failure_threshold": 3}))
    firewall.rule(f"tcp dport {upstream.port} reject with tcp reset")
    for _ in range(3):
        answer = request(gateway, "/b/k")
        assert (answer.status, answer.reason) == (502, "upstream_connect")
    eventually("the circuit is open", lambda: request(gateway, "/b/k").reason == "breaker_open")


def test_dropped_connection_attempts_open_the_circuit_of_one_bucket(firewall, upstream, start):
    """T2, B1, B2: dropped SYNs are 504 after the connect timeout; the circuit of this bucket alone opens, and closes again."""
    other = type(upstream)(lambda exchange: exchange.answer(b"other"))
    breaker = {"circuit_breaker.failure_threshold": 2, "circuit_breaker.timeout_seconds": 2}
    gateway = start(
        bucket("b", upstream.port, connect_timeout=0.4, **ONCE, **breaker), bucket("other", other.port)
    )
    firewall.rule(f"tcp dport {upstream.port} drop")
    for _ in range(2):
        began = time.monotonic()
        answer = request(gateway, "/b/k")
        assert (answer.status, answer.reason) == (504, "timeout_connect")
        assert time.monotonic() - began >= 0.4
        assert request(gateway, "/other/k").body == b"other"
    assert gateway.metric('errors_total{bucket="b",reason="upstream_connect_attempt"}') == 2
    eventually("the circuit is open", lambda: request(gateway, "/b/k").reason == "breaker_open")
    assert upstream.exchanges == []
    firewall.clear()
    eventually("the circuit closes", lambda: request(gateway, "/b/k").status == 200)
    other.close()


def test_an_unreachable_endpoint_is_ejected(firewall, upstream, start):
    """P5, R1: packets to one of two endpoints are dropped, also on idle connections: no client gets an error."""
    second = type(upstream)(lambda exchange: exchange.answer(b"second"))
    both = bucket("b", upstream.port, connect_timeout=0.3, timeout=0.5).replace(
        f'["http://127.0.0.1:{upstream.port}"]', f'["http://127.0.0.1:{upstream.port}", "http://127.0.0.1:{second.port}"]'
    )
    gateway = start(both)
    for _ in range(30):
        assert request(gateway, "/b/k").status == 200
    assert upstream.exchanges and second.exchanges
    firewall.rule(f"tcp dport {upstream.port} drop")
    answers = [request(gateway, "/b/k") for _ in range(40)]
    assert [answer.status for answer in answers] == [200] * 40
    states = [end["state"] for end in gateway.status()["buckets"]["b"]["pool"]["endpoints"]]
    assert sorted(states)[0] != "in_rotation" or sorted(states)[1] != "in_rotation", states
    second.close()


def test_bodies_are_complete_in_spite_of_packet_loss(firewall, upstream, start):
    """T6, M5: random loss of packets between gateway and upstream, and between client and gateway, loses no byte."""
    body = noise(1 << 20)

    def serve(exchange):
        exchange.answer(exchange.body() if exchange.method == "PUT" else body)

    upstream.handle = serve
    gateway = start(bucket("b", upstream.port, **ONCE))
    for side in (upstream.port, gateway.port):
        for direction in ("dport", "sport"):
            firewall.rule(f"tcp {direction} {side} numgen random mod 100 < 3 drop")
    for method, sent in (("GET", None), ("PUT", body)):
        answer = request(gateway, "/b/k", method, sent)
        assert answer.is_complete and answer.status == 200
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest(), method


def test_a_download_of_a_vanished_client_is_released(firewall, upstream, start):
    """T4, T7: the packets of a client are dropped: its connection and that of the upstream close after the write stall."""
    upstream.handle = lambda exchange: exchange.answer(BIG)
    gateway = start("[server]\nwrite_stall_timeout = 1\n", bucket("b", upstream.port))
    client = Client(gateway, receive_buffer=4096)
    client.send("GET", "/b/k")
    assert client.head().status == 200
    firewall.rule(f"tcp sport {client.port} drop")
    firewall.rule(f"tcp dport {client.port} drop")
    eventually("everything is released", gateway.is_idle)
    eventually("the upstream connection is closed", lambda: not upstream.open)
    # The kernel's timeout for unacknowledged packets is the same, so either may end the transfer.
    ends = [gateway.metric(f'errors_total{{bucket="b",reason="{end}"}}') for end in ("client_gone", "write_stall")]
    assert sum(ends) == 1, ends


def test_an_upload_of_a_vanished_client_is_released(firewall, upstream, start):
    """T4, T7: an upload with dropped packets ends, and the store does not take the incomplete body for a complete one."""
    bodies = []

    def serve(exchange):
        bodies.append(exchange.body())
        exchange.answer()

    upstream.handle = serve
    gateway = start("[server]\nkeep_alive = 1\n", bucket("b", upstream.port, idle_timeout=1))
    client = Client(gateway)
    client.stream.sendall(b"PUT /b/k HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 300_000)
    eventually("it began", lambda: upstream.exchanges)
    firewall.rule(f"tcp sport {client.port} drop")
    firewall.rule(f"tcp dport {client.port} drop")
    eventually("everything is released", gateway.is_idle)
    eventually("the upstream connection is closed", lambda: not upstream.open)
    assert bodies == []


def test_many_black_holes_do_not_affect_another_bucket(firewall, upstream, start):
    """B2, P3, M5: packets of an upstream with forty requests are dropped; another bucket is served meanwhile, and all end."""
    other = type(upstream)(lambda exchange: exchange.answer(b"other"))
    upstream.handle = lambda exchange: slow_answer(exchange, "length")
    gateway = start(bucket("b", upstream.port, idle_timeout=1), bucket("other", other.port))
    begun, ended = [], []

    def download():
        client = Client(gateway)
        start_download(client)
        begun.append(client)
        ended.append(len(rest_of(client)))

    threads = [threading.Thread(target=download) for _ in range(40)]
    for thread in threads:
        thread.start()
    eventually("all have begun", lambda: len(begun) == 40)
    firewall.rule(f"tcp sport {upstream.port} drop")
    for _ in range(20):
        assert request(gateway, "/other/k").body == b"other"
    for thread in threads:
        thread.join()
    assert len(ended) == 40 and max(ended) < 1_000_000
    eventually("everything is released", gateway.is_idle)
    other.close()

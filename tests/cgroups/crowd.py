"""Thousands of clients in one thread: slow downloads, slow uploads, idle connections.

In each tick each client sends and reads at most the bytes that its rate allows. The receive buffer is set before the
connect, so that the window is small from the start.
"""

import collections
import contextlib
import re
import socket
import threading
import time

TICK_SECONDS = 0.1
HEAD_LIMIT_BYTES = 1 << 16
STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
REASON = re.compile(rb"\r\nx-tidegate-reason: *(\S+)", re.IGNORECASE)


class Member:
    """One connection with one request."""

    def __init__(self, port, request, body_bytes, rate, receive_buffer, send_buffer, source=None):
        self.request = request
        self.to_send = body_bytes
        self.rate = rate
        self.head = b""
        self.status = None
        self.reason = None
        self.expected = None
        self.received = 0
        self.sent = 0
        #: `open`, `complete` or `broken` (the connection ended before the body was complete).
        self.state = "open"
        self.stream = socket.socket()
        if source:
            self.stream.bind((source, 0))
        if receive_buffer:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if send_buffer:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.stream.settimeout(10)
        try:
            self.stream.connect(("127.0.0.1", port))
            self.stream.setblocking(False)
        except OSError:
            self.end("broken")

    def end(self, state):
        self.state = state
        if state == "broken":
            self.stream.close()

    def advance(self, quota):
        try:
            self._send(quota)
            self._receive(quota)
        except BlockingIOError:
            pass
        except OSError:
            self.end("broken")

    def _send(self, quota):
        with contextlib.suppress(BlockingIOError):
            if self.request:
                self.request = self.request[self.stream.send(self.request) :]
            elif self.to_send and self.status is None:
                count = self.stream.send(b"x" * min(quota, self.to_send))
                self.to_send -= count
                self.sent += count

    def _receive(self, quota):
        piece = self.stream.recv(max(quota, 512) if self.expected is None else quota)
        if not piece:
            return self.end("broken")
        if self.expected is not None:
            self.received += len(piece)
        else:
            self._head(piece)
        if self.expected is not None and self.received >= self.expected:
            self.end("complete")

    def _head(self, piece):
        self.head += piece
        if b"\r\n\r\n" not in self.head:
            assert len(self.head) < HEAD_LIMIT_BYTES
            return
        head, rest = self.head.split(b"\r\n\r\n", 1)
        self.head = head
        self.status = int(STATUS.match(head)[1])
        reason, length = REASON.search(head), LENGTH.search(head)
        self.reason = reason[1].decode() if reason else None
        self.expected = int(length[1]) if length else 0
        self.received = len(rest)


class Crowd:
    """Runs its clients until it is closed."""

    def __init__(self, gateway_port):
        self.port = gateway_port
        self.members = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def downloads(self, count, target, bytes_per_second=1000, receive_buffer=4096, source=None):
        request = f"GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"
        return self._add(count, request, 0, bytes_per_second, receive_buffer, None, source)

    def uploads(self, count, target, body_bytes, bytes_per_second=1000, send_buffer=4096):
        head = f"PUT {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {body_bytes}\r\n\r\n"
        return self._add(count, head, body_bytes, bytes_per_second, None, send_buffer)

    def idle(self, count, target):
        """Connections that stay open after one request."""
        return self._add(count, f"GET {target} HTTP/1.1\r\nhost: a\r\n\r\n", 0, 1 << 20, None, None)

    def _add(self, count, head, body_bytes, rate, receive_buffer, send_buffer, source=None):
        added = []
        for _ in range(count):
            member = Member(self.port, head.encode(), body_bytes, rate, receive_buffer, send_buffer, source)
            added.append(member)
            with self._lock:
                self.members.append(member)
        return added

    def _run(self):
        last = time.monotonic()
        while not self._closing.wait(TICK_SECONDS):
            now = time.monotonic()
            elapsed, last = now - last, now
            with self._lock:
                busy = [member for member in self.members if member.state == "open"]
            for member in busy:
                member.advance(max(1, int(member.rate * elapsed)))

    def close(self):
        """Closes all connections."""
        self._closing.set()
        self._thread.join()
        for member in self.members:
            member.stream.close()


def answered(members):
    """The number of members with a response head or a broken connection."""
    return sum(member.status is not None or member.state == "broken" for member in members)


def outcomes(members):
    """Counts by status and reason; `None` for no answer yet."""
    return collections.Counter((member.status, member.reason) for member in members)


def cut(members):
    """Members with a broken answer."""
    return [member for member in members if member.status == 200 and member.state == "broken"]

"""An object store in a separate process: objects of any size at full speed, from one thread with epoll and sendfile.

The key determines the answer: `/bucket/SIZE`, `/bucket/SIZE-anything`, or `/bucket/SIZE-at-RATE` for RATE bytes per second.
The body of a PUT is read at full speed, or at the rate in its key. `Upstream` starts and freezes the process.
"""

import contextlib
import json
import os
import pathlib
import re
import selectors
import signal
import socket
import subprocess
import sys
import time

PLAN = re.compile(rb"/(\d+)[^/?]*?(?:-at-(\d+))?(?:\?[^/]*)?$")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CONTENT_BYTES = 1 << 20
SEND_BUFFER_BYTES = 64 << 10
TICK_SECONDS = 0.05


class Connection:
    def __init__(self, stream):
        self.stream = stream
        self.unread = b""
        self.head = b""
        self.to_send = 0
        self.to_read = 0
        self.offset = 0
        self.rate = None
        self.allowed = 0

    def is_busy(self):
        return bool(self.head or self.to_send or self.to_read)


class Server:
    def __init__(self):
        self.content = os.memfd_create("content")
        os.write(self.content, b"x" * CONTENT_BYTES)
        self.selector = selectors.EpollSelector()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.paced = set()

    def run(self):
        print(json.dumps({"port": self.listener.getsockname()[1]}), flush=True)
        last = time.monotonic()
        while True:
            for key, _ in self.selector.select(TICK_SECONDS if self.paced else 1):
                if key.data is None:
                    self.accept()
                elif key.data.rate is None:
                    self.serve(key.data)
            now = time.monotonic()
            if self.paced and now - last >= TICK_SECONDS:
                for connection in list(self.paced):
                    connection.allowed = int(connection.rate * (now - last))
                    self.serve(connection)
            if now - last >= TICK_SECONDS:
                last = now

    def accept(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                stream, _ = self.listener.accept()
                stream.setblocking(False)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.selector.register(stream, selectors.EVENT_READ, Connection(stream))

    def serve(self, connection):
        try:
            self.advance(connection)
        except BlockingIOError:
            pass
        except OSError:
            return self.close(connection)
        self.watch(connection)

    def watch(self, connection):
        """Connections with a rate are served by ticks instead of events."""
        paced = connection.rate is not None
        (self.paced.add if paced else self.paced.discard)(connection)
        sends = connection.to_read == 0 and (connection.head or connection.to_send)
        events = selectors.EVENT_WRITE if sends else selectors.EVENT_READ
        registered = connection.stream.fileno() in self.selector.get_map()
        if paced and registered:
            self.selector.unregister(connection.stream)
        elif not paced and not registered:
            self.selector.register(connection.stream, events, connection)
        elif not paced and self.selector.get_key(connection.stream).events != events:
            self.selector.modify(connection.stream, events, connection)

    def advance(self, connection):
        if not connection.is_busy():
            self.read_head(connection)
        if connection.to_read:
            self.read_body(connection)
        elif connection.head:
            sent = connection.stream.send(connection.head, socket.MSG_MORE if connection.to_send else 0)
            connection.head = connection.head[sent:]
        if not connection.to_read and not connection.head and connection.to_send:
            self.send_body(connection)
        if not connection.is_busy():
            connection.rate = None

    def read_head(self, connection):
        piece = connection.stream.recv(1 << 16)
        if not piece:
            raise ConnectionError("the peer closed")
        connection.unread += piece
        if b"\r\n\r\n" not in connection.unread:
            return
        head, connection.unread = connection.unread.split(b"\r\n\r\n", 1)
        method, target = head.split(b" ", 2)[:2]
        plan, length = PLAN.search(target), LENGTH.search(head)
        size = int(plan[1]) if plan else 1
        connection.rate = int(plan[2]) if plan and plan[2] else None
        connection.allowed = 0
        connection.offset = 0
        connection.to_send = size if method == b"GET" else 0
        connection.to_read = max(0, int(length[1] if length else 0) - len(connection.unread))
        connection.unread = b""
        shown = size if method in (b"GET", b"HEAD") else 0
        connection.head = b'HTTP/1.1 200 OK\r\netag: "x"\r\ncontent-length: %d\r\n\r\n' % shown

    def read_body(self, connection):
        wanted = min(connection.to_read, 1 << 18)
        if connection.rate is not None:
            wanted = min(wanted, connection.allowed)
        if not wanted:
            return
        piece = connection.stream.recv(wanted)
        if not piece:
            raise ConnectionError("the peer closed")
        connection.allowed -= len(piece)
        connection.to_read -= len(piece)

    def send_body(self, connection):
        wanted = min(connection.to_send, CONTENT_BYTES - connection.offset)
        if connection.rate is not None:
            wanted = min(wanted, connection.allowed)
        if not wanted:
            return
        sent = os.sendfile(connection.stream.fileno(), self.content, connection.offset, wanted)
        connection.allowed -= sent
        connection.to_send -= sent
        connection.offset = (connection.offset + sent) % CONTENT_BYTES

    def close(self, connection):
        self.paced.discard(connection)
        with contextlib.suppress(KeyError):
            self.selector.unregister(connection.stream)
        connection.stream.close()


class Upstream:
    """Starts the store. Its connections stay open while it is frozen."""

    def __init__(self):
        # A frozen process cannot detect the end of its parent.
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, str(pathlib.Path(__file__).resolve())]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.port = json.loads(self.process.stdout.readline())["port"]

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


if __name__ == "__main__":
    Server().run()

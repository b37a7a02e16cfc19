"""An upstream with one thread per connection. Tests write its answers byte by byte."""

import contextlib
import socket
import threading


class Exchange:
    """A request and its connection."""

    def __init__(self, stream, peer, head):
        self.stream = stream
        #: The gateway's local port of this connection.
        self.port = peer[1]
        self.method, self.target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        self.head = head

    def send(self, text):
        self.stream.sendall(text if isinstance(text, bytes) else text.encode())

    def answer(self, body=b"x", status=200):
        self.send(b"HTTP/1.1 %d Status\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body)

    def body(self):
        """Reads the body that the head of the request announces."""
        length = 0
        for line in self.head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = b""
        while len(body) < length:
            piece = self.stream.recv(1 << 16)
            if not piece:
                raise ConnectionError("the body ended early")
            body += piece
        return body


class Upstream:
    """Calls `handle` with each exchange. A test may replace `handle`."""

    def __init__(self, handle):
        self.handle = handle
        self.exchanges = []
        self.open = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                stream, peer = self._listener.accept()
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(stream, peer), daemon=True).start()

    def _serve(self, stream, peer):
        self.open.add(peer[1])
        with stream, contextlib.suppress(OSError):
            while True:
                # Reads no byte beyond the head: `Exchange.body` reads the body.
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    byte = stream.recv(1)
                    if not byte:
                        break
                    head += byte
                if not head:
                    break
                exchange = Exchange(stream, peer, head)
                self.exchanges.append(exchange)
                self.handle(exchange)
        self.open.discard(peer[1])

    def close(self):
        # A close alone would leave the accepting thread blocked, and so the socket open.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

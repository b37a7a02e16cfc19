"""An S3 store that keeps only the length of its objects, for tests with objects beyond memory and disk.

It accepts multipart uploads and writes its address to its standard output as a line of JSON. `GET /taken` returns the
data bytes so far, without the framing of `aws-chunked` bodies, which it reads to their end.
"""

import http.server
import json
import re
import threading

PIECE_BYTES = 1 << 18


class Store(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken = 0
        self.lock = threading.Lock()

    def take(self, count):
        with self.lock:
            self.taken += count


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body of an answer in one packet; otherwise each waits for the other's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def drain(self, count):
        piece = memoryview(bytearray(PIECE_BYTES))
        while count:
            got = self.rfile.readinto1(piece[: min(count, PIECE_BYTES)])
            if not got:
                raise ConnectionError("the body is cut short")
            count -= got

    def chunks(self):
        taken = 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            self.drain(size)
            assert self.rfile.readline() == b"\r\n"
            taken += size
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        return taken

    def body(self):
        if self.headers["x-amz-decoded-content-length"]:
            taken = self.chunks()
            assert taken == int(self.headers["x-amz-decoded-content-length"])
        else:
            taken = int(self.headers["content-length"] or 0)
            self.drain(taken)
        return taken

    def answer(self, text, headers=()):
        body = text.encode()
        self.send_response(200)
        for name, value in [*headers, ("content-length", len(body)), ("content-type", "application/xml")]:
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        self.server.take(self.body())
        self.answer("", [("etag", '"0123456789abcdef0123456789abcdef"')])

    def do_POST(self):
        self.drain(int(self.headers["content-length"] or 0))
        key = re.sub(r"\?.*", "", self.path).rpartition("/")[2]
        if "uploads" in self.path:
            kind, more = "InitiateMultipartUploadResult", "<UploadId>one</UploadId>"
        else:
            kind, more = "CompleteMultipartUploadResult", "<ETag>&quot;0&quot;</ETag>"
        self.answer(f"<{kind}><Bucket>sink</Bucket><Key>{key}</Key>{more}</{kind}>")

    def do_GET(self):
        self.answer(str(self.server.taken))


if __name__ == "__main__":
    store = Store()
    print(json.dumps({"address": f"127.0.0.1:{store.server_address[1]}"}), flush=True)
    store.serve_forever()

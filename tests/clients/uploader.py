"""A client that uploads parts in chunks, as SDKs do, several parts at a time and each in its own process.

python uploader.py FORM ENDPOINT KEY SECRET PARTS PART_BYTES CHUNK_BYTES AT_A_TIME

FORM is `signed` (STREAMING-AWS4-HMAC-SHA256-PAYLOAD) or `trailer` (STREAMING-UNSIGNED-PAYLOAD-TRAILER with a CRC32).
All parts have the same data, and their hashes are computed once: the client must cost less CPU than the measured
gateway.
"""

import base64
import binascii
import concurrent.futures
import datetime
import hashlib
import hmac
import os
import socket
import sys

EMPTY = hashlib.sha256().hexdigest()


class Signer:
    def __init__(self, key, secret):
        self.now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        self.scope = f"{self.now[:8]}/us-east-1/s3/aws4_request"
        self.key = key
        self.secret = f"AWS4{secret}".encode()
        for part in self.scope.split("/"):
            self.secret = hmac.digest(self.secret, part.encode(), "sha256")

    def sign(self, *lines):
        return hmac.digest(self.secret, "\n".join(lines).encode(), "sha256").hex()

    def request(self, path, query, headers):
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        text = f"PUT\n{path}\n{query}\n{lines}\n{names}\n{headers['x-amz-content-sha256']}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        signature = self.sign("AWS4-HMAC-SHA256", self.now, self.scope, digest)
        credential = f"AWS4-HMAC-SHA256 Credential={self.key}/{self.scope}"
        return signature, f"{credential}, SignedHeaders={names}, Signature={signature}"

    def chunk(self, previous, digest):
        return self.sign("AWS4-HMAC-SHA256-PAYLOAD", self.now, self.scope, previous, EMPTY, digest)


def pieces(form, data, count, signer, signature):
    """The pieces of the body, its end included; each chunk has the same data."""
    if form == "signed":
        digest = hashlib.sha256(data).hexdigest()
        for _ in range(count):
            signature = signer.chunk(signature, digest)
            yield b"%x;chunk-signature=%s\r\n" % (len(data), signature.encode())
            yield data
            yield b"\r\n"
        yield b"0;chunk-signature=%s\r\n\r\n" % signer.chunk(signature, EMPTY).encode()
        return
    checksum = 0
    for _ in range(count):
        checksum = binascii.crc32(data, checksum)
        yield b"%x\r\n" % len(data)
        yield data
        yield b"\r\n"
    yield b"0\r\nx-amz-checksum-crc32:%s\r\n\r\n" % base64.b64encode(checksum.to_bytes(4, "big"))


def put(form, place, key, secret, number, part_bytes, chunk_bytes):
    signer, data = Signer(key, secret), os.urandom(chunk_bytes)
    path, query = "/sink/big", f"partNumber={number}&uploadId=one"
    headers = {
        "host": place,
        "x-amz-date": signer.now,
        "x-amz-decoded-content-length": str(part_bytes),
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "content-encoding": "aws-chunked",
    }
    if form == "trailer":
        headers["x-amz-content-sha256"] = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    signature, authorization = signer.request(path, query, headers)
    count = part_bytes // chunk_bytes
    around = len(b"%x\r\n\r\n" % chunk_bytes) + (81 if form == "signed" else 0)
    end = len(b"0\r\n\r\n") + (81 if form == "signed" else len("x-amz-checksum-crc32:AAAAAA==\r\n"))
    headers |= {"authorization": authorization, "content-length": str(count * (chunk_bytes + around) + end)}
    head = f"PUT {path}?{query} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    host, port = place.split(":")
    with socket.create_connection((host, int(port)), timeout=600) as connection:
        connection.sendall(head.encode() + b"\r\n")
        for piece in pieces(form, data, count, signer, signature):
            connection.sendall(piece)
        answer = connection.recv(1 << 16)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"part {number}: {answer.decode(errors='replace')}")


def main(form, place, key, secret, parts, part_bytes, chunk_bytes, at_a_time):
    with concurrent.futures.ProcessPoolExecutor(int(at_a_time)) as pool:
        under_way = [
            pool.submit(put, form, place, key, secret, number + 1, int(part_bytes), int(chunk_bytes))
            for number in range(int(parts))
        ]
        for done in under_way:
            done.result()


if __name__ == "__main__":
    main(*sys.argv[1:])

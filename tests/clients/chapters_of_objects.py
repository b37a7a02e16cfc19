"""Chapters of the comparison of gateway and store about objects: each sends its requests through one conversation."""

import base64
import binascii

from conversation import md5


def objects(talk):
    """Put, head, get, delete: with and without content, and their headers."""
    given = [
        ("Content-Type", "text/x-suite; charset=utf-8"),
        ("Cache-Control", "max-age=60, no-transform"),
        ("Content-Disposition", 'attachment; filename="a b.txt"'),
        ("Content-Encoding", "gzip"),
        ("Content-Language", "de, en"),
        ("Expires", "Thu, 01 Dec 2033 16:00:00 GMT"),
        ("x-amz-meta-colour", "dark  blue"),
        ("x-amz-meta-empty", ""),
        ("x-amz-storage-class", "STANDARD"),
    ]
    talk.ask("PUT", "/o", headers=given, body=b"0123456789")
    for method in ("HEAD", "GET"):
        talk.ask(method, "/o")
        talk.ask(method, "/o", headers=[("Accept-Encoding", "gzip, br")])
    talk.ask("PUT", "/empty")
    talk.ask("HEAD", "/empty")
    talk.ask("GET", "/empty")
    talk.ask("PUT", "/big", body=bytes(range(256)) * 4096)
    talk.ask("HEAD", "/big")
    talk.ask("GET", "/big")
    talk.ask("PUT", "/o", body=b"replaced")
    talk.ask("GET", "/o")
    for method in ("DELETE", "DELETE", "HEAD", "GET"):
        talk.ask(method, "/o")


def ranges(talk):
    """I2: single, open, suffix, beyond the end, several, and invalid ranges."""
    talk.ask("PUT", "/o", body=b"0123456789" * 1000)
    talk.ask("PUT", "/empty")
    asked = ["0-", "0-0", "2-4", "9999-", "-5", "-0", "-20000", "5000-20000", "10000-", "20000-30000", "4-2"]
    asked += ["0-1,4-5", "0-1, -1", "x-y", "", "0-1,"]
    for wanted in asked:
        talk.ask("GET", "/o", headers=[("Range", f"bytes={wanted}")])
        talk.ask("HEAD", "/o", headers=[("Range", f"bytes={wanted}")])
    talk.ask("GET", "/o", headers=[("Range", "lines=1-2")])
    talk.ask("GET", "/o", headers=[("Range", "BYTES=1-2")])
    for wanted in ["0-", "-1", "0-0"]:
        talk.ask("GET", "/empty", headers=[("Range", f"bytes={wanted}")])
    etag = talk.ask("HEAD", "/o").header("etag")
    talk.ask("GET", "/o", headers=[("Range", "bytes=1-2"), ("If-Range", etag)])
    talk.ask("GET", "/o", headers=[("Range", "bytes=1-2"), ("If-Range", '"other"')])


def conditions(talk):
    """I2: If-Match, If-None-Match, dates, on reading and on writing."""
    etag = talk.ask("PUT", "/o", body=b"x").header("etag")
    past, future = "Sat, 01 Jan 2000 00:00:00 GMT", "Fri, 01 Jan 2038 00:00:00 GMT"
    for method in ("GET", "HEAD"):
        for name, value in [
            ("If-Match", etag),
            ("If-Match", etag.strip('"')),
            ("If-Match", '"other"'),
            ("If-Match", "*"),
            ("If-None-Match", etag),
            ("If-None-Match", '"other"'),
            ("If-None-Match", "*"),
            ("If-Modified-Since", past),
            ("If-Modified-Since", future),
            ("If-Unmodified-Since", past),
            ("If-Unmodified-Since", future),
            ("If-Modified-Since", "yesterday"),
        ]:
            talk.ask(method, "/o", headers=[(name, value)])
        talk.ask(method, "/o", headers=[("If-Match", etag), ("If-Unmodified-Since", past)])
        talk.ask(method, "/o", headers=[("If-None-Match", '"other"'), ("If-Modified-Since", future)])
    talk.ask("PUT", "/o", headers=[("If-None-Match", "*")], body=b"y")
    talk.ask("PUT", "/new", headers=[("If-None-Match", "*")], body=b"y")
    talk.ask("PUT", "/o", headers=[("If-Match", '"other"')], body=b"y")
    talk.ask("PUT", "/o", headers=[("If-Match", etag)], body=b"z")
    talk.ask("GET", "/o")


def integrity(talk):
    """I1: a correct, a wrong and a malformed Content-MD5."""
    body = b"0123456789"
    for size in (1, 10_000):
        talk.ask("PUT", "/o", headers=[("Content-MD5", md5(body * size))], body=body * size)
        talk.ask("PUT", "/o", headers=[("Content-MD5", md5(b"other"))], body=body * size, own=True)
        talk.ask("GET", "/o")
    talk.ask("PUT", "/o", headers=[("Content-MD5", "not base64")], body=body, own=True)
    talk.ask("PUT", "/o", headers=[("x-amz-checksum-crc32", base64.b64encode(binascii.crc32(body).to_bytes(4)).decode())], body=body)
    talk.ask("HEAD", "/o", headers=[("x-amz-checksum-mode", "ENABLED")])


def copies(talk):
    """V5: within the bucket, with new metadata, under conditions, of a missing source."""
    etag = talk.ask("PUT", "/from%20%2B", headers=[("x-amz-meta-a", "1")], body=b"copied").header("etag")
    source = ("x-amz-copy-source", "/BUCKET/from%20%2B")
    talk.ask("PUT", "/to", headers=[source])
    talk.ask("GET", "/to")
    talk.ask("PUT", "/to", headers=[("x-amz-copy-source", "BUCKET/from%20%2B")])
    replaced = [source, ("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-b", "2"), ("Content-Type", "text/x")]
    talk.ask("PUT", "/to2", headers=replaced)
    talk.ask("HEAD", "/to2")
    for name, value in [
        ("x-amz-copy-source-if-match", etag),
        ("x-amz-copy-source-if-match", '"other"'),
        ("x-amz-copy-source-if-none-match", etag),
        ("x-amz-copy-source-if-unmodified-since", "Sat, 01 Jan 2000 00:00:00 GMT"),
        ("x-amz-copy-source-if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT"),
    ]:
        talk.ask("PUT", "/to3", headers=[source, (name, value)])
    talk.ask("PUT", "/from%20%2B", headers=[source])
    talk.ask("PUT", "/to4", headers=[("x-amz-copy-source", "/BUCKET/none")])
    talk.ask("PUT", "/to4", headers=[("x-amz-copy-source", "/no-such-bucket-at-all/none")])
    talk.ask("PUT", "/to4", headers=[("x-amz-metadata-directive", "NONSENSE"), source])


def keys(talk):
    """V5: keys with bytes that proxies often change, in the path and with a virtual-hosted bucket."""
    spelled = ["a%20b", "a+b", "a%2Bb", "a%2Fb", "a//b", "//", "a/", "a/./b", "%7Etilde~", "lower%2d", "over%65ncoded"]
    spelled += ["%C3%BC", "e%CC%81", "%F0%9F%9A%80", "100%25", "%2541", "a;b,c:d@e$f&g=h", "(a)!*'", "%22quoted%22"]
    spelled += ["%5B%5D%7B%7D%7C%5E%60", "back%5Cslash", "%3Fq%23h", "...", "..name", "k" * 900, "%FF%FE", "%7F", "%01"]
    for path in spelled:
        for host in (None, "BUCKET.localhost"):
            talk.ask("PUT", f"/{path}", body=path.encode(), host=host)
            talk.ask("GET", f"/{path}", host=host)
            talk.ask("HEAD", f"/{path}", host=host)
    talk.ask("GET", "", "encoding-type=url")
    talk.ask("GET", "")
    talk.ask("GET", "/", host="BUCKET.localhost")
    for path in spelled:
        talk.ask("DELETE", f"/{path}")
    talk.ask("PUT", "/" + "k" * 1025, body=b"too long")


def metadata(talk):
    """V7: user metadata: other alphabets, encoded words, repetitions, many, long."""
    talk.ask("PUT", "/o1", headers=[("x-amz-meta-utf8", "grün 日本".encode())], body=b"x")
    talk.ask("PUT", "/o2", headers=[("x-amz-meta-latin", "grün".encode("latin-1"))], body=b"x")
    talk.ask("PUT", "/o3", headers=[("x-amz-meta-word", "=?UTF-8?B?Z3LDvG4=?=")], body=b"x")
    talk.ask("PUT", "/o4", headers=[("x-amz-meta-twice", "1"), ("x-amz-meta-twice", "2")], body=b"x")
    talk.ask("PUT", "/o5", headers=[("x-amz-meta-UPPER", "Value"), ("x-amz-meta-under_score", "v")], body=b"x")
    talk.ask("PUT", "/o6", headers=[(f"x-amz-meta-n{n}", str(n)) for n in range(40)], body=b"x")
    talk.ask("PUT", "/o7", headers=[("x-amz-meta-long", "l" * 1900)], body=b"x")
    talk.ask("PUT", "/o8", headers=[("x-amz-meta-too-long", "l" * 3000)], body=b"x")
    talk.ask("PUT", "/o9", headers=[("x-amz-meta-tab", "a\tb"), ("x-amz-meta-quote", "\"a, b\"; c='d'")], body=b"x")
    for n in range(1, 10):
        talk.ask("HEAD", f"/o{n}")
        talk.ask("GET", f"/o{n}")


def presigned(talk):
    """A1: URLs for reading and writing, and their overrides of response headers."""
    talk.ask("PUT", "/o%20%C3%BC", body=b"presigned", signed="query")
    talk.ask("GET", "/o%20%C3%BC", signed="query")
    talk.ask("HEAD", "/o%20%C3%BC", signed="query")
    overrides = [
        "response-content-type=text/x-other",
        "response-content-language=fr",
        "response-expires=Thu%2C%2001%20Dec%202033%2016%3A00%3A00%20GMT",
        "response-cache-control=no-cache",
        "response-content-disposition=attachment%3B%20filename%3D%22a%20b%2B.txt%22",
        "response-content-encoding=x-gzip",
    ]
    for query in [*overrides, "&".join(overrides)]:
        talk.ask("GET", "/o%20%C3%BC", query, signed="query")
        talk.ask("GET", "/o%20%C3%BC", query)
        talk.ask("HEAD", "/o%20%C3%BC", query)
    talk.ask("GET", "/o%20%C3%BC", headers=[("Range", "bytes=2-4")], signed="query")
    talk.ask("GET", "/none", signed="query")
    talk.ask("GET", "", "list-type=2&prefix=o%20", signed="query")
    talk.ask("DELETE", "/o%20%C3%BC", signed="query")

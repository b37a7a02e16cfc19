"""Whether a client can tell the gateway from the store: the same requests to both, and answers compared byte by byte.

Each chapter is held with RGW itself and with a gateway before that RGW, which verifies signatures, each with a fresh
bucket. What may differ is named in conversation.py. Steps that are `own` are refused by the gateway before the store hears
of them, with the store's status and code but its own words.
"""

import base64
import binascii
import hashlib

import pytest
from conversation import Conversation, encoded

import servers

pytestmark = pytest.mark.gateway

KEYS = ("AKIATRANSPARENT", "the/secret+of+the=client")


@pytest.fixture(scope="module")
def transparent(rgw_server, tmp_path_factory):
    configuration = f"""
[buckets.every]
pattern = "*"
auth = ["sigv4", "anonymous"]
[buckets.every.s3]
endpoints = ["{rgw_server.endpoint}"]
access_key_id = "{rgw_server.access_key_id}"
secret_access_key = "{rgw_server.secret_access_key}"
[keys.{KEYS[0]}]
secret = "{KEYS[1]}"
policy = "all"
[policies.all]
buckets = ["*"]
methods = ["read", "write", "delete", "list", "configure"]
"""
    gateway = servers.Gateway(tmp_path_factory.mktemp("transparent"), configuration)
    yield gateway.endpoint
    assert gateway.stop() == 0


def md5(body):
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def made(talk):
    talk.ask("PUT")
    return talk


def objects(talk):
    """Put, head, get, delete: whole, empty, and what is told of them."""
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
    """I2: single, open, suffix, beyond, several, and what is no range."""
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


def missing(talk):
    """E1, E2: what is not there, and what is not allowed to be."""
    for method in ("GET", "HEAD", "DELETE"):
        talk.ask(method, "/none")
    for method in ("GET", "HEAD", "PUT"):
        talk.ask(method, host="no-such-bucket-at-all.localhost", path="/o", body=b"x" if method == "PUT" else b"")
    talk.ask("GET", "/o", "uploadId=none")
    talk.ask("PUT", "/o", "partNumber=1&uploadId=none", body=b"x")
    talk.ask("PUT", "/o", "partNumber=0&uploadId=none", body=b"x")
    talk.ask("PUT", "/o", "partNumber=10001&uploadId=none", body=b"x")
    talk.ask("DELETE", "/o", "uploadId=none")
    talk.ask("POST", "/o", "uploadId=none", body=b"<CompleteMultipartUpload></CompleteMultipartUpload>")
    talk.ask("GET", "/none", "versionId=none")
    talk.ask("GET", "/none", "acl")
    talk.ask("GET", "/none", "tagging")
    for name in ("cors", "lifecycle", "policy", "tagging", "website", "encryption", "publicAccessBlock", "replication"):
        talk.ask("GET", "", name)
    talk.ask("PUT", "", body=b"<not xml")
    talk.ask("POST", "/o")
    talk.ask("DELETE", "/o", "tagging")


def integrity(talk):
    """I1: a Content-MD5 that is right, wrong and none."""
    body = b"0123456789"
    for size in (1, 10_000):
        talk.ask("PUT", "/o", headers=[("Content-MD5", md5(body * size))], body=body * size)
        talk.ask("PUT", "/o", headers=[("Content-MD5", md5(b"other"))], body=body * size, own=True)
        talk.ask("GET", "/o")
    talk.ask("PUT", "/o", headers=[("Content-MD5", "not base64")], body=body, own=True)
    talk.ask("PUT", "/o", headers=[("x-amz-checksum-crc32", base64.b64encode(binascii.crc32(body).to_bytes(4)).decode())], body=body)
    talk.ask("HEAD", "/o", headers=[("x-amz-checksum-mode", "ENABLED")])


def listings(talk):
    """V5: both versions, grouped, encoded, paged, from a place on, and with nonsense."""
    for key in ["a%20b", "a%2Bb", "d/1", "d/2", "d/e/3", "%C3%BC", "%01control", "%26amp%3C", "z"]:
        talk.ask("PUT", f"/{key}", body=key.encode())
    queries = ["", "prefix=d/", "delimiter=/", "prefix=d/&delimiter=/", "delimiter=%0A", "delimiter=a", "prefix=none"]
    queries += ["encoding-type=url", "encoding-type=url&delimiter=/&prefix=d/", "encoding-type=none", "max-keys=2"]
    queries += ["max-keys=0", "max-keys=-1", "max-keys=many", "max-keys=2000", "max-keys=2&delimiter=/", "prefix=%C3%BC"]
    for query in queries:
        talk.ask("GET", "", query)
        talk.ask("GET", "", f"list-type=2&{query}")
    talk.ask("GET", "", "marker=d/1")
    talk.ask("GET", "", "marker=d/1&max-keys=1&encoding-type=url")
    talk.ask("GET", "", "list-type=2&start-after=d/1")
    talk.ask("GET", "", "list-type=2&fetch-owner=true")
    talk.ask("GET", "", "list-type=2&continuation-token=nonsense")
    page = talk.ask("GET", "", "list-type=2&max-keys=3")
    while token := page.element("NextContinuationToken"):
        page = talk.ask("GET", "", f"list-type=2&max-keys=3&continuation-token={encoded(token)}")
    talk.ask("HEAD")
    # The document holds the region of the gateway, not of the store.
    talk.ask("GET", "", "location", own=True)
    talk.ask("GET", "", "uploads")
    talk.ask("GET", "", "versions")


def multipart(talk):
    """V5, E2: begun, parts, listed, completed, aborted, and completed wrongly."""
    def begin(path, headers=()):
        return talk.ask("POST", path, "uploads", headers=headers).element("UploadId")

    def complete(path, upload, parts):
        listed = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in parts)
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        return talk.ask("POST", path, f"uploadId={upload}", body=body)

    upload = begin("/big%20one", [("Content-Type", "text/x-parts"), ("x-amz-meta-kind", "parts")])
    big = bytes(range(256)) * (5 << 12)
    tags = [
        talk.ask("PUT", "/big%20one", f"partNumber={n}&uploadId={upload}", body=body).header("etag")
        for n, body in [(2, b"last"), (1, big)]
    ]
    talk.ask("GET", "/big%20one", f"uploadId={upload}")
    talk.ask("GET", "/big%20one", f"uploadId={upload}&max-parts=1")
    talk.ask("GET", "/big%20one", f"uploadId={upload}&part-number-marker=1")
    talk.ask("GET", "", "uploads")
    talk.ask("GET", "", "uploads&prefix=big&delimiter=/&max-uploads=1")
    complete("/big%20one", upload, [(1, '"00000000000000000000000000000000"')])
    complete("/big%20one", upload, [(2, tags[0]), (1, tags[1])])
    complete("/big%20one", upload, [(3, tags[0])])
    talk.ask("POST", "/big%20one", f"uploadId={upload}", body=b"not xml at all")
    complete("/big%20one", upload, [(1, tags[1]), (2, tags[0])])
    complete("/big%20one", upload, [(1, tags[1]), (2, tags[0])])
    talk.ask("HEAD", "/big%20one")
    talk.ask("HEAD", "/big%20one", "partNumber=1")
    talk.ask("GET", "/big%20one", "partNumber=2")
    talk.ask("GET", "/big%20one", headers=[("Range", "bytes=5242878-")])
    small = begin("/small")
    tags = [
        talk.ask("PUT", "/small", f"partNumber={n}&uploadId={small}", body=b"too small").header("etag") for n in (1, 2)
    ]
    complete("/small", small, [(1, tags[0]), (2, tags[1])])
    talk.ask("PUT", "/small", f"partNumber=3&uploadId={small}", headers=[("x-amz-copy-source", "/BUCKET/big%20one")])
    copied = [("x-amz-copy-source", "/BUCKET/big%20one"), ("x-amz-copy-source-range", "bytes=0-9")]
    talk.ask("PUT", "/small", f"partNumber=4&uploadId={small}", headers=copied)
    talk.ask("DELETE", "/small", f"uploadId={small}")
    talk.ask("DELETE", "/small", f"uploadId={small}")
    talk.ask("HEAD", "/small")


def copies(talk):
    """V5: within the bucket, with new metadata, under conditions, of what is not there."""
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


def tags_and_acls(talk):
    """V5: tags and access lists of objects and buckets."""
    tags = b"<Tagging><TagSet><Tag><Key>k 1</Key><Value>v&amp;1</Value></Tag></TagSet></Tagging>"
    talk.ask("PUT", "/o", headers=[("x-amz-tagging", "a=1&b=2%203")], body=b"x")
    talk.ask("GET", "/o", "tagging")
    talk.ask("PUT", "/o", "tagging", body=tags)
    talk.ask("GET", "/o", "tagging")
    talk.ask("GET", "/o")
    talk.ask("DELETE", "/o", "tagging")
    talk.ask("GET", "/o", "tagging")
    talk.ask("PUT", "/o", "tagging", body=b"<Tagging>")
    talk.ask("PUT", "", "tagging", body=tags)
    talk.ask("GET", "", "tagging")
    talk.ask("GET", "/o", "acl")
    talk.ask("PUT", "/o", "acl", headers=[("x-amz-acl", "public-read")])
    talk.ask("GET", "/o", "acl")
    talk.ask("PUT", "/o", "acl", headers=[("x-amz-acl", "nonsense")])
    talk.ask("PUT", "/o2", headers=[("x-amz-acl", "authenticated-read")], body=b"x")
    talk.ask("GET", "/o2", "acl")
    talk.ask("GET", "", "acl")
    policy = b'{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::BUCKET/*"}]}'
    talk.ask("PUT", "", "policy", body=policy)
    talk.ask("GET", "", "policy")
    talk.ask("PUT", "", "policy", body=b"{nonsense")
    talk.ask("DELETE", "", "policy")
    rule = b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
    talk.ask("PUT", "", "cors", headers=[("Content-MD5", md5(rule))], body=rule)
    talk.ask("GET", "", "cors")
    rule = b"<LifecycleConfiguration><Rule><ID>r</ID><Prefix>x</Prefix><Status>Enabled</Status><Expiration><Days>9</Days></Expiration></Rule></LifecycleConfiguration>"
    talk.ask("PUT", "", "lifecycle", headers=[("Content-MD5", md5(rule))], body=rule)
    talk.ask("GET", "", "lifecycle")
    talk.ask("PUT", "", "lifecycle", body=rule)
    for query in ("versioning", "logging", "requestPayment", "object-lock", "notification", "nonsense"):
        talk.ask("GET", "", query)


def versions(talk):
    """V5: a bucket with versions: writing, reading by version, markers, deleting for good."""
    talk.ask("GET", "", "versioning")
    body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    talk.ask("PUT", "", "versioning", body=body)
    talk.ask("GET", "", "versioning")
    first = talk.ask("PUT", "/o", body=b"one").header("x-amz-version-id")
    talk.ask("PUT", "/o", body=b"two")
    talk.ask("GET", "/o")
    talk.ask("GET", "/o", f"versionId={first}")
    talk.ask("HEAD", "/o", f"versionId={first}")
    talk.ask("GET", "", "versions")
    talk.ask("GET", "", "versions&prefix=o&max-keys=1")
    marker = talk.ask("DELETE", "/o").header("x-amz-version-id")
    talk.ask("GET", "/o")
    talk.ask("HEAD", "/o")
    talk.ask("GET", "/o", f"versionId={marker}")
    talk.ask("GET", "", "versions")
    talk.ask("PUT", "/copy", headers=[("x-amz-copy-source", f"/BUCKET/o?versionId={first}")])
    talk.ask("DELETE", "/o", f"versionId={marker}")
    talk.ask("GET", "/o")
    talk.ask("DELETE", "/o", f"versionId={first}")
    talk.ask("GET", "/o", f"versionId={first}")
    talk.ask("GET", "/o", "versionId=null")
    talk.ask("PUT", "", "versioning", body=body.replace(b"Enabled", b"Suspended"))
    talk.ask("PUT", "/o", body=b"three")


def keys(talk):
    """V5: keys whose bytes proxies like to change, in the path and in the host's bucket."""
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
    """V7: values of the user: other alphabets, encoded words, repetitions, many, long."""
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


def several_deletes(talk):
    """E5: a list of keys: gone, never there, odd, quiet, without Content-MD5, and no list at all."""
    for key in ("a%20b", "%26amp%3C", "%C3%BC", "c"):
        talk.ask("PUT", f"/{key}", body=b"x")

    def delete(body, headers=None, **options):
        talk.ask("POST", "", "delete", headers=[("Content-MD5", md5(body))] if headers is None else headers, body=body, **options)

    # One at a time: RGW tells of several in whatever order it was done with them.
    for key in ("a b", "&amp;amp&lt;", "ü", "none"):
        delete(f"<Delete><Object><Key>{key}</Key></Object></Delete>".encode())
    delete(b"<Delete><Quiet>true</Quiet><Object><Key>c</Key></Object></Delete>")
    delete(b"<Delete><Object><Key>c</Key></Object></Delete>", headers=[])
    delete(b"<Delete></Delete>")
    talk.ask("GET", "")


def presigned(talk):
    """A1: URLs that write and read, and the answers' headers that they may set."""
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


def buckets(talk):
    """V5: made twice, made wrongly, not empty, removed."""
    talk.ask("PUT")
    talk.ask("HEAD")
    talk.ask("PUT", "/o", body=b"x")
    talk.ask("DELETE")
    talk.ask("DELETE", "/o")
    talk.ask("DELETE")
    talk.ask("DELETE")
    talk.ask("HEAD")
    talk.ask("GET")
    wrong = b"<CreateBucketConfiguration><LocationConstraint>nowhere-1</LocationConstraint></CreateBucketConfiguration>"
    talk.ask("PUT", body=wrong)
    talk.ask("PUT", headers=[("x-amz-acl", "public-read")])
    talk.ask("GET", "", "acl")


CHAPTERS = [
    objects,
    ranges,
    conditions,
    missing,
    integrity,
    listings,
    multipart,
    copies,
    tags_and_acls,
    versions,
    keys,
    metadata,
    several_deletes,
    presigned,
    buckets,
]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.__name__)
def test_a_client_cannot_tell_the_gateway_from_the_store(rgw_server, transparent, chapter):
    """V5, V7, E1, E2, I2: status, headers and body of every answer are the store's."""
    own_keys = (rgw_server.access_key_id, rgw_server.secret_access_key)
    direct, through = Conversation(rgw_server.endpoint, own_keys), Conversation(transparent, KEYS)
    for talk in (direct, through):
        chapter(made(talk))
    assert len(direct.told) == len(through.told) > 8
    pairs = zip(direct.comparable(), through.comparable(), strict=True)
    different = [(step, store, gateway) for (step, store), (_, gateway) in pairs if store != gateway]
    assert not different, "\n".join(told(*difference) for difference in different)


def told(step, store, gateway):
    lines = [f"-- {step}"]
    for name in store:
        if store[name] == gateway[name]:
            continue
        if name == "headers":
            lines += [f"   the store alone: {line}" for line in store[name] if line not in gateway[name]]
            lines += [f"   the gateway alone: {line}" for line in gateway[name] if line not in store[name]]
        else:
            lines.append(f"   {name} of the store {store[name]!r:.600} of the gateway {gateway[name]!r:.600}")
    return "\n".join(lines)

"""The comparison of gateway and store for SigV2, forms, browsers, tenants and expectations.

The keys of the clients are users of the store (`upstream = "same"`), so that both servers get the same requests. A public
conformance suite for S3 had tests that passed on the store and failed through the gateway; each kind of them has requests here.
"""

import json

import pytest
from test_transparency import md5, told
from version_2 import Talk, document, now

import servers

pytestmark = pytest.mark.gateway

TENANT = "quay"

#: Known differences: what must be equal nevertheless, and the reason. A chapter fails if a difference that it names has ended.
DIFFERENCES = {
    "reply of a form": ("status", "RGW leaves out ETag and Location, which S3 sends; what was stored is compared"),
    "code of a form": ("status", "the codes of S3; RGW 16 says AccessDenied or InvalidArgument for nearly everything"),
    "code of a preflight": ("status", "S3 says BadRequest where the method asked for is missing, RGW InvalidArgument"),
    "code of a lifetime": ("status", "S3 says AuthorizationQueryParametersError, RGW AccessDenied"),
    "list of buckets": ("status", "the owner is the gateway's; which buckets the list names is compared"),
    "usage": ("nothing", "`GET /?usage` is an operation of RGW alone, about a user of the store"),
    "preflight of a tenant": ("nothing", "preflights go on unsigned; RGW takes the tenant from the key in the URL"),
    "leave to send a body": ("nothing", "the gateway answers 100 before it has connected to the store"),
}


@pytest.fixture(scope="module")
def users(rgw_server):
    """The store's users: one of the default tenant, one of another."""
    return {"main": (rgw_server.access_key_id, rgw_server.secret_access_key), "tenant": rgw_server.make_user(TENANT)}


@pytest.fixture(scope="module")
def accounts(rgw_server, users, tmp_path_factory):
    def section(name, pattern):
        return f"""
[buckets.{name}]
pattern = "{pattern}"
auth = ["sigv4", "sigv2", "anonymous"]
sigv2_max_lifetime = "3650d"
s3.endpoints = ["{rgw_server.endpoint}"]
"""

    def key(name):
        return f"""
[keys.{name}]
access_key_id = "{users[name][0]}"
secret = "{users[name][1]}"
upstream = "same"
policy = "all"
"""

    policy = f"""
[policies.all]
buckets = ["*", ":*", "{TENANT}:*"]
methods = ["read", "write", "delete", "list", "configure"]
"""
    parts = [section("every", "*"), section("default", ":*"), section("tenant", f"{TENANT}:*"), key("main"), key("tenant"), policy]
    gateway = servers.Gateway(tmp_path_factory.mktemp("accounts"), "".join(parts))
    yield gateway.endpoint
    assert gateway.stop() == 0


def version_2_headers(talk):
    """A8: objects, sub-resources, copies and lists; a wrong signature, an unknown key, an odd Content-MD5 or User-Agent."""
    talk.old("PUT", "/o%20%C3%BC", headers=[("Content-Type", "text/x"), ("x-amz-meta-b", "2"), ("x-amz-meta-a", "1")], body=b"old")
    for method in ("GET", "HEAD"):
        talk.old(method, "/o%20%C3%BC")
        talk.old(method, "/o%20%C3%BC", headers=[("x-amz-date", now())])
    talk.old("GET", "/o%20%C3%BC", headers=[("Range", "bytes=1-1")])
    talk.old("GET", "/none")
    talk.old("GET")
    talk.old("GET", "", "prefix=o&max-keys=1")
    talk.old("GET", "", "uploads")
    talk.old("GET", "", "versions")
    talk.old("GET", "", "acl")
    talk.old("GET", "/o%20%C3%BC", "acl")
    talk.old("PUT", "/o%20%C3%BC", "tagging", body=b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>")
    talk.old("GET", "/o%20%C3%BC", "tagging")
    talk.old("GET", "/o%20%C3%BC", "response-content-type=text/y")
    talk.old("PUT", "/copy", headers=[("x-amz-copy-source", "/BUCKET/o%20%C3%BC")])
    upload = talk.old("POST", "/parts", "uploads").element("UploadId")
    tag = talk.old("PUT", "/parts", f"partNumber=1&uploadId={upload}", body=b"part").header("etag")
    done = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    talk.old("POST", "/parts", f"uploadId={upload}", body=done.encode())
    body = b"<Delete><Object><Key>parts</Key></Object></Delete>"
    talk.old("POST", "", "delete", headers=[("Content-MD5", md5(body))], body=body)
    talk.old("GET", "/copy", spoilt="x", own=True)
    talk.old("GET", "/copy", key_id="nobody", own=True)
    talk.old("PUT", "/o", headers=[("Content-MD5", "AWS HAHAHA")], body=b"x", own=True)
    talk.old("PUT", "/o", headers=[("User-Agent", "")], body=b"x")
    talk.old("PUT", "/o", headers=[("Content-MD5", md5(b"x"))], body=b"x")
    talk.old("DELETE", "/o")


def version_2_dates(talk):
    """A8: dates that are none, missing, long past, before the epoch, far ahead; in either header, for objects and buckets."""
    dates = ["Bad Date", "", "Tue, 07 Jul 2010 21:53:04 GMT", "Tue, 07 Jul 1950 21:53:04 GMT"]
    dates += ["Tue, 07 Jul 2030 21:53:04 GMT", "Tue, 07 Jul 9999 21:53:04 GMT", now(-1200), now(1200)]
    for date in dates:
        for name in ("x-amz-date", "Date"):
            talk.old("PUT", "/o", headers=[(name, date)], body=b"x", own=True)
            talk.old("PUT", headers=[(name, date)], own=True)
    for seconds in (-600, 600):
        talk.old("PUT", "/o", headers=[("Date", now(seconds))], body=b"x")
    talk.old("PUT", "/o", headers=[("Date", None)], body=b"x", own=True)


def version_2_urls(talk):
    """A8: URLs that write, read, head and delete; expired, far ahead, changed; overrides of the answer's headers."""
    talk.old_url("PUT", "/o", body=b"presigned")
    for seconds in (300, 100_000, 609_901):
        talk.old_url("GET", "/o", seconds=seconds)
    talk.old_url("HEAD", "/o")
    talk.old_url("GET", "/o", "response-content-type=text/z&response-cache-control=no-cache")
    talk.old_url("GET", "/none")
    for method in ("GET", "PUT"):
        talk.old_url(method, "/o", seconds=-1000, own=True)
    for expires in ("soon", "-5", "0"):
        talk.old_url("GET", "/o", expires=expires, own=True)
    talk.old_url("GET", "/o", spoilt="x", own=True)
    talk.old_url("GET", "/o", key_id="nobody", own=True)
    talk.old_url("DELETE", "/o", signed_as="GET", own=True)
    talk.old_url("DELETE", "/o")


def expiry_of_version_4(talk):
    """A1: URLs whose lifetime is negative, zero, or above a week."""
    talk.ask("PUT", "/o", body=b"x")
    for seconds in ("-1000", "-7", "0", "604801", "609901"):
        talk.lifetime = seconds
        talk.ask("GET", "/o", signed="query", own="code of a lifetime")
        talk.ask("PUT", "/o", body=b"x", signed="query", own="code of a lifetime")


def forms(talk, version):
    """A1, A8, A5: forms that are right, and each way to be wrong."""

    def send(given=None, fields=(), file=b"bar", first=None, own=False, replaced=None):
        policy = talk.policy(document() if given is None else given, version)
        policy = [(name, (replaced or {}).get(name, value)) for name, value in policy]
        policy = [field for field in policy if field[1] is not None]
        talk.form([*(usual if first is None else first), *policy, *fields], file, own="code of a form" if own else "reply of a form")

    signature, key = ("signature", "AWSAccessKeyId") if version == 2 else ("x-amz-signature", "x-amz-credential")
    usual = [("key", "foo.txt"), ("acl", "private"), ("Content-Type", "text/plain")]
    conditions = document()["conditions"]
    send()
    talk.ask("GET", "/foo.txt")
    send(document([{"bucket": "BUCKET"}, ["starts-with", "$key", "foo"], {"acl": "private"}]), first=usual[:2])
    send(document([*conditions[:4], ["content-length-range", 0, 5 << 20]]), file=b"foo" * (1 << 20))
    send(document([*conditions[:4], ["content-length-range", 4 << 20, 12 << 20]]), file=b"x" * ((4 << 20) + 200))
    send(first=[("key", "foo-${filename}"), *usual[1:]])
    talk.ask("HEAD", "/foo-f.txt")
    send(fields=[("x-ignore-foo", "bar")])
    lower = [{"bUcKeT": "BUCKET"}, ["StArTs-WiTh", "$KeY", "foo"], {"AcL": "private"}]
    lower += [["StArTs-WiTh", "$CoNtEnT-TyPe", "text/plain"], ["content-length-range", 0, 1024]]
    send(document(lower), first=[("kEy", "foo.txt"), ("aCl", "private"), ("Content-Type", "text/plain")])
    escaped = [conditions[0], ["starts-with", "$key", "\\$foo"], *conditions[2:]]
    send(document(escaped), first=[("key", "\\$foo.txt"), *usual[1:]])
    for status in ("200", "201", "204", "404"):
        send(document([*conditions, {"success_action_status": status}]), fields=[("success_action_status", status)])
    page = "http://pages.example/done"
    send(document([*conditions, ["eq", "$success_action_redirect", page]]), fields=[("success_action_redirect", page)])
    send(document([*conditions, ["starts-with", "$x-amz-meta-foo", "bar"]]), fields=[("x-amz-meta-foo", "barclamp")])
    talk.ask("HEAD", "/foo.txt")
    tags = "<Tagging><TagSet><Tag><Key>0</Key><Value>0</Value></Tag><Tag><Key>1</Key><Value>1</Value></Tag></TagSet></Tagging>"
    send(document([*conditions, ["starts-with", "$tagging", ""]]), fields=[("tagging", tags)])
    talk.ask("GET", "/foo.txt", "tagging")
    # The gateway refuses each of the following forms before it connects to the store.
    send(own=True, replaced={signature: "bm8="if version == 2 else "00"})
    send(own=True, replaced={signature: None})
    send(own=True, replaced={key: "nobody" if version == 2 else talk.policy(document(), 4)[1][1].replace(talk.keys[0], "nobody")})
    send(own=True, first=usual[1:])
    send(own=True, first=[("key", "bar.txt"), *usual[1:]])
    send(own=True, first=[usual[0], ("acl", "public-read"), usual[2]])
    send(document(conditions[:4] + [["content-length-range", 0, 2]]), own=True)
    send(document(conditions[:4] + [["content-length-range", 512, 1000]]), own=True)
    send(document(conditions[:4] + [["content-length-range", 0]]), own=True)
    send(document(conditions[:4] + [["content-length-range", -1, 0]]), own=True)
    send(document([{"bucket": "another-bucket"}, *conditions[1:]]), own=True)
    send(document([*conditions, ["starts-with", "$x-amz-meta-foo", "bar"]]), own=True)
    send(document([*conditions, {"x-amz-meta-foo": "other"}]), fields=[("x-amz-meta-foo", "barclamp")], own=True)
    send(fields=[("x-amz-meta-foo", "barclamp")], own=True)
    for expiration in ("2010-01-01T00:00:00Z", "2037-01-01 00:00:00+00:00", "tomorrow"):
        send(document(expiration=expiration), own=True)
    whole = document()
    send({"EXPIRATION": whole["expiration"], "conditions": whole["conditions"]}, own=True)
    send({"expiration": whole["expiration"], "CONDITIONS": whole["conditions"]}, own=True)
    send({"conditions": whole["conditions"]}, own=True)
    send({"expiration": whole["expiration"]}, own=True)
    send(document([]), own=True)
    send(document([{}]), own=True)
    send("{nonsense", own=True)
    talk.ask("GET")


def forms_of_version_2(talk):
    """A8: forms whose policy SigV2 signs."""
    forms(talk, 2)


def forms_of_version_4(talk):
    """A1: forms whose policy SigV4 signs."""
    forms(talk, 4)


def anonymous_forms(talk):
    """A4: forms without a policy, to a bucket that lets everybody write and to one that does not."""
    fields = [("key", "foo.txt"), ("acl", "public-read"), ("Content-Type", "text/plain")]
    talk.form(fields, own="reply of a form")
    talk.ask("PUT", "", "acl", headers=[("x-amz-acl", "public-read-write")])
    talk.form(fields, own="reply of a form")
    tags = "<Tagging><TagSet><Tag><Key>0</Key><Value>0</Value></Tag><Tag><Key>1</Key><Value>1</Value></Tag></TagSet></Tagging>"
    talk.form([*fields, ("tagging", tags)], own="reply of a form")
    talk.ask("GET", "/foo.txt", "tagging")
    talk.form([*fields, ("success_action_redirect", "http://pages.example/")], own="reply of a form")
    talk.form([("key", "with type"), ("acl", "public-read")], own="reply of a form")
    talk.ask("GET", "/foo.txt", signed=None)
    talk.ask("HEAD", "/with%20type", signed=None)


def browsers(talk):
    """A6: origins and preflights before and after the bucket has CORS rules, also for presigned URLs."""

    def preflights():
        for path in ("", "/bar"):
            talk.ask("OPTIONS", path, signed=None, own="code of a preflight")
            talk.ask("OPTIONS", path, headers=[("Origin", "foo.suffix")], signed=None, own="code of a preflight")
            for origin, method, header in [
                ("foo.suffix", "GET", None),
                ("foo.bar", "GET", None),
                ("start12end", "GET", None),
                ("0start12end", "GET", None),
                ("prefix.suffix", "GET", None),
                ("foo.put", "GET", None),
                ("foo.put", "PUT", None),
                ("foo.put", "PUT", "x-amz-meta-one, content-type"),
                ("foo.suffix", "GET", "x-amz-meta-one"),
                ("foo.suffix", "DELETE", None),
            ]:
                asked = [("Origin", origin), ("Access-Control-Request-Method", method)]
                asked += [("Access-Control-Request-Headers", header)] * (header is not None)
                talk.ask("OPTIONS", path, headers=asked, signed=None)
                talk.ask("OPTIONS", path, headers=asked, signed="query")

    talk.ask("PUT", "", "acl", headers=[("x-amz-acl", "public-read")])
    talk.ask("PUT", "/o", headers=[("x-amz-acl", "public-read")], body=b"x")
    preflights()
    rules = "".join(
        f"<CORSRule><AllowedMethod>{method}</AllowedMethod><AllowedOrigin>{origin}</AllowedOrigin>{more}</CORSRule>"
        for method, origin, more in [
            ("GET", "*suffix", ""),
            ("GET", "start*end", "<ExposeHeader>x-amz-meta-one</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds>"),
            ("GET", "prefix*", ""),
            ("PUT", "*.put", "<AllowedHeader>x-amz-meta-*</AllowedHeader><AllowedHeader>content-type</AllowedHeader>"),
        ]
    )
    body = f"<CORSConfiguration>{rules}</CORSConfiguration>".encode()
    talk.ask("PUT", "", "cors", headers=[("Content-MD5", md5(body))], body=body)
    preflights()
    for origin in ("foo.suffix", "foo.bar", "startend", "start1end", "0start12end", "prefix", "bla.prefix", "foo.put"):
        for signed in (None, "header", "query"):
            talk.ask("GET", "", headers=[("Origin", origin)], signed=signed)
            talk.ask("GET", "/o", headers=[("Origin", origin)], signed=signed)
            talk.ask("GET", "/none", headers=[("Origin", origin)], signed=signed)
            for wanted in (None, "GET", "PUT"):
                more = [("Access-Control-Request-Method", wanted)] * (wanted is not None)
                talk.ask("PUT", "/bar", headers=[("Origin", origin), *more], signed=signed)


def expectations(talk):
    """V1, A4: `Expect` that asks for something else, for nothing, and for leave to send the body."""
    for expected in ("200", "", "something"):
        talk.ask("PUT", "/o", headers=[("Expect", expected)], body=b"x")
        talk.ask("PUT", headers=[("Expect", expected)])
        talk.ask("GET", "/o", headers=[("Expect", expected)])
    wait = [("Expect", "100-continue")]
    talk.first_answer("PUT", "/o", wait, own="leave to send a body")
    talk.ask("PUT", "", "acl", headers=[("x-amz-acl", "public-read-write")])
    talk.first_answer("PUT", "/o", wait)
    talk.ask("PUT", "/o", headers=wait, body=b"x")
    talk.ask("GET", "/o")


def tenants(talk):
    """V5, V12: buckets of a tenant, named by its own user and by another's, and a bucket of none named by the tenant's user."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": ["s3:ListBucket", "s3:GetObject"],
                "Resource": ["arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*"],
            }
        ],
    }
    talk.ask("PUT", "/o", body=b"of the default tenant")
    talk.by("tenant").ask("GET", "/:BUCKET", whole=True)
    talk.by("main").ask("PUT", "", "policy", body=json.dumps(policy).encode())
    for path in ("/:BUCKET", "/%3ABUCKET", "/:BUCKET/o", "/%3ABUCKET/o"):
        talk.by("tenant").ask("GET", path, whole=True)
    talk.ask("PUT")
    talk.ask("PUT", "/o", body=b"of the tenant")
    for seconds in ("100000", "-1"):
        talk.lifetime = seconds
        talk.ask("GET", "/o", signed="query", own=seconds == "-1" and "code of a lifetime")
    talk.lifetime = "300"
    talk.by("main").ask("GET", f"/{TENANT}:BUCKET", whole=True)
    talk.by("tenant").ask("PUT", "", "policy", body=json.dumps(policy).encode())
    for path in (f"/{TENANT}:BUCKET", f"/{TENANT}%3ABUCKET", f"/{TENANT}:BUCKET/o", f"/{TENANT}%3ABUCKET/o"):
        talk.by("main").ask("GET", path, whole=True)
        talk.by("tenant").ask("GET", path, whole=True)
    talk.by("tenant").ask("PUT", "", "cors", headers=[("Content-MD5", md5(CORS))], body=CORS)
    asked = [("Origin", "example"), ("Access-Control-Request-Method", "PUT")]
    talk.ask("OPTIONS", f"/{TENANT}:BUCKET/o", whole=True, headers=asked, signed="query")
    talk.ask("OPTIONS", "/o", headers=asked, signed="query", own="preflight of a tenant")
    talk.ask("OPTIONS", "/o", headers=asked, signed=None)
    talk.by("main")


CORS = b"<CORSConfiguration><CORSRule><AllowedOrigin>example</AllowedOrigin><AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>"


def service(talk):
    """V5: the list of buckets by either signature, a user's usage."""
    for number in range(3):
        talk.ask("PUT", f"/BUCKET-{number}", whole=True)
    answer = talk.ask("GET", "/", whole=True, own="list of buckets")
    found = [number for number in range(3) if f"{talk.bucket}-{number}<".encode() in answer.body]
    talk.note("buckets that the list names", (found, f"<Name>{talk.bucket}</Name>".encode() in answer.body))
    usage = talk.ask("GET", "/", "usage", whole=True, own=True)
    talk.note("the usage's summary", sorted(name for name in ("QuotaMaxBytes", "QuotaMaxBuckets") if usage.element(name)), own="usage")
    for number in range(3):
        talk.ask("DELETE", f"/BUCKET-{number}", whole=True)
    answer = talk.ask("GET", "/", whole=True, own="list of buckets")
    talk.note("buckets that are gone", f"{talk.bucket}-0<".encode() in answer.body)
    talk.ask("POST", "/", whole=True, own=True)


CHAPTERS = [
    version_2_headers,
    version_2_dates,
    version_2_urls,
    expiry_of_version_4,
    forms_of_version_2,
    forms_of_version_4,
    anonymous_forms,
    browsers,
    expectations,
    tenants,
    service,
]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.__name__)
def test_accounts_cannot_tell_the_gateway_from_the_store(rgw_server, users, accounts, chapter):
    """V5, A1, A6, A8, E1: status, headers and body of every answer are the store's."""
    direct, through = Talk(rgw_server.endpoint, users["main"], users), Talk(accounts, users["main"], users)
    for talk in (direct, through):
        talk.ask("PUT")
        chapter(talk)
    assert len(direct.told) == len(through.told) > 8
    different, met = [], {}
    for (step, store), (_, gateway), (_, _, known) in zip(direct.comparable(), through.comparable(), direct.told, strict=True):
        if known in DIFFERENCES:
            met[known] = met.get(known, False) or store != gateway
            store, gateway = ({"status": side["status"]} for side in (store, gateway))
            if DIFFERENCES[known][0] == "nothing":
                continue
        if store != gateway:
            different.append((step, store, gateway))
    assert not different, "\n".join(told(*difference) for difference in different)
    assert all(met.values()), f"differences that are no more: {met}"

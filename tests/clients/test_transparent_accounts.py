"""The comparison of gateway and store for SigV2, forms, browsers, tenants and expectations.

The clients' keys are users of the store (`upstream = "same"`), so that both servers get the same requests. A public
conformance suite for S3 had tests that passed on the store and failed through the gateway; each kind of them has
requests here.
"""

import json

import chapters_of_signatures
import pytest
import servers
from configuration import key, policy, section
from conversation import describe, md5
from version_2 import Talk

pytestmark = pytest.mark.gateway

TENANT = "quay"

#: Known differences: the status of the gateway (None: the status of the store; for a note: its text), and the reason.
#: A chapter fails if a difference that it names has ended.
DIFFERENCES = {
    "reply of a form": (None, "RGW leaves out ETag and Location, which S3 sends; what was stored is compared"),
    "code of a form": (None, "the codes of S3; RGW 16 returns AccessDenied or InvalidArgument for nearly everything"),
    "code of a preflight": (None, "S3 returns BadRequest for a missing method header, RGW InvalidArgument"),
    "code of a lifetime": (None, "S3 returns AuthorizationQueryParametersError, RGW AccessDenied"),
    "list of buckets": (None, "the owner is the gateway's; which buckets the list names is compared"),
    "usage": ("[]", "`GET /?usage` is an operation of RGW alone, about a user of the store"),
    "leave to send a body": (100, "the gateway answers 100 before it has connected to the store"),
}


def with_known_difference(known, store, gateway):
    """The compared parts of two answers with a known difference: the status, or the gateway's expected answer."""
    expected = DIFFERENCES[known][0]
    if isinstance(expected, str):
        return {"body": expected.encode()}, {"body": gateway["body"]}
    return {"status": store["status"] if expected is None else expected}, {"status": gateway["status"]}


@pytest.fixture(scope="module")
def rgw_server(tmp_path_factory):
    """A separate store for this module: after a whole session RGW 16 answers 400 to each form with a policy and logs
    `malformed json`."""
    server = servers.Rgw(tmp_path_factory.mktemp("rgw-accounts"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def users(rgw_server):
    """The store's users: one of the default tenant, one of another."""
    return {"main": (rgw_server.access_key_id, rgw_server.secret_access_key), "tenant": rgw_server.make_user(TENANT)}


@pytest.fixture(scope="module")
def accounts(start_gateway, rgw_server, users):
    patterns = {"every": "*", "default": ":*", "tenant": f"{TENANT}:*"}
    options = {"auth": ("sigv4", "sigv2", "anonymous"), "keys": (), "more": 'sigv2_max_lifetime = "3650d"'}
    gateway = start_gateway(
        "accounts",
        *(section(name, rgw_server, pattern=pattern, **options) for name, pattern in patterns.items()),
        *(key(pair, upstream="same") for pair in users.values()),
        policy(buckets=tuple(patterns.values())),
    )
    return gateway.endpoint


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
    """V1, A4: `Expect` with another expectation, an empty one, and `100-continue`."""
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
    """V5, V12: buckets of a tenant, used by its own user and by another's, and a bucket of the default tenant used by
    the tenant's user."""
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
    talk.ask("OPTIONS", "/o", whole=True, headers=asked, signed="query")
    talk.ask("OPTIONS", "/o", headers=asked, signed=None)
    talk.by("main")


CORS = b"<CORSConfiguration><CORSRule><AllowedOrigin>example</AllowedOrigin><AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>"


def service(talk):
    """A5: the list of buckets with either signature, and a user's usage."""
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
    chapters_of_signatures.version_2_headers,
    chapters_of_signatures.version_2_dates,
    chapters_of_signatures.version_2_urls,
    chapters_of_signatures.expiry_of_version_4,
    chapters_of_signatures.forms_of_version_2,
    chapters_of_signatures.forms_of_version_4,
    chapters_of_signatures.anonymous_forms,
    browsers,
    expectations,
    tenants,
    service,
]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.__name__)
def test_answers_to_accounts_equal_the_stores(rgw_server, users, accounts, chapter):
    """V5, A1, A6, A8, E1: status, headers and body of every answer are the store's."""
    direct, through = Talk(rgw_server.endpoint, users["main"], users), Talk(accounts, users["main"], users)
    for talk in (direct, through):
        talk.ask("PUT")
        chapter(talk)
    assert len(direct.steps) == len(through.steps) > 8
    different, met = [], {}
    for (step, store), (_, gateway), (_, _, known) in zip(direct.comparable(), through.comparable(), direct.steps, strict=True):
        if isinstance(known, str):
            met[known] = met.get(known, False) or store != gateway
            store, gateway = with_known_difference(known, store, gateway)
        if store != gateway:
            different.append((step, store, gateway))
    assert not different, "\n".join(describe(*difference) for difference in different)
    assert all(met.values()), f"differences that are no more: {met}"

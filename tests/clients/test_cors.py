"""CORS rules that a client sets at the store, and browser preflights through a gateway without rules of its own."""

import uuid

import pytest
import urllib3
from configuration import before_all
from conftest import Target

pytestmark = pytest.mark.gateway

KEYS = ("AKIACORS", "cors/secret+of/forty=characters")
APP = "https://app.example.com"
RULES = {
    "CORSRules": [
        {
            "AllowedOrigins": [APP],
            "AllowedMethods": ["GET", "PUT"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 3000,
        }
    ]
}
# A browser's preflight headers, and headers that neither a browser nor an imitating script should send.
BROWSER = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-US,en;q=0.9",
    "Access-Control-Request-Headers": "content-type,x-amz-date",
    "Access-Control-Request-Method": "PUT",
    "Origin": APP,
    "Referer": APP + "/",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "cross-site",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
}
CREDENTIALS = {"Authorization": "AWS4-HMAC-SHA256 Credential=nobody", "Cookie": "session=secret"}


@pytest.fixture(scope="module")
def client(start_gateway, rgw_server):
    """A client of a gateway that accepts SigV4 only, and has no CORS rules."""
    gateway = start_gateway("cors", before_all(rgw_server, KEYS, pattern="cors-*"))
    return Target("cors", gateway.endpoint, "", KEYS).client()


@pytest.fixture(scope="module")
def bucket(client):
    name = f"cors-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return name


def ask(method, url, headers, body=None):
    with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(30)) as pool:
        return pool.request(method, url, headers=headers, body=body)


def test_rules_that_a_client_sets_answer_preflights(client, bucket):
    """A6: before `PUT ?cors` the store refuses every preflight; afterwards its rules apply."""
    url = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a b"})
    assert ask("OPTIONS", url, BROWSER).status == 403
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration=RULES)
    assert client.get_bucket_cors(Bucket=bucket)["CORSRules"][0]["AllowedOrigins"] == [APP]
    for headers in (BROWSER, {**BROWSER, **CREDENTIALS}):
        allowed = ask("OPTIONS", url, headers)
        assert allowed.status == 200, allowed.data
        assert allowed.headers["access-control-allow-origin"] == APP
        assert "PUT" in allowed.headers["access-control-allow-methods"]
        assert allowed.headers["access-control-max-age"] == "3000"
    for wrong in ({"Origin": "https://evil.example"}, {"Access-Control-Request-Method": "DELETE"}):
        refused = ask("OPTIONS", url, {**BROWSER, **wrong})
        assert (refused.status, refused.headers.get("access-control-allow-origin")) == (403, None)
        assert "x-tidegate-reason" not in refused.headers, "the store's own answer"
    for lacking in ("Origin", "Access-Control-Request-Method"):
        headers = {name: value for name, value in BROWSER.items() if name != lacking}
        assert ask("OPTIONS", url, headers).status == 400


def test_a_page_uploads_and_reads(client, bucket):
    """A6, A1: answers to a page's actual requests have the store's CORS headers, so that the page may read them."""
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration=RULES)
    for operation, method, body in (("put_object", "PUT", b"from a page"), ("get_object", "GET", None)):
        url = client.generate_presigned_url(operation, Params={"Bucket": bucket, "Key": "page"})
        answer = ask(method, url, {"Origin": APP}, body)
        assert answer.status == 200, answer.data
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-expose-headers"] == "ETag"
    assert answer.data == b"from a page"

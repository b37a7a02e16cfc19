"""The gateway behind real proxies: the client address, and the identical parsing of requests.

Clients have their own addresses on the loopback network, the proxies 127.0.0.1, which alone is trusted.
"""

import dataclasses
import os
import uuid

import proxies
import pytest
import urllib3
from conftest import TOOL_KEYS, sha256
from conversation import md5
from version_2 import Talk

pytestmark = pytest.mark.gateway

CONFIGURATION = """
[server]
trusted_proxies = ["127.0.0.1"]
[rate_limit.per_ip]
requests_per_second = 0.001
burst = 40
"""
CLIENTS = ["127.0.0.2", "127.0.0.3"]


BY_HEADER = [proxies.Nginx, proxies.Haproxy]
BY_PROXY_PROTOCOL = [proxies.HaproxyLine, proxies.HaproxyBlock]


@pytest.fixture(scope="module")
def gateway(start_gateway):
    return start_gateway("fronted", CONFIGURATION)


@pytest.fixture(scope="module")
def proxied_gateway(start_gateway):
    return start_gateway("proxied", proxies.replaced(CONFIGURATION, ("[server]", "[server]\nproxy_protocol = true")))


@pytest.fixture(scope="module", params=BY_PROXY_PROTOCOL)
def named_by_connection(request, tmp_path_factory, proxied_gateway):
    proxy = request.param(tmp_path_factory.mktemp("front"), proxied_gateway.endpoint)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module", params=BY_HEADER)
def front(request, tmp_path_factory, gateway):
    proxy = request.param(tmp_path_factory.mktemp("front"), gateway.endpoint)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module", params=[proxies.NginxCdn, proxies.HaproxyCdn])
def cdn(request, tmp_path_factory, verifying_gateway, rgw_direct):
    """A bucket of RGW behind a gateway that verifies signatures, behind a proxy with the additions of a CDN."""
    proxy = request.param(tmp_path_factory.mktemp("cdn"), verifying_gateway.endpoint)
    yield dataclasses.replace(rgw_direct, endpoint=proxy.endpoint, keys=TOOL_KEYS)
    proxy.stop()


def asked(gateway, endpoint, client, path="/demo/none", **headers):
    """Sends a request from this address; returns the status and the access line."""
    identity = uuid.uuid4().hex
    with urllib3.PoolManager(retries=False, source_address=(client, 0), timeout=urllib3.Timeout(10)) as pool:
        answer = pool.request("GET", endpoint + path, headers={"x-request-id": identity, **headers})
    return answer.status, gateway.access_lines_until(identity)[-1]


@pytest.mark.parametrize("client", CLIENTS)
def test_the_client_behind_a_proxy_is_logged(gateway, front, client):
    """L3: the address that the proxy appended is used, the client's own values before it are not."""
    for spoofed in [{}, {"X-Forwarded-For": "203.0.113.1"}, {"X-Forwarded-For": "203.0.113.1, 127.0.0.1"}]:
        status, line = asked(gateway, front.endpoint, client, **spoofed)
        assert status == 404
        assert (line["client"], line["client_source"]) == (client, "forwarded")


def test_a_direct_clients_header_is_ignored(gateway):
    """L3: a forwarding header of an untrusted peer has no effect."""
    status, line = asked(gateway, gateway.endpoint, "127.0.0.4", **{"X-Forwarded-For": "127.0.0.2"})
    assert (status, line["client"], line["client_source"]) == (404, "127.0.0.4", "peer")


def test_clients_behind_a_proxy_have_separate_budgets(gateway, front):
    """L4, L1: one client's budget is spent, another's through the same proxy is full."""
    greedy, modest = front.greedy, f"{front.greedy}1"
    statuses = [asked(gateway, front.endpoint, greedy)[0] for _ in range(41)]
    assert statuses == [404] * 40 + [429]
    assert asked(gateway, front.endpoint, modest)[0] == 404


@pytest.mark.parametrize("path", ["//double//k", "/a%2Fb", "/a+b%20c", "/it's", "/~x%7E", "/100%25", "/..name", "/a;b=c&d", "/%C3%A9"])
def test_a_proxy_before_the_gateway_changes_no_path(gateway, front, path):
    """V5: the gateway parses the path that the proxy forwards."""
    status, line = asked(gateway, front.endpoint, "127.0.0.8", "/demo" + path)
    assert (status, line["path"]) == (404, "/demo" + path)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_client_in_a_proxy_header_is_logged(proxied_gateway, named_by_connection, client):
    """L3: the PROXY header's address is used, and a header of an untrusted client is not."""
    for spoofed in [{}, {"X-Forwarded-For": "203.0.113.1"}]:
        status, line = asked(proxied_gateway, named_by_connection.endpoint, client, **spoofed)
        assert (status, line["client"], line["client_source"]) == (404, client, "proxy")


def test_clients_in_proxy_headers_have_separate_budgets(proxied_gateway, named_by_connection):
    """L4, L1: one client's budget is spent, another's through the same proxy is full."""
    greedy, modest = named_by_connection.greedy, f"{named_by_connection.greedy}1"
    statuses = [asked(proxied_gateway, named_by_connection.endpoint, greedy)[0] for _ in range(41)]
    assert statuses == [404] * 40 + [429]
    assert asked(proxied_gateway, named_by_connection.endpoint, modest)[0] == 404


def test_a_direct_clients_proxy_header_is_refused(proxied_gateway):
    """L3: an untrusted peer begins with HTTP, as without the setting."""
    status, line = asked(proxied_gateway, proxied_gateway.endpoint, "127.0.0.4")
    assert (status, line["client"], line["client_source"]) == (404, "127.0.0.4", "peer")


def test_signed_requests_through_a_cdn_are_accepted(cdn, prefix):
    """A9, A1, V13: header signatures verify although the proxy added unsigned headers."""
    client = cdn.client()
    body = os.urandom(9 << 20)
    client.put_object(Bucket=cdn.bucket, Key=prefix + "a b+ü", Body=body, Metadata={"who": "me"})
    got = client.get_object(Bucket=cdn.bucket, Key=prefix + "a b+ü")
    assert (sha256(got["Body"]), got["Metadata"]) == (sha256(body), {"who": "me"})
    assert client.head_object(Bucket=cdn.bucket, Key=prefix + "a b+ü")["ContentLength"] == len(body)
    ranged = client.get_object(Bucket=cdn.bucket, Key=prefix + "a b+ü", Range="bytes=5-9")
    assert ranged["Body"].read() == body[5:10]
    client.copy_object(Bucket=cdn.bucket, Key=prefix + "copy", CopySource={"Bucket": cdn.bucket, "Key": prefix + "a b+ü"})
    upload = client.create_multipart_upload(Bucket=cdn.bucket, Key=prefix + "parts")["UploadId"]
    named = {"Bucket": cdn.bucket, "Key": prefix + "parts", "UploadId": upload}
    part = client.upload_part(**named, PartNumber=1, Body=body)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**named, MultipartUpload=parts)
    listed = client.list_objects_v2(Bucket=cdn.bucket, Prefix=prefix)["Contents"]
    assert [each["Key"] for each in listed] == [prefix + "a b+ü", prefix + "copy", prefix + "parts"]
    client.delete_objects(Bucket=cdn.bucket, Delete={"Objects": [{"Key": each["Key"]} for each in listed]})
    assert client.list_objects_v2(Bucket=cdn.bucket, Prefix=prefix)["KeyCount"] == 0


def test_presigned_urls_through_a_cdn_are_accepted(cdn, prefix):
    """A9, A1, A8: URLs of SigV4 and of SigV2, and requests with SigV2 in the header, are accepted."""
    client = cdn.client()
    params = {"Bucket": cdn.bucket, "Key": prefix + "a b"}
    path = client.generate_presigned_url("put_object", Params=params).removeprefix(cdn.endpoint)
    assert cdn.raw("PUT", path, body=b"tide").status == 200
    path = client.generate_presigned_url("get_object", Params=params).removeprefix(cdn.endpoint)
    assert cdn.raw("GET", path).data == b"tide"
    assert cdn.raw("GET", path.replace("a%20b", "a%20c")).status == 403
    talk = Talk(cdn.endpoint, cdn.keys)
    talk.bucket = cdn.bucket
    assert talk.old_url("GET", f"/{prefix}a%20b").body == b"tide"
    headers = [("x-amz-meta-one", "1"), ("Content-MD5", md5(b"old"))]
    assert talk.old("PUT", f"/{prefix}old", headers=headers, body=b"old").status == 200
    assert talk.old("GET", f"/{prefix}old").header("x-amz-meta-one") == "1"


def test_an_unsigned_s3_header_from_a_cdn_is_refused(cdn, prefix):
    """A1: an `x-amz-` header with a meaning for the store must be signed, also if a proxy added it."""
    url = cdn.client().generate_presigned_url("put_object", Params={"Bucket": cdn.bucket, "Key": prefix + "o"})
    answer = cdn.raw("PUT", url.removeprefix(cdn.endpoint), body=b"x", headers={"x-amz-acl": "public-read"})
    assert answer.status == 403
    assert b"<Code>AccessDenied</Code>" in answer.data

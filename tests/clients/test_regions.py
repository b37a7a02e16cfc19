"""Regions, CDNs and tunnels: real clients with their defaults, with a gateway that verifies signatures.

One store is the embedded origin, the other a Ceph Object Gateway that the gateway signs for in another region.
"""

import dataclasses
import uuid

import proxies
import pytest
import urllib3
from botocore.exceptions import ClientError
from configuration import DATA, key, policy, section
from conftest import Target, code_of
from tool import assert_empty, aws_cli

pytestmark = pytest.mark.gateway

KEYS = ("AKIAREGIONS", "regions/secret+of/forty=characters")
REGIONS = ["us-east-1", "eu-west-1", "ap-southeast-2", "garage"]


class Cdn(proxies.Nginx):
    """Adds a CDN's header to each request, and changes the requested encoding."""

    template = proxies.replaced(
        proxies.Nginx.template,
        (
            "proxy_set_header Host $host;",
            'proxy_set_header Host $http_host;\n      proxy_set_header X-Amz-Cf-Id "5Zx-q_Y==";\n'
            '      proxy_set_header Accept-Encoding "gzip";',
        ),
    )


@pytest.fixture(scope="module")
def gateway(start_gateway, origin_server, rgw_server):
    """Buckets that accept SigV4 only. One store has another region, which clients never get."""
    return start_gateway(
        "regions",
        section("demo", origin_server),
        section("fixed", origin_server, bucket="demo", more='client_regions = ["eu-west-1"]'),
        section("every", rgw_server, pattern="*", upstream='region = "eu-central-1"'),
        key(KEYS),
        policy(methods=DATA),
    )


@pytest.fixture(params=["origin", "rgw"])
def signed_target(request, gateway):
    store = request.getfixturevalue(request.param)
    return dataclasses.replace(store, endpoint=gateway.endpoint, keys=KEYS)


@pytest.mark.parametrize("region", REGIONS)
def test_boto3_in_any_region(signed_target, prefix, region):
    """A9: objects, HEAD among them, listings and presigned URLs; the location is the gateway's."""
    client = signed_target.client(region=region, signature=None)
    key = prefix + "a b"
    client.put_object(Bucket=signed_target.bucket, Key=key, Body=b"tide")
    assert client.head_object(Bucket=signed_target.bucket, Key=key)["ContentLength"] == 4
    assert client.get_object(Bucket=signed_target.bucket, Key=key)["Body"].read() == b"tide"
    assert client.list_objects_v2(Bucket=signed_target.bucket, Prefix=prefix)["KeyCount"] == 1
    assert client.get_bucket_location(Bucket=signed_target.bucket)["LocationConstraint"] is None
    assert client.head_bucket(Bucket=signed_target.bucket)["BucketRegion"] == "us-east-1"
    assert client.list_buckets()["Buckets"]
    signed = signed_target.client(region=region)
    url = signed.generate_presigned_url("get_object", Params={"Bucket": signed_target.bucket, "Key": key})
    with urllib3.PoolManager(retries=False) as pool:
        assert pool.request("GET", url).data == b"tide"
    with pytest.raises(ClientError) as error:
        client.head_object(Bucket=signed_target.bucket, Key=prefix + "none")
    assert code_of(error) == (404, "404")
    headers = error.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amz-bucket-region"] == "us-east-1"
    with pytest.raises(ClientError) as error:
        client.get_bucket_location(Bucket=f"no-such-{uuid.uuid4().hex[:8]}")
    assert code_of(error) == (404, "NoSuchBucket")
    client.delete_object(Bucket=signed_target.bucket, Key=key)


def test_the_aws_cli_without_a_region(signed_target, prefix, tmp_path):
    """A9: `aws s3 cp` in both directions, `ls` and `rm` without a configured region."""
    aws = aws_cli("v1", signed_target, tmp_path)
    (tmp_path / "up").write_bytes(b"tide" * 1000)
    base = f"s3://{signed_target.bucket}/{prefix}"
    aws("s3", "cp", "--no-progress", tmp_path / "up", base + "o")
    aws("s3", "cp", "--no-progress", base + "o", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b"tide" * 1000
    assert " o\n" in aws("s3", "ls", base)
    assert "demo" in aws("s3", "ls")
    aws("s3", "rm", base + "o")
    assert_empty(aws, base)


def test_boto3_switches_to_the_listed_region(gateway, prefix):
    """A9: signed for another region, boto3 takes the right one from the answer, also from one without a body."""
    fixed = Target("fixed", gateway.endpoint, "fixed", KEYS)
    for number, ask in enumerate(
        [
            lambda client: client.put_object(Bucket="fixed", Key=prefix + "o", Body=b"x"),
            lambda client: client.head_object(Bucket="fixed", Key=prefix + "o"),
            lambda client: client.get_object(Bucket="fixed", Key=prefix + "o")["Body"].read(),
            lambda client: client.head_bucket(Bucket="fixed"),
        ]
    ):
        assert ask(fixed.client(signature=None)), number
    for region in ("us-east-1", "us-west-2"):
        location = fixed.client(region=region, signature=None).get_bucket_location(Bucket="fixed")
        assert location["LocationConstraint"] == "eu-west-1"


def test_a_cdn_may_add_its_header(signed_target, gateway, prefix, tmp_path):
    """A1: header signatures and presigned URLs through a proxy that adds `x-amz-cf-id`, on both kinds of store."""
    proxy = Cdn(tmp_path, gateway.endpoint)
    try:
        through = dataclasses.replace(signed_target, endpoint=proxy.endpoint)
        client = through.client()
        named = {"Bucket": through.bucket, "Key": prefix + "o"}
        client.put_object(Body=b"x" * 5000, **named)
        url = client.generate_presigned_url("get_object", Params=named)
        with urllib3.PoolManager(retries=False) as pool:
            assert pool.request("GET", url).data == b"x" * 5000
        client.delete_object(**named)
    finally:
        proxy.stop()


def test_the_error_shows_a_header_that_a_tunnel_changed(gateway, tmp_path):
    """A1: the answer shows the header as received, and boto3 reports it."""
    proxy = Cdn(tmp_path, gateway.endpoint)
    try:
        client = Target("demo", proxy.endpoint, "demo", KEYS).client(signature=None)

        def sign_it_too(request, **_):
            request.headers["Accept-Encoding"] = "identity"

        client.meta.events.register("before-sign.s3", sign_it_too)
        with pytest.raises(ClientError) as error:
            client.list_objects_v2(Bucket="demo")
        assert code_of(error) == (403, "SignatureDoesNotMatch")
        shown = error.value.response["Error"]
        assert "\naccept-encoding:gzip\n" in shown["CanonicalRequest"]
        assert shown["AWSAccessKeyId"] == KEYS[0]
        assert bytes.fromhex(shown["StringToSignBytes"]) == shown["StringToSign"].encode()
    finally:
        proxy.stop()

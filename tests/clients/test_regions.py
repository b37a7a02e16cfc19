"""Regions, CDNs and tunnels: real clients with their defaults, before a gateway that verifies signatures.

One store is the embedded origin, the other a Ceph Object Gateway that the gateway signs for in another region.
"""

import dataclasses
import os
import subprocess
import sys
import uuid

import boto3
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError

import servers
from conftest import Target, code_of

pytestmark = pytest.mark.gateway

KEYS = ("AKIAREGIONS", "regions/secret+of/forty=characters")
REGIONS = ["us-east-1", "eu-west-1", "ap-southeast-2", "garage"]


class Cdn(servers.Nginx):
    """Adds the header of a CDN to each request, and asks for another encoding than the client did."""

    template = servers.Nginx.template.replace(
        "proxy_set_header Host $host;",
        'proxy_set_header Host $http_host;\n      proxy_set_header X-Amz-Cf-Id "5Zx-q_Y==";\n'
        '      proxy_set_header Accept-Encoding "gzip";',
    )


@pytest.fixture(scope="module")
def gateway(origin_server, rgw_server, tmp_path_factory):
    """Buckets that take signatures only; what the store calls its region is of no interest to clients."""
    configuration = f"""
[buckets.demo]
auth = ["sigv4"]
s3.endpoints = ["{origin_server.endpoint}"]
[buckets.fixed]
auth = ["sigv4"]
client_regions = ["eu-west-1"]
s3.endpoints = ["{origin_server.endpoint}"]
s3.bucket = "demo"
[buckets.every]
pattern = "*"
auth = ["sigv4"]
[buckets.every.s3]
region = "eu-central-1"
endpoints = ["{rgw_server.endpoint}"]
access_key_id = "{rgw_server.access_key_id}"
secret_access_key = "{rgw_server.secret_access_key}"
[keys.{KEYS[0]}]
secret = "{KEYS[1]}"
policy = "all"
[policies.all]
buckets = ["*"]
methods = ["read", "write", "delete", "list"]
"""
    gateway = servers.Gateway(tmp_path_factory.mktemp("regions"), configuration)
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture(params=["origin", "rgw"])
def place(request, gateway):
    store = request.getfixturevalue(request.param)
    return dataclasses.replace(store, endpoint=gateway.endpoint, keys=KEYS)


def boto(place, region, **settings):
    """A client with everything but endpoint, keys and region left at its default."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=place.endpoint,
        region_name=region,
        aws_access_key_id=place.keys[0],
        aws_secret_access_key=place.keys[1],
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **settings),
    )


@pytest.mark.parametrize("region", REGIONS)
def test_boto3_in_any_region(place, prefix, region):
    """A9: objects, HEAD among them, listings and presigned URLs; the location is the gateway's."""
    client = boto(place, region)
    key = prefix + "a b"
    client.put_object(Bucket=place.bucket, Key=key, Body=b"tide")
    assert client.head_object(Bucket=place.bucket, Key=key)["ContentLength"] == 4
    assert client.get_object(Bucket=place.bucket, Key=key)["Body"].read() == b"tide"
    assert client.list_objects_v2(Bucket=place.bucket, Prefix=prefix)["KeyCount"] == 1
    assert client.get_bucket_location(Bucket=place.bucket)["LocationConstraint"] is None
    assert client.head_bucket(Bucket=place.bucket)["BucketRegion"] == "us-east-1"
    assert client.list_buckets()["Buckets"]
    signed = boto(place, region, signature_version="s3v4")
    url = signed.generate_presigned_url("get_object", Params={"Bucket": place.bucket, "Key": key})
    with urllib3.PoolManager(retries=False) as pool:
        assert pool.request("GET", url).data == b"tide"
    with pytest.raises(ClientError) as error:
        client.head_object(Bucket=place.bucket, Key=prefix + "none")
    assert code_of(error) == (404, "404")
    headers = error.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amz-bucket-region"] == "us-east-1"
    with pytest.raises(ClientError) as error:
        client.get_bucket_location(Bucket=f"no-such-{uuid.uuid4().hex[:8]}")
    assert code_of(error) == (404, "NoSuchBucket")
    client.delete_object(Bucket=place.bucket, Key=key)


def test_the_aws_cli_without_a_region(place, prefix, tmp_path):
    """A9: `aws s3 cp` both ways, `ls` and `rm` where nothing names a region."""

    def aws(*arguments):
        environment = servers.clean_environment(
            AWS_ACCESS_KEY_ID=place.keys[0],
            AWS_SECRET_ACCESS_KEY=place.keys[1],
            AWS_CONFIG_FILE=os.devnull,
            AWS_SHARED_CREDENTIALS_FILE=os.devnull,
            AWS_EC2_METADATA_DISABLED="true",
            AWS_MAX_ATTEMPTS="1",
        )
        command = [sys.executable, "-m", "awscli", "--endpoint-url", place.endpoint, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=180)
        assert done.returncode == 0, f"aws {arguments}: {done.stderr.decode()}"
        return done.stdout.decode()

    (tmp_path / "up").write_bytes(b"tide" * 1000)
    remote = f"s3://{place.bucket}/{prefix}o"
    aws("s3", "cp", "--no-progress", tmp_path / "up", remote)
    aws("s3", "cp", "--no-progress", remote, tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b"tide" * 1000
    assert " o\n" in aws("s3", "ls", f"s3://{place.bucket}/{prefix}")
    assert "demo" in aws("s3", "ls")
    aws("s3", "rm", remote)


def test_boto3_follows_to_the_region_that_a_bucket_lists(gateway, prefix):
    """A9: signed for another region, boto3 reads the right one from the answer, also from one without a body."""
    place = Target("fixed", gateway.endpoint, "fixed", KEYS)
    for number, ask in enumerate(
        [
            lambda client: client.put_object(Bucket="fixed", Key=prefix + "o", Body=b"x"),
            lambda client: client.head_object(Bucket="fixed", Key=prefix + "o"),
            lambda client: client.get_object(Bucket="fixed", Key=prefix + "o")["Body"].read(),
            lambda client: client.head_bucket(Bucket="fixed"),
        ]
    ):
        assert ask(boto(place, "us-east-1")), number
    for region in ("us-east-1", "us-west-2"):
        location = boto(place, region).get_bucket_location(Bucket="fixed")
        assert location["LocationConstraint"] == "eu-west-1"


def test_a_cdn_may_add_its_header(place, gateway, prefix, tmp_path):
    """A1: header signatures and presigned URLs through a proxy that adds `x-amz-cf-id`, on both kinds of store."""
    proxy = Cdn(tmp_path, gateway.endpoint)
    try:
        through = dataclasses.replace(place, endpoint=proxy.endpoint)
        client = boto(through, "us-east-1", signature_version="s3v4")
        place = {"Bucket": through.bucket, "Key": prefix + "o"}
        client.put_object(Body=b"x" * 5000, **place)
        url = client.generate_presigned_url("get_object", Params=place)
        with urllib3.PoolManager(retries=False) as pool:
            assert pool.request("GET", url).data == b"x" * 5000
        client.delete_object(**place)
    finally:
        proxy.stop()


def test_a_tunnel_that_changes_a_header_can_be_found(gateway, tmp_path):
    """A1: the answer shows the header as it arrived, and boto3 hands it on."""
    proxy = Cdn(tmp_path, gateway.endpoint)
    try:
        client = boto(Target("demo", proxy.endpoint, "demo", KEYS), "us-east-1")

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

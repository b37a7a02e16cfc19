"""DeleteObjects through boto3 with a key that may delete below one prefix: denied keys are reported one by one."""

import uuid

import boto3
import pytest
from botocore.config import Config

import servers

pytestmark = pytest.mark.gateway

ALL = ("AKIADELETEALL", "delete/secret+of/forty=characters")
GUEST = ("AKIADELETEGUEST", "guest/secret+of/forty=characters")


@pytest.fixture(scope="module")
def endpoint(origin_server, rgw_server, rgw_direct, tmp_path_factory):
    """A gateway before the embedded origin and before RGW, with a key that may do all and one that is bound to a prefix."""
    configuration = f"""
[buckets.at-origin]
auth = ["sigv4"]
[buckets.at-origin.s3]
endpoints = ["{origin_server.endpoint}"]
bucket = "demo"
[buckets.at-rgw]
auth = ["sigv4"]
[buckets.at-rgw.s3]
endpoints = ["{rgw_server.endpoint}"]
bucket = "{rgw_direct.bucket}"
access_key_id = "{rgw_server.access_key_id}"
secret_access_key = "{rgw_server.secret_access_key}"
[keys.{ALL[0]}]
secret = "{ALL[1]}"
policy = "all"
[keys.{GUEST[0]}]
secret = "{GUEST[1]}"
policy = "guest"
[policies.all]
buckets = ["*"]
methods = ["read", "write", "list", "delete"]
[policies.guest]
buckets = ["*"]
prefixes = ["public/", "öffentlich/"]
methods = ["delete"]
"""
    gateway = servers.Gateway(tmp_path_factory.mktemp("multi-delete"), configuration)
    yield gateway.endpoint
    assert gateway.stop() == 0


@pytest.fixture(params=["at-origin", "at-rgw"])
def bucket(request):
    return request.param


def client(endpoint, keys, checksums="when_required"):
    config = Config(
        signature_version="s3v4",
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path"},
        request_checksum_calculation=checksums,
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        config=config,
    )


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_denied_keys_are_reported_and_the_others_deleted(endpoint, bucket, quiet, algorithm):
    """E5, A5: the answer is what S3 gives for a mixed list, and only the allowed objects are gone."""
    run = uuid.uuid4().hex[:8]
    allowed = [f"public/{run}/{name}" for name in ("a", "b & <c>", "d'e\"")] + [f"öffentlich/{run}"]
    denied = [f"private/{run}/{name}" for name in ("a", "b & <c>")] + [f"{run}public/x"]
    owner = client(endpoint, ALL)
    for key in allowed + denied:
        owner.put_object(Bucket=bucket, Key=key, Body=b"x")
    mixed = [key for pair in zip(denied, allowed) for key in pair] + allowed[3:] + [f"public/{run}/never-there"]
    answer = client(endpoint, GUEST, "when_supported").delete_objects(
        Bucket=bucket,
        Delete={"Objects": [{"Key": key} for key in mixed], "Quiet": quiet},
        ChecksumAlgorithm=algorithm,
    )
    assert {(error["Key"], error["Code"]) for error in answer["Errors"]} == {(key, "AccessDenied") for key in denied}
    assert len(answer["Errors"]) == len(denied)
    deleted = {item["Key"] for item in answer.get("Deleted", [])}
    assert deleted == (set() if quiet else {*allowed, f"public/{run}/never-there"})
    left = {key for key in allowed + denied if exists(owner, bucket, key)}
    assert left == set(denied)


def test_nothing_is_deleted_where_all_is_denied(endpoint, bucket):
    """E5: a list of denied keys alone is answered with an error for each."""
    key = f"private/{uuid.uuid4().hex}"
    owner = client(endpoint, ALL)
    owner.put_object(Bucket=bucket, Key=key, Body=b"x")
    objects = [{"Key": key}, {"Key": key, "VersionId": "null"}]
    answer = client(endpoint, GUEST).delete_objects(Bucket=bucket, Delete={"Objects": objects})
    told = [(error["Key"], error.get("VersionId"), error["Code"]) for error in answer["Errors"]]
    assert told == [(key, None, "AccessDenied"), (key, "null", "AccessDenied")]
    assert exists(owner, bucket, key)


def exists(owner, bucket, key):
    try:
        owner.head_object(Bucket=bucket, Key=key)
    except owner.exceptions.ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
        return False
    return True

"""DeleteObjects through boto3 with a key that may delete below one prefix: denied keys are reported one by one."""

import uuid

import pytest
from configuration import DATA, both_stores, key, policy
from conftest import Target

pytestmark = pytest.mark.gateway

OWNER = ("AKIADELETEALL", "delete/secret+of/forty=characters")
GUEST = ("AKIADELETEGUEST", "guest/secret+of/forty=characters")


@pytest.fixture(scope="module")
def client(start_gateway, origin_server, rgw_server, rgw_direct):
    """Creates clients of a gateway with a key with all rights and one that may delete below two prefixes."""
    gateway = start_gateway(
        "multi-delete",
        both_stores(origin_server, rgw_server, rgw_direct.bucket),
        key(OWNER),
        key(GUEST, policy="guest"),
        policy(methods=DATA),
        policy("guest", methods=("delete",), prefixes=("public/", "öffentlich/")),
    )

    def make(keys, checksums="when_required"):
        return Target("multi-delete", gateway.endpoint, "", keys).client(checksums=checksums)

    return make


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_denied_keys_are_reported_and_the_others_deleted(client, bucket, quiet, algorithm):
    """E5, A5: the answer is S3's for a mixed list, and only the allowed objects are deleted."""
    run = uuid.uuid4().hex[:8]
    allowed = [f"public/{run}/{name}" for name in ("a", "b & <c>", "d'e\"")] + [f"öffentlich/{run}"]
    denied = [f"private/{run}/{name}" for name in ("a", "b & <c>")] + [f"{run}public/x"]
    owner = client(OWNER)
    for name in allowed + denied:
        owner.put_object(Bucket=bucket, Key=name, Body=b"x")
    mixed = [key for pair in zip(denied, allowed) for key in pair] + allowed[3:] + [f"public/{run}/never-there"]
    answer = client(GUEST, "when_supported").delete_objects(
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


def test_nothing_is_deleted_where_all_is_denied(client, bucket):
    """E5: a list of only denied keys is answered with an error for each."""
    key = f"private/{uuid.uuid4().hex}"
    owner = client(OWNER)
    owner.put_object(Bucket=bucket, Key=key, Body=b"x")
    objects = [{"Key": key}, {"Key": key, "VersionId": "null"}]
    answer = client(GUEST).delete_objects(Bucket=bucket, Delete={"Objects": objects})
    errors = [(error["Key"], error.get("VersionId"), error["Code"]) for error in answer["Errors"]]
    assert errors == [(key, None, "AccessDenied"), (key, "null", "AccessDenied")]
    assert exists(owner, bucket, key)


def exists(owner, bucket, key):
    try:
        owner.head_object(Bucket=bucket, Key=key)
    except owner.exceptions.ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
        return False
    return True

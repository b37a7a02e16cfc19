"""The embedded origin, the first store of new users: keys are not paths, and the unimplemented operations."""

import os
import uuid

import pytest
from botocore.exceptions import ClientError
from conftest import code_of, sha256
from tool import AWS_CLI, assert_empty, aws_cli, make_tree, read_tree

# More than the size from which the AWS CLI and boto3 copy in parts.
LARGE_BYTES = 65 << 20


@pytest.fixture(scope="module")
def client(origin):
    return origin.client()


@pytest.fixture(params=AWS_CLI)
def aws(request, origin, tmp_path):
    return aws_cli(request.param, origin, tmp_path)


def refused(call, **arguments):
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return code_of(error)


def keys(client, bucket, prefix):
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def test_a_folder_is_not_an_object(origin, client, prefix):
    """B3, R1: mount tools request folders often: a 500 would open the circuit for all clients."""
    client.put_object(Bucket=origin.bucket, Key=prefix + "folder/o", Body=b"x")
    for _ in range(12):
        for key in (prefix + "folder", prefix + "folder/", prefix + "folder/o/"):
            assert refused(client.head_object, Bucket=origin.bucket, Key=key)[0] == 404
            assert refused(client.get_object, Bucket=origin.bucket, Key=key) == (404, "NoSuchKey")
    assert client.get_object(Bucket=origin.bucket, Key=prefix + "folder/o")["Body"].read() == b"x"


def test_a_key_can_be_a_folder_too(origin, client, prefix):
    """V5: `o`, `o/`, `o//below` and `o/below` are four keys, and each is deleted separately."""
    names = [prefix + name for name in ("o", "o/", "o//below", "o/below")]
    for name in names:
        client.put_object(Bucket=origin.bucket, Key=name, Body=name.encode())
    for name in names:
        assert client.get_object(Bucket=origin.bucket, Key=name)["Body"].read() == name.encode()
    assert keys(client, origin.bucket, prefix) == sorted(names)
    client.delete_object(Bucket=origin.bucket, Key=prefix + "o/")
    client.delete_objects(Bucket=origin.bucket, Delete={"Objects": [{"Key": prefix + "o//below"}]})
    assert keys(client, origin.bucket, prefix) == [prefix + "o", prefix + "o/below"]


@pytest.mark.parametrize("length", [100, 164, 165, 255, 260, 900, 1024])
def test_a_key_may_be_as_long_as_s3_allows(origin, client, prefix, length):
    """V5, E1: up to 1024 bytes; a longer one is KeyTooLongError, before anything is stored."""
    key = prefix + "k" * (length - len(prefix))
    client.put_object(Bucket=origin.bucket, Key=key, Body=b"x")
    assert client.get_object(Bucket=origin.bucket, Key=key)["Body"].read() == b"x"
    too_long = key + "k" * (1025 - length)
    assert refused(client.put_object, Bucket=origin.bucket, Key=too_long, Body=b"x") == (400, "KeyTooLongError")


def test_buckets_are_created_and_removed(origin, aws, tmp_path):
    """E1, V2: `aws s3 mb`, `ls`, `cp` of 4 bytes and of 65 MiB, up, within the origin and down, `rb`; a bucket with
    objects is 409."""
    bucket = f"made-{uuid.uuid4().hex[:8]}"
    base = f"s3://{bucket}/"
    bodies = {"small": b"tide", "large": os.urandom(LARGE_BYTES)}
    aws("s3", "mb", f"s3://{bucket}")
    assert {bucket, "demo"} <= set(aws("s3", "ls").split())
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
        aws("s3", "cp", "--no-progress", name, base + name)
        aws("s3", "cp", "--no-progress", base + name, f"{base}copy of {name}")
        aws("s3", "cp", "--no-progress", f"{base}copy of {name}", "back")
        assert sha256(tmp_path / "back") == sha256(body)
    listed = [line.split(maxsplit=3)[2:] for line in aws("s3", "ls", base).splitlines()]
    sizes = {name: str(len(body)) for name, body in bodies.items()}
    assert listed == [[sizes[name.split()[-1]], name] for name in ("copy of large", "copy of small", "large", "small")]
    kept = aws.run("s3", "rb", f"s3://{bucket}")
    assert kept.returncode != 0
    assert b"BucketNotEmpty" in kept.stderr
    aws("s3", "rb", "--force", f"s3://{bucket}")
    assert refused(origin.client().head_bucket, Bucket=bucket)[0] == 404
    assert bucket not in aws("s3", "ls")


def test_a_tree_is_synchronised(origin, aws, prefix, tmp_path):
    """V5, E1: `aws s3 sync` of unusual names in both directions, a second one that transfers nothing, `mv`, ranges,
    `rm`."""
    base = f"s3://{origin.bucket}/{prefix}"
    files = make_tree(tmp_path / "up")
    aws("s3", "sync", "--no-progress", "up", base + "tree")
    assert aws("s3", "sync", "--no-progress", "up", base + "tree") == ""
    aws("s3", "sync", "--no-progress", base + "tree", "down")
    assert read_tree(tmp_path / "down") == files
    aws("s3", "mv", "--no-progress", base + "tree/a b+c.txt", base + "moved ü")
    assert [line.split(maxsplit=3)[-1] for line in aws("s3", "ls", base).splitlines()] == ["tree/", "moved ü"]
    named = ("--bucket", origin.bucket, "--key", prefix + "moved ü")
    aws("s3api", "get-object", *named, "--range", "bytes=5-9", "piece")
    assert (tmp_path / "piece").read_bytes() == files["a b+c.txt"][5:10]
    aws("s3", "rm", "--recursive", base)
    assert_empty(aws, base)


def test_conditions_of_reads(origin, client, prefix):
    """I2: 304 and 412 for GET and HEAD, as in any S3 server."""
    place = {"Bucket": origin.bucket, "Key": prefix + "o"}
    client.put_object(Body=b"stored", **place)
    head = client.head_object(**place)
    for call in (client.get_object, client.head_object):
        assert refused(call, IfNoneMatch=head["ETag"], **place)[0] == 304
        assert refused(call, IfModifiedSince=head["LastModified"], **place)[0] == 304
        assert refused(call, IfMatch='"other"', **place)[0] == 412
        assert call(IfMatch=head["ETag"], IfModifiedSince="2000-01-01", **place)["ContentLength"] == 6
    for _ in range(3):
        assert refused(client.get_object, IfNoneMatch=head["ETag"], **place)[0] == 304
        assert client.get_object(**place)["Body"].read() == b"stored"


def test_several_attributes_are_returned_at_once(origin, client, prefix):
    """I2: clients send the attribute names as one list."""
    key = prefix + "attributes"
    client.put_object(Bucket=origin.bucket, Key=key, Body=b"five!")
    wanted = ["ETag", "ObjectSize", "StorageClass"]
    attributes = client.get_object_attributes(Bucket=origin.bucket, Key=key, ObjectAttributes=wanted)
    assert (attributes["ObjectSize"], attributes["StorageClass"]) == (5, "STANDARD")
    assert attributes["ETag"].strip('"') == client.head_object(Bucket=origin.bucket, Key=key)["ETag"].strip('"')


def test_a_large_copy_in_parts(origin, client, aws, prefix):
    """V2: boto3 and both versions of the AWS CLI copy 65 MiB in parts; version 2 asks for the tags first."""
    body = os.urandom(LARGE_BYTES)
    client.put_object(Bucket=origin.bucket, Key=prefix + "large", Body=body, Tagging="a=1")
    tags = client.get_object_tagging(Bucket=origin.bucket, Key=prefix + "large")
    assert tags["TagSet"] == [{"Key": "a", "Value": "1"}]
    client.copy({"Bucket": origin.bucket, "Key": prefix + "large"}, origin.bucket, prefix + "boto3")
    base = f"s3://{origin.bucket}/{prefix}"
    aws("s3", "cp", "--no-progress", base + "large", base + "cli")
    for name in ("boto3", "cli"):
        got = client.get_object(Bucket=origin.bucket, Key=prefix + name)
        assert got["ETag"].strip('"').count("-") == 1, "it was not copied in parts"
        assert sha256(got["Body"]) == sha256(body)


def test_uploads_are_listed(origin, client, prefix):
    """E1: ListMultipartUploads, ListParts, AbortMultipartUpload; parts of a removed upload are NoSuchUpload."""
    place = {"Bucket": origin.bucket, "Key": prefix + "o"}
    upload = {**place, "UploadId": client.create_multipart_upload(**place)["UploadId"]}
    tag = client.upload_part(PartNumber=2, Body=b"x" * 10, **upload)["ETag"]
    listed = client.list_multipart_uploads(Bucket=origin.bucket, Prefix=prefix)["Uploads"]
    assert [(item["Key"], item["UploadId"]) for item in listed] == [(place["Key"], upload["UploadId"])]
    parts = client.list_parts(**upload)["Parts"]
    assert [(item["PartNumber"], item["Size"], item["ETag"]) for item in parts] == [(2, 10, tag)]
    client.abort_multipart_upload(**upload)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=origin.bucket, Prefix=prefix)
    assert refused(client.list_parts, **upload) == (404, "NoSuchUpload")


def test_names_in_listings_are_encoded(origin, client, prefix):
    """V5: `encoding-type=url`, which boto3 requests and decodes."""
    names = [prefix + name for name in ("a+b", "a b", "%41", "ü/x", "\x01control")]
    for name in names:
        client.put_object(Bucket=origin.bucket, Key=name, Body=b"")
    assert keys(client, origin.bucket, prefix) == sorted(names)
    raw = origin.client().list_objects_v2(Bucket=origin.bucket, Prefix=prefix, EncodingType="url", Delimiter="/")
    assert raw["CommonPrefixes"][0]["Prefix"].endswith("%C3%BC/")


def test_unimplemented_operations_are_501(origin, client):
    """E5: 501 for an unimplemented operation, never a silent success."""
    enabled = {"Status": "Enabled"}
    lacking = [
        (client.put_bucket_versioning, {"VersioningConfiguration": enabled}),
        (client.list_object_versions, {}),
        (client.put_bucket_policy, {"Policy": "{}"}),
        (client.get_bucket_lifecycle_configuration, {}),
        (client.get_bucket_acl, {}),
        (client.get_bucket_cors, {}),
        (client.put_object, {"Key": "o", "Body": b"x", "ServerSideEncryption": "AES256"}),
        (client.put_object, {"Key": "o", "Body": b"x", "ACL": "public-read"}),
    ]
    for call, arguments in lacking:
        assert refused(call, Bucket=origin.bucket, **arguments) == (501, "NotImplemented"), call
    assert "Status" not in client.get_bucket_versioning(Bucket=origin.bucket)

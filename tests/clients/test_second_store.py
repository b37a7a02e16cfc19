"""A second S3 server behind the gateway: JuiceFS, which requires Content-MD5 for multi-deletes and refuses trailers."""

import dataclasses
import io
import os

import crt
import pytest
import servers
from awscrt.s3 import S3ResponseError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from configuration import before_all
from conftest import DIRECT, TOOL_KEYS, Target, code_of, sha256
from tool import AWKWARD, fetch

PART_BYTES = 5 << 20


@pytest.fixture(scope="module")
def juicefs(tmp_path_factory):
    server = servers.Juicefs(tmp_path_factory.mktemp("juicefs"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def direct(juicefs):
    target = Target("juicefs", juicefs.endpoint, "second-store", (juicefs.access_key_id, juicefs.secret_access_key))
    target.client().create_bucket(Bucket=target.bucket)
    return target


@pytest.fixture(scope="module")
def second(request, juicefs, direct):
    """The store through a gateway that computes Content-MD5 for the documents that need it."""
    if DIRECT:
        return direct
    configuration = before_all(juicefs, TOOL_KEYS, auth=("sigv4", "sigv2"), upstream='content_md5 = "add"')
    gateway = request.getfixturevalue("start_gateway")("second", configuration)
    return dataclasses.replace(direct, endpoint=gateway.endpoint, keys=TOOL_KEYS)


def test_objects(second, prefix):
    """A1, A2, V5, I2: put, head, ranges, conditions, list, copy, presigned URLs, delete."""
    client = second.client()
    for name in AWKWARD:
        client.put_object(Bucket=second.bucket, Key=prefix + name, Body=name.encode(), Metadata={"who": "me"})
    listed = client.list_objects_v2(Bucket=second.bucket, Prefix=prefix)
    assert sorted(each["Key"] for each in listed["Contents"]) == sorted(prefix + name for name in AWKWARD)
    for name in AWKWARD:
        got = client.get_object(Bucket=second.bucket, Key=prefix + name)
        assert (got["Body"].read(), got["Metadata"]) == (name.encode(), {"who": "me"})
    named = {"Bucket": second.bucket, "Key": prefix + "plain.txt"}
    ranged = client.get_object(**named, Range="bytes=2-4")
    assert (ranged["Body"].read(), ranged["ContentRange"]) == (b"ain", "bytes 2-4/9")
    with pytest.raises(ClientError) as error:
        client.get_object(**named, IfNoneMatch=client.head_object(**named)["ETag"])
    assert code_of(error)[0] == 304
    client.copy_object(Bucket=second.bucket, Key=prefix + "copy", CopySource=named)
    assert fetch(client.generate_presigned_url("get_object", Params={**named, "Key": prefix + "copy"})) == (200, b"plain.txt")
    client.delete_object(**named)
    with pytest.raises(ClientError) as error:
        client.get_object(**named)
    assert code_of(error) == (404, "NoSuchKey")


def test_parts(second, prefix):
    """A2, I1: a multipart upload, also from a stream, with the SDK's default checksums."""
    client, body = second.client(), os.urandom(2 * PART_BYTES + 1)
    transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
    client.upload_fileobj(io.BytesIO(body), second.bucket, prefix + "big", Config=transfer)
    assert sha256(client.get_object(Bucket=second.bucket, Key=prefix + "big")["Body"]) == sha256(body)
    upload = client.create_multipart_upload(Bucket=second.bucket, Key=prefix + "never")["UploadId"]
    client.abort_multipart_upload(Bucket=second.bucket, Key=prefix + "never", UploadId=upload)
    with pytest.raises(ClientError) as error:
        client.list_parts(Bucket=second.bucket, Key=prefix + "never", UploadId=upload)
    assert code_of(error) == (404, "NoSuchUpload")


@pytest.mark.gateway
def test_several_deletes(second, direct, prefix):
    """I1, E5: boto3 sends CRC32, the store requires Content-MD5: the store alone refuses the request, the gateway adds
    the digest."""
    client = second.client()
    for name in ("a b", "c+d", "ü"):
        client.put_object(Bucket=second.bucket, Key=prefix + name, Body=b"x")
    keys = {"Objects": [{"Key": prefix + name} for name in ("a b", "c+d", "ü")]}
    with pytest.raises(ClientError) as error:
        direct.client().delete_objects(Bucket=second.bucket, Delete=keys)
    assert code_of(error) == (400, "MissingContentMD5")
    gone = client.delete_objects(Bucket=second.bucket, Delete=keys)
    assert (len(gone["Deleted"]), gone.get("Errors")) == (3, None)
    assert "Contents" not in client.list_objects_v2(Bucket=second.bucket, Prefix=prefix)


@pytest.mark.gateway
def test_a_checksum_in_a_trailer(second, direct, prefix, tmp_path):
    """A1, I1: the store alone refuses it; the gateway verifies the checksum and sends the body without a trailer."""
    (tmp_path / "in").write_bytes(os.urandom(6 << 20))
    with pytest.raises(S3ResponseError) as error:
        crt.put_with_trailer(crt.make_client(direct), direct, prefix + "o", tmp_path / "in", "CRC32C")
    assert error.value.status_code == 400
    crt.put_with_trailer(crt.make_client(second), second, prefix + "o", tmp_path / "in", "CRC32C")
    got = second.client().get_object(Bucket=second.bucket, Key=prefix + "o")
    assert sha256(got["Body"]) == sha256(tmp_path / "in")


def test_buckets(second, prefix):
    """E2: a bucket is created, listed, removed; a listing of a missing bucket is NoSuchBucket."""
    client, name = second.client(), f"made-{prefix[2:-1]}"
    client.create_bucket(Bucket=name)
    assert {second.bucket, name} <= {each["Name"] for each in client.list_buckets()["Buckets"]}
    client.delete_bucket(Bucket=name)
    with pytest.raises(ClientError) as error:
        client.list_objects_v2(Bucket=name)
    assert code_of(error) == (404, "NoSuchBucket")

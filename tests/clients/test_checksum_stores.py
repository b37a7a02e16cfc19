"""The checksum algorithms of 2026 through boto3, and boto3's defaults with stores that accept no checksum or require
Content-MD5.

The values of the XXH hashes are the AWS Common Runtime's for the nine digits: boto3 sends a given checksum without the
runtime.
"""

import base64
import dataclasses
import hashlib
import io
import os

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from configuration import section
from conftest import DUMMY_KEYS, Target, code_of, sha256

DIGITS = b"123456789"
# Sizes below and above the gateway's limit for buffering.
SIZES = [1000, 300_000]
PART_BYTES = 5 << 20


def encoded(digest):
    return base64.b64encode(digest).decode()


CHECKSUMS = {
    "ChecksumSHA512": encoded(hashlib.sha512(DIGITS).digest()),
    "ChecksumMD5": encoded(hashlib.md5(DIGITS).digest()),
    "ChecksumXXHASH64": "jLhB20DmroM=",
    "ChecksumXXHASH3": "ctyxi2ehff8=",
    "ChecksumXXHASH128": "MxGUd+3l3NXpcWQnaB1YYA==",
}


@pytest.mark.parametrize("name", CHECKSUMS)
def test_a_new_checksum_is_accepted(target, client, prefix, name):
    """I1: a correct checksum of each new algorithm stores the object."""
    client.put_object(Bucket=target.bucket, Key=prefix + "o", Body=DIGITS, **{name: CHECKSUMS[name]})
    assert client.get_object(Bucket=target.bucket, Key=prefix + "o")["Body"].read() == DIGITS


@pytest.mark.gateway
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CHECKSUMS)
def test_a_wrong_new_checksum_stores_nothing(target, client, prefix, name, size):
    """I1: the SDK gets BadDigest, and there is no object."""
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket=target.bucket, Key=prefix + "o", Body=os.urandom(size), **{name: CHECKSUMS[name]})
    assert code_of(error) == (400, "BadDigest")
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=target.bucket, Key=prefix + "o")
    assert code_of(error) == (404, "NoSuchKey")


@pytest.mark.gateway
@pytest.mark.parametrize("size", SIZES)
def test_boto3_computes_a_new_checksum(target, client, prefix, size):
    """I1: the SDK's own checksum is verified, for a buffered body and a stream."""
    body = os.urandom(size)
    for source in (body, io.BytesIO(body)):
        client.put_object(Bucket=target.bucket, Key=prefix + "o", Body=source, ChecksumAlgorithm="SHA512")
        assert sha256(client.get_object(Bucket=target.bucket, Key=prefix + "o")["Body"]) == sha256(body)


@pytest.fixture(scope="module")
def older(start_gateway, rgw_server, rgw_direct):
    """RGW as the store for `checksums` and `content_md5`: it verifies the remaining signatures and digests."""
    upstream = 'checksums = "strip"\ncontent_md5 = "add"'
    gateway = start_gateway("older", section("older", rgw_server, pattern="*", auth=("anonymous",), upstream=upstream))
    return dataclasses.replace(rgw_direct, name="older", endpoint=gateway.endpoint, keys=DUMMY_KEYS)


@pytest.mark.gateway
@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256", "SHA512"])
def test_parts_are_sent_without_checksums(older: Target, prefix, algorithm):
    """I1, A2: a multipart upload with checksums, and a download with validation."""
    client, body = older.client(), os.urandom(2 * PART_BYTES + 1)
    transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
    extra = {"ChecksumAlgorithm": algorithm}
    client.upload_fileobj(io.BytesIO(body), older.bucket, prefix + "o", ExtraArgs=extra, Config=transfer)
    got = client.get_object(Bucket=older.bucket, Key=prefix + "o", ChecksumMode="ENABLED")
    assert sha256(got["Body"]) == sha256(body)
    place = {"Bucket": older.bucket, "Key": prefix + "p"}
    upload = client.create_multipart_upload(ChecksumAlgorithm=algorithm, **place)["UploadId"]
    part = client.upload_part(UploadId=upload, PartNumber=1, Body=DIGITS, ChecksumAlgorithm=algorithm, **place)
    digest = {"SHA256": hashlib.sha256, "SHA512": hashlib.sha512}.get(algorithm)
    checksum = encoded(digest(DIGITS).digest()) if digest else "y/Q5Jg=="
    parts = [{"PartNumber": 1, "ETag": part["ETag"], f"Checksum{algorithm}": checksum}]
    client.complete_multipart_upload(UploadId=upload, MultipartUpload={"Parts": parts}, **place)
    assert client.get_object(**place)["Body"].read() == DIGITS


@pytest.mark.gateway
def test_documents_get_content_md5(older: Target, prefix):
    """I1, A2: documents with boto3's CRC32 are sent with Content-MD5, which the store verifies."""
    client = older.client()
    keys = [f"{prefix}{index:04}-{'k' * 200}" for index in range(500)]
    for key in keys[:3]:
        client.put_object(Bucket=older.bucket, Key=key, Body=DIGITS)
    tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
    client.put_object_tagging(Bucket=older.bucket, Key=keys[0], Tagging=tags)
    assert client.get_object_tagging(Bucket=older.bucket, Key=keys[0])["TagSet"] == tags["TagSet"]
    rule = {"ID": "r", "Status": "Disabled", "Filter": {"Prefix": prefix}, "Expiration": {"Days": 30}}
    client.put_bucket_lifecycle_configuration(Bucket=older.bucket, LifecycleConfiguration={"Rules": [rule]})
    assert client.get_bucket_lifecycle_configuration(Bucket=older.bucket)["Rules"][0]["ID"] == "r"
    client.delete_bucket_lifecycle(Bucket=older.bucket)
    deleted = client.delete_objects(Bucket=older.bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    assert len(deleted["Deleted"]) == len(keys) and "Errors" not in deleted
    assert "Contents" not in client.list_objects_v2(Bucket=older.bucket, Prefix=prefix)

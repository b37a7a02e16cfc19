"""Checksums and chunked uploads through boto3 and by hand, with a store that accepts trailers and one that does not."""

import base64
import binascii
import hashlib
import os

import pytest
from botocore.exceptions import ClientError
from conftest import code_of, sha256

# Sizes below and above the gateway's limit for buffering.
SIZES = [1000, 300_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_boto3_sends_each_checksum(target, client, prefix, algorithm, size):
    """I1: the SDK's checksum is verified, and the object equals its data."""
    body = os.urandom(size)
    put = client.put_object(Bucket=target.bucket, Key=prefix + "o", Body=body, ChecksumAlgorithm=algorithm)
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 200
    got = client.get_object(Bucket=target.bucket, Key=prefix + "o", ChecksumMode="ENABLED")
    assert sha256(got["Body"]) == sha256(body)


def wrong_checksums(other):
    encoded = lambda digest: base64.b64encode(digest).decode()  # noqa: E731
    return {
        "ContentMD5": encoded(hashlib.md5(other).digest()),
        "ChecksumCRC32": encoded(binascii.crc32(other).to_bytes(4, "big")),
        "ChecksumCRC32C": "AAAAAA==",
        "ChecksumCRC64NVME": "AAAAAAAAAAA=",
        "ChecksumSHA1": encoded(hashlib.sha1(other).digest()),
        "ChecksumSHA256": encoded(hashlib.sha256(other).digest()),
    }


# RGW itself verifies only Content-MD5.
@pytest.mark.gateway
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", wrong_checksums(b""))
def test_a_wrong_checksum_stores_nothing(target, prefix, name, size):
    """I1: the SDK gets BadDigest, and there is no object."""
    client = target.client(checksums="when_required")
    given = {name: wrong_checksums(b"another body")[name]}
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket=target.bucket, Key=prefix + "o", Body=os.urandom(size), **given)
    assert code_of(error) == (400, "BadDigest")
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=target.bucket, Key=prefix + "o")
    assert code_of(error) == (404, "NoSuchKey")


def in_chunks(body, crc32):
    chunks = [body[at : at + 70_000] for at in range(0, len(body), 70_000)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    checksum = base64.b64encode(crc32.to_bytes(4, "big"))
    return framed + b"0\r\nx-amz-checksum-crc32:%s\r\n\r\n" % checksum


@pytest.mark.gateway
@pytest.mark.parametrize("size", [0, *SIZES, 5 << 20])
def test_an_upload_with_a_trailer_reaches_a_store_without_trailers(target, client, prefix, size):
    """A1, I1: an upload with a trailing checksum is verified and re-framed, also for RGW, which refuses every trailer.
    """
    body = os.urandom(size)
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": str(size),
        "x-amz-trailer": "x-amz-checksum-crc32",
        "content-encoding": "aws-chunked",
    }
    path = f"/{target.bucket}/{prefix}o"
    wrong = target.raw("PUT", path, body=in_chunks(body, binascii.crc32(body) ^ 1), headers=headers)
    assert wrong.status == 400 and b"<Code>BadDigest</Code>" in wrong.data
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=target.bucket, Key=prefix + "o")
    assert code_of(error) == (404, "NoSuchKey")
    right = target.raw("PUT", path, body=in_chunks(body, binascii.crc32(body)), headers=headers)
    assert right.status == 200, right.data
    got = client.get_object(Bucket=target.bucket, Key=prefix + "o")
    assert sha256(got["Body"]) == sha256(body)
    assert "ContentEncoding" not in got

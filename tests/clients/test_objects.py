"""Single objects through boto3: put, get, metadata, ranges, copies, deletes."""

import concurrent.futures
import os

import pytest
from botocore.exceptions import ClientError
from conftest import code_of, sha256

SIZES = [0, 1, 1023, 65535, 65536, 65537, 1 << 20, (8 << 20) + 1]


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
@pytest.mark.parametrize("size", SIZES)
def test_an_object_is_returned_unchanged(target, prefix, size, checksums):
    """I1, I2: bytes and ETag, with and without the checksum headers that newer SDKs add."""
    client = target.client(checksums=checksums)
    body = os.urandom(size)
    put = client.put_object(Bucket=target.bucket, Key=prefix + "object", Body=body)
    got = client.get_object(Bucket=target.bucket, Key=prefix + "object")
    assert got["ContentLength"] == size
    assert got["ETag"] == put["ETag"]
    assert sha256(got["Body"]) == sha256(body)


def test_head_has_the_headers_of_get(target, client, prefix):
    """I2: the server's response headers are forwarded unchanged, for GET and for HEAD."""
    kinds = {
        "ContentType": "text/x-suite; charset=utf-8",
        "CacheControl": "max-age=60, no-transform",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentLanguage": "de",
    }
    client.put_object(
        Bucket=target.bucket, Key=prefix + "o", Body=b"tidegate", Metadata={"colour": "blue", "n": "1"}, **kinds
    )
    head = client.head_object(Bucket=target.bucket, Key=prefix + "o")
    got = client.get_object(Bucket=target.bucket, Key=prefix + "o")
    assert got["Body"].read() == b"tidegate"
    for name, value in kinds.items():
        assert head[name] == got[name] == value
    assert head["Metadata"] == got["Metadata"] == {"colour": "blue", "n": "1"}
    assert head["ContentLength"] == got["ContentLength"] == 8
    assert head["ETag"] == got["ETag"]
    assert head["LastModified"] == got["LastModified"]


def test_an_encoded_body_is_not_decoded(target, client, prefix):
    """I2: `Content-Encoding: gzip` is metadata of the object, also if the bytes are not gzip."""
    body = b"\x1f\x8b not really compressed"
    client.put_object(Bucket=target.bucket, Key=prefix + "o.gz", Body=body, ContentEncoding="gzip")
    got = client.get_object(Bucket=target.bucket, Key=prefix + "o.gz")
    assert got["ContentEncoding"] == "gzip"
    assert got["Body"].read() == body


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-", 0, 9999),
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=9999-", 9999, 9999),
        ("bytes=9000-20000", 9000, 9999),
        ("bytes=-1", 9999, 9999),
        ("bytes=-500", 9500, 9999),
        ("bytes=-20000", 0, 9999),
    ],
)
def test_a_range_is_answered_with_exactly_its_bytes(target, client, prefix, asked, first, last):
    """I2: range requests are exact, Content-Range included."""
    body = os.urandom(10000)
    client.put_object(Bucket=target.bucket, Key=prefix + "o", Body=body)
    got = client.get_object(Bucket=target.bucket, Key=prefix + "o", Range=asked)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {first}-{last}/10000"
    assert got["Body"].read() == body[first : last + 1]


def test_a_range_past_the_end_is_416(target, client, prefix):
    """I2, R1: 416 is an answer, forwarded once and not retried."""
    client.put_object(Bucket=target.bucket, Key=prefix + "o", Body=b"0123456789")
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=target.bucket, Key=prefix + "o", Range="bytes=10-")
    assert code_of(error) == (416, "InvalidRange")


def test_overwriting_replaces_the_object(target, client, prefix):
    """I2: readers get the second body and its ETag, never the first's."""
    first = client.put_object(Bucket=target.bucket, Key=prefix + "o", Body=b"first" * 1000)
    second = client.put_object(Bucket=target.bucket, Key=prefix + "o", Body=b"second")
    got = client.get_object(Bucket=target.bucket, Key=prefix + "o")
    assert got["Body"].read() == b"second"
    assert got["ETag"] == second["ETag"] != first["ETag"]


def test_a_deleted_object_is_gone_and_deleting_again_succeeds(target, client, prefix):
    """I2, E1: 204 without a body is forwarded; afterwards 404 in S3's format."""
    client.put_object(Bucket=target.bucket, Key=prefix + "o", Body=b"x")
    for _ in range(2):
        answer = client.delete_object(Bucket=target.bucket, Key=prefix + "o")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=target.bucket, Key=prefix + "o")
    assert code_of(error) == (404, "NoSuchKey")


def test_many_are_deleted_in_one_request(target, client, prefix):
    """E5: the POST's XML body and its answer are forwarded; the missing key is no error."""
    keys = [f"{prefix}{n}" for n in range(20)]
    for key in keys:
        client.put_object(Bucket=target.bucket, Key=key, Body=b"x")
    asked = [{"Key": key} for key in [*keys[:15], prefix + "never-existed"]]
    answer = client.delete_objects(Bucket=target.bucket, Delete={"Objects": asked})
    assert {item["Key"] for item in answer["Deleted"]} == {item["Key"] for item in asked}
    assert "Errors" not in answer
    left = client.list_objects_v2(Bucket=target.bucket, Prefix=prefix)["Contents"]
    assert [item["Key"] for item in left] == sorted(keys[15:])


def test_a_copy_has_the_bytes_and_metadata_of_its_source(target, client, prefix):
    """V5, I2: `x-amz-copy-source` is forwarded as the client encoded it."""
    body = os.urandom(100_000)
    source = prefix + "from ü+%.bin"
    client.put_object(Bucket=target.bucket, Key=source, Body=body, Metadata={"a": "1"})
    copied = client.copy_object(
        Bucket=target.bucket, Key=prefix + "to", CopySource={"Bucket": target.bucket, "Key": source}
    )
    got = client.get_object(Bucket=target.bucket, Key=prefix + "to")
    assert got["Body"].read() == body
    assert got["Metadata"] == {"a": "1"}
    # RGW returns it without the quotes here.
    assert got["ETag"].strip('"') == copied["CopyObjectResult"]["ETag"].strip('"')


def test_a_copy_can_replace_the_metadata(target, client, prefix):
    """I2: the directive header is forwarded."""
    client.put_object(Bucket=target.bucket, Key=prefix + "from", Body=b"x", Metadata={"a": "1"})
    client.copy_object(
        Bucket=target.bucket,
        Key=prefix + "to",
        CopySource={"Bucket": target.bucket, "Key": prefix + "from"},
        Metadata={"b": "2"},
        MetadataDirective="REPLACE",
    )
    assert client.head_object(Bucket=target.bucket, Key=prefix + "to")["Metadata"] == {"b": "2"}


def test_concurrent_objects_do_not_mix(target, client, prefix):
    """P1, P3: 96 objects over 32 threads, within the default gate and queue; every body is the right one."""
    bodies = {f"{prefix}{n:03}": os.urandom(50_000 + n * 1000) for n in range(96)}

    def round_trip(key):
        client.put_object(Bucket=target.bucket, Key=key, Body=bodies[key])
        return sha256(client.get_object(Bucket=target.bucket, Key=key)["Body"]) == sha256(bodies[key])

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        assert all(pool.map(round_trip, bodies))

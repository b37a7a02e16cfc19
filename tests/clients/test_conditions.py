"""Conditional requests, each against the servers that support them: RGW does not support those of copies."""

import datetime

import pytest
from botocore.exceptions import ClientError
from conftest import code_of

DAY = datetime.timedelta(days=1)


def store(target, prefix):
    """Stores an object; returns its bucket and key, and its head."""
    place = {"Bucket": target.bucket, "Key": prefix + "o"}
    client = target.client()
    client.put_object(Body=b"stored", **place)
    return place, client.head_object(**place)


@pytest.fixture
def stored(target, prefix):
    """An object: its place, its ETag and its time."""
    place, head = store(target, prefix)
    return place, head["ETag"], head["LastModified"]


def refused(call, **arguments):
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return code_of(error)


def test_get_with_a_matching_etag(client, stored):
    """I2: If-None-Match is 304 without a body, If-Match succeeds."""
    place, etag, _ = stored
    assert refused(client.get_object, IfNoneMatch=etag, **place)[0] == 304
    assert client.get_object(IfMatch=etag, **place)["Body"].read() == b"stored"


def test_get_with_another_etag(client, stored):
    """I2: If-Match is 412, If-None-Match succeeds."""
    place, _, _ = stored
    assert refused(client.get_object, IfMatch='"other"', **place) == (412, "PreconditionFailed")
    assert client.get_object(IfNoneMatch='"other"', **place)["Body"].read() == b"stored"


def test_get_by_time(client, stored):
    """I2: If-Modified-Since and If-Unmodified-Since, with both outcomes."""
    place, _, modified = stored
    assert refused(client.get_object, IfModifiedSince=modified, **place)[0] == 304
    assert refused(client.get_object, IfUnmodifiedSince=modified - DAY, **place)[0] == 412
    assert client.get_object(IfModifiedSince=modified - DAY, **place)["Body"].read() == b"stored"
    assert client.get_object(IfUnmodifiedSince=modified, **place)["Body"].read() == b"stored"


def test_head_with_conditions(client, stored):
    """I2: HEAD answers 304 and 412 as GET does."""
    place, etag, _ = stored
    assert refused(client.head_object, IfNoneMatch=etag, **place)[0] == 304
    assert refused(client.head_object, IfMatch='"other"', **place)[0] == 412
    assert client.head_object(IfMatch=etag, **place)["ContentLength"] == 6


def test_a_304_keeps_its_connection_usable(client, stored):
    """I2, T6: an answer without a body is framed correctly: the next answer on the connection is its own."""
    place, etag, _ = stored
    for _ in range(5):
        assert refused(client.get_object, IfNoneMatch=etag, **place)[0] == 304
        assert client.get_object(**place)["Body"].read() == b"stored"


def test_put_only_if_absent(target, prefix):
    """I2, R1: If-None-Match: * creates once; the second is 412, is not retried, and changes nothing."""
    client, place = target.client(), {"Bucket": target.bucket, "Key": prefix + "o"}
    client.put_object(Body=b"first", IfNoneMatch="*", **place)
    assert refused(client.put_object, Body=b"again", IfNoneMatch="*", **place) == (412, "PreconditionFailed")
    assert client.get_object(**place)["Body"].read() == b"first"


def test_put_only_over_a_known_version(target, prefix):
    """I2, R1: If-Match on PUT replaces only that version."""
    client = target.client()
    place, head = store(target, prefix)
    # RGW removes the quotes only from the stored tag.
    etag = head["ETag"].strip('"') if target.name == "rgw" else head["ETag"]
    other = {"rgw": "other"}.get(target.name, '"other"')
    assert refused(client.put_object, Body=b"lost", IfMatch=other, **place) == (412, "PreconditionFailed")
    client.put_object(Body=b"won", IfMatch=etag, **place)
    assert client.get_object(**place)["Body"].read() == b"won"


def test_copy_with_conditions_on_its_source(origin, prefix):
    """I2: the `x-amz-copy-source-if-*` headers are forwarded."""
    client = origin.client()
    place, head = store(origin, prefix)
    etag, modified = head["ETag"], head["LastModified"]
    copy = {"Bucket": place["Bucket"], "Key": prefix + "copy", "CopySource": dict(place)}
    failed = (412, "PreconditionFailed")
    assert refused(client.copy_object, CopySourceIfMatch='"other"', **copy) == failed
    assert refused(client.copy_object, CopySourceIfNoneMatch=etag, **copy) == failed
    assert refused(client.copy_object, CopySourceIfUnmodifiedSince=modified - DAY, **copy) == failed
    assert refused(client.copy_object, CopySourceIfModifiedSince=modified + DAY, **copy) == failed
    assert refused(client.head_object, Bucket=place["Bucket"], Key=prefix + "copy")[0] == 404
    client.copy_object(CopySourceIfMatch=etag, **copy)
    assert client.get_object(Bucket=place["Bucket"], Key=prefix + "copy")["Body"].read() == b"stored"


def test_a_range_with_a_condition(client, stored):
    """I2: Range and If-Match together; a failed condition is 412 and not 206."""
    place, etag, _ = stored
    got = client.get_object(Range="bytes=1-3", IfMatch=etag, **place)
    assert (got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read()) == (206, b"tor")
    assert refused(client.get_object, Range="bytes=1-3", IfMatch='"other"', **place)[0] == 412

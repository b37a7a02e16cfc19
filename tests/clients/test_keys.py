"""Keys with bytes that proxies often change. They are forwarded byte for byte."""

import pytest

KEYS = [
    "plain.txt",
    "with space.txt",
    " leading and trailing ",
    "ünïcödé-日本語-🚀.txt",
    "e\u0301-decomposed.txt",
    "plus+plus.txt",
    "percent%.txt",
    "looks%20encoded.txt",
    "slash%2Fencoded.txt",
    "tilde~.txt",
    "..name",
    "name..",
    "...",
    "apostrophe's.txt",
    'double"quote.txt',
    "(paren)!*.txt",
    "a&b=c;d,e:f@g$.txt",
    "question?mark.txt",
    "hash#mark.txt",
    "[brackets]{braces}|^`.txt",
    "less<more>.txt",
    "back\\slash.txt",
    "deep/er/and/deeper.txt",
    "double//slash.txt",
    "triple///slash.txt",
    "folder/",
    "folder//",
    "./dot.txt",
    "k" * 900,
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_forwarded_unchanged(target, client, prefix, key):
    """V5, V4: legal keys are forwarded byte for byte in put, get, head, list, copy and delete."""
    key = prefix + key
    body = key.encode()
    # A folder object is empty by convention; RGW keeps a body, so that the bytes identify the key.
    client.put_object(Bucket=target.bucket, Key=key, Body=body)
    assert client.get_object(Bucket=target.bucket, Key=key)["Body"].read() == body
    assert client.head_object(Bucket=target.bucket, Key=key)["ContentLength"] == len(body)
    listed = client.list_objects_v2(Bucket=target.bucket, Prefix=key)["Contents"]
    assert key in [item["Key"] for item in listed]
    copy = key.rstrip("/") + ".copy"
    client.copy_object(Bucket=target.bucket, Key=copy, CopySource={"Bucket": target.bucket, "Key": key})
    assert client.get_object(Bucket=target.bucket, Key=copy)["Body"].read() == body
    client.delete_object(Bucket=target.bucket, Key=key)
    left = client.list_objects_v2(Bucket=target.bucket, Prefix=key).get("Contents", [])
    assert key not in [item["Key"] for item in left]


@pytest.mark.gateway
@pytest.mark.parametrize("key", KEYS)
def test_the_server_behind_the_gateway_has_the_same_key(rgw, rgw_direct, prefix, key):
    """V5: an object written through the gateway is read without it under the same key, and the other way round."""
    before, behind = rgw.client(), rgw_direct.client()
    before.put_object(Bucket=rgw.bucket, Key=prefix + key, Body=b"before")
    listed = behind.list_objects_v2(Bucket=rgw.bucket, Prefix=prefix)["Contents"]
    assert [item["Key"] for item in listed] == [prefix + key]
    behind.put_object(Bucket=rgw.bucket, Key=prefix + key, Body=b"behind")
    assert before.get_object(Bucket=rgw.bucket, Key=prefix + key)["Body"].read() == b"behind"


@pytest.mark.gateway
@pytest.mark.parametrize(
    ("spelled", "key"),
    [
        ("lower%2d%7e.txt", "lower-~.txt"),
        ("upper%2D%7E.txt", "upper-~.txt"),
        ("bare~!$&'()*,;=:@.txt", "bare~!$&'()*,;=:@.txt"),
        ("plus+and%2B.txt", "plus+and+.txt"),
        ("over%65ncoded.txt", "overencoded.txt"),
    ],
)
def test_an_unusual_encoding_of_a_key_is_accepted_by_a_verifying_server(rgw, rgw_direct, prefix, spelled, key):
    """V5, A2: paths that no SDK would write are forwarded unchanged and signed in the canonical form."""
    behind = rgw_direct.client()
    behind.put_object(Bucket=rgw.bucket, Key=prefix + key, Body=key.encode())
    answer = rgw.raw("GET", f"/{rgw.bucket}/{prefix}{spelled}")
    assert (answer.status, answer.data) == (200, key.encode())

"""Virtual-hosted buckets, as SDKs send them by default."""

import dataclasses
import socket
import urllib.parse

import pytest


@pytest.fixture
def names_below_localhost(monkeypatch):
    """Many systems resolve `localhost` but no name below it."""
    known = socket.getaddrinfo

    def look_up(host, *rest, **more):
        return known("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.gateway
@pytest.mark.parametrize("key", ["plain", "a b+c/ü%2F'~"])
def test_a_bucket_may_be_in_the_host(target, client, prefix, names_below_localhost, key):
    """V5, I2: objects written with a virtual host are read with a path, with the same key and ETag."""
    port = urllib.parse.urlsplit(target.endpoint).port
    virtual = dataclasses.replace(target, endpoint=f"http://localhost:{port}").client(addressing="virtual")
    put = virtual.put_object(Bucket=target.bucket, Key=prefix + key, Body=key.encode())
    got = client.get_object(Bucket=target.bucket, Key=prefix + key)
    assert (got["Body"].read(), got["ETag"]) == (key.encode(), put["ETag"])
    listed = virtual.list_objects_v2(Bucket=target.bucket, Prefix=prefix)
    assert [item["Key"] for item in listed["Contents"]] == [prefix + key]
    assert virtual.get_object(Bucket=target.bucket, Key=prefix + key)["Body"].read() == key.encode()


@pytest.mark.gateway
def test_a_renamed_bucket_keeps_its_name_in_answers(rgw, rgw_direct, prefix):
    """V5, E2: listings, uploads and errors of a real store have the client's name of the bucket."""
    client = rgw.client()
    client.put_object(Bucket="other-name", Key=prefix + "k", Body=b"1")
    assert client.list_objects_v2(Bucket="other-name", Prefix=prefix)["Name"] == "other-name"
    upload = client.create_multipart_upload(Bucket="other-name", Key=prefix + "big")
    assert upload["Bucket"] == "other-name"
    named = {"Bucket": "other-name", "Key": prefix + "big", "UploadId": upload["UploadId"]}
    part = client.upload_part(**named, PartNumber=1, Body=b"part")
    assert client.list_parts(**named)["Bucket"] == "other-name"
    done = client.complete_multipart_upload(
        **named, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    assert done["Bucket"] == "other-name"
    assert done["Location"].endswith(f"/other-name/{prefix}big")
    missing = rgw.raw("GET", f"/other-name/{prefix}missing")
    assert missing.status == 404
    assert rgw_direct.bucket.encode() not in missing.data

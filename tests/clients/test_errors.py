"""Errors: the servers' are forwarded unchanged; the gateway's own have the same format and name their cause."""

import socket
import time
import urllib.parse
import xml.etree.ElementTree as xml

import pytest
from botocore.exceptions import ClientError
from conftest import DIRECT, code_of


def document(answer):
    """The fields of an S3 error document, which must be XML and declare so."""
    assert "xml" in answer.headers["content-type"]
    root = xml.fromstring(answer.data)
    assert root.tag.endswith("Error")
    return {child.tag.split("}")[-1]: child.text for child in root}


def test_a_missing_key_is_the_servers_404(target, client, prefix):
    """E1, E2: the server's code and status, for GET and, without a document, for HEAD."""
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=target.bucket, Key=prefix + "none")
    assert code_of(error) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as error:
        client.head_object(Bucket=target.bucket, Key=prefix + "none")
    assert code_of(error)[0] == 404


@pytest.mark.gateway
def test_the_error_document_is_the_servers_own(rgw, rgw_direct, prefix):
    """E1: the same fields as without the gateway, except request id and host."""
    seen = []
    for place in (rgw, rgw_direct):
        with pytest.raises(ClientError) as error:
            place.client().get_object(Bucket=place.bucket, Key=prefix + "none")
        fields = dict(error.value.response["Error"])
        seen.append({name: fields[name] for name in fields if name not in ("RequestId", "HostId")})
    assert seen[0] == seen[1]


@pytest.mark.gateway
def test_an_error_reaches_a_plain_http_client_as_xml(target, prefix):
    """E1, O1: status, content type, document and request id, without an SDK."""
    answer = target.raw("GET", f"/{target.bucket}/{prefix}none")
    assert answer.status == 404
    assert document(answer)["Code"] == "NoSuchKey"


def test_an_unknown_upload_is_the_servers_error(rgw, prefix):
    """E2: an error of a multipart operation is forwarded."""
    with pytest.raises(ClientError) as error:
        rgw.client().abort_multipart_upload(Bucket=rgw.bucket, Key=prefix + "o", UploadId="2~unknown")
    assert code_of(error) == (404, "NoSuchUpload")


def test_an_unknown_bucket_behind_a_catch_all_is_the_servers_404(rgw):
    """E2, R1: 404 is an answer, which is forwarded and not retried."""
    with pytest.raises(ClientError) as error:
        rgw.client().list_objects_v2(Bucket="no-such-bucket-anywhere")
    assert code_of(error) == (404, "NoSuchBucket")


def test_buckets_can_be_created_and_removed_through_a_catch_all(rgw, prefix):
    """E2: bucket operations are forwarded, and the bucket then accepts objects."""
    client, bucket = rgw.client(), prefix.strip("/") + "-made"
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="o", Body=b"x")
    with pytest.raises(ClientError) as error:
        client.delete_bucket(Bucket=bucket)
    assert code_of(error) == (409, "BucketNotEmpty")
    client.delete_object(Bucket=bucket, Key="o")
    client.delete_bucket(Bucket=bucket)
    with pytest.raises(ClientError) as error:
        client.head_bucket(Bucket=bucket)
    assert code_of(error)[0] == 404


@pytest.mark.gateway
def test_an_unknown_bucket_is_404_from_the_gateway(origin):
    """E1, O4: a name without a matching pattern is the gateway's NoSuchBucket, with the reason."""
    answer = origin.raw("GET", "/no:such-bucket/key")
    assert (answer.status, document(answer)["Code"]) == (404, "NoSuchBucket")
    assert answer.headers["x-tidegate-reason"]


@pytest.mark.gateway
def test_a_bucket_without_auth_is_closed(rgw):
    """A4, E1, O4: without `auth` a bucket is closed: 403, for reading and writing, signed or not."""
    for client in (rgw.client(), rgw.client(signed=False)):
        with pytest.raises(ClientError) as error:
            client.get_object(Bucket="closed-bucket", Key="o")
        assert code_of(error) == (403, "AccessDenied")
        with pytest.raises(ClientError) as error:
            client.put_object(Bucket="closed-bucket", Key="o", Body=b"x")
        assert code_of(error) == (403, "AccessDenied")
    answer = rgw.raw("GET", "/closed-bucket/o")
    assert (answer.status, document(answer)["Code"]) == (403, "AccessDenied")
    assert answer.headers["x-tidegate-reason"]


@pytest.mark.gateway
def test_wrong_upstream_credentials_are_the_servers_403(rgw):
    """A2, R1: the server's own refusal reaches the client; it is not retried and opens no circuit."""
    for _ in range(8):
        with pytest.raises(ClientError) as error:
            rgw.client().list_objects_v2(Bucket="wrong-keys")
        assert code_of(error) == (403, "SignatureDoesNotMatch")


@pytest.mark.gateway
def test_a_body_over_the_limit_is_413(rgw):
    """V2, E1: the refusal comes before the body or during it, in S3's format."""
    with pytest.raises(ClientError) as error:
        rgw.client().put_object(Bucket="small-bucket", Key="o", Body=b"x" * ((1 << 20) + 1))
    assert code_of(error) == (413, "EntityTooLarge")


@pytest.mark.gateway
def test_a_bucket_may_have_another_name_upstream(rgw, rgw_direct, prefix):
    """G1, V5: `buckets.NAME.s3.bucket`: stored under one name, read under the other."""
    client = rgw.client()
    client.put_object(Bucket="other-name", Key=prefix + "a b+ü", Body=b"alias")
    behind = rgw_direct.client().get_object(Bucket=rgw_direct.bucket, Key=prefix + "a b+ü")
    assert behind["Body"].read() == b"alias"
    assert client.get_object(Bucket="other-name", Key=prefix + "a b+ü")["Body"].read() == b"alias"
    listed = client.list_objects_v2(Bucket="other-name", Prefix=prefix)["Contents"]
    assert [item["Key"] for item in listed] == [prefix + "a b+ü"]
    client.delete_object(Bucket="other-name", Key=prefix + "a b+ü")
    assert "Contents" not in client.list_objects_v2(Bucket="other-name", Prefix=prefix)


@pytest.mark.gateway
@pytest.mark.parametrize("signed", [True, False])
def test_the_clients_own_credentials_are_not_forwarded(target, prefix, signed):
    """A2, V7: with keys unknown to the server, a session token or no signature the server gets the gateway's signature.
    """
    client = target.client(signed=signed)
    if signed:

        def add_token(request, **_):
            request.headers["x-amz-security-token"] = "bogus"

        client.meta.events.register("before-send.s3", add_token)
    client.put_object(Bucket=target.bucket, Key=prefix + "o", Body=b"x" * 1000)
    assert client.get_object(Bucket=target.bucket, Key=prefix + "o")["Body"].read() == b"x" * 1000


def test_an_upload_cut_short_leaves_no_object(target, client, prefix):
    """T7, T6: after a client disconnect in mid-upload nothing is stored, and the next upload is not affected."""
    key = prefix + "cut"
    url = client.generate_presigned_url("put_object", Params={"Bucket": target.bucket, "Key": key})
    place = urllib.parse.urlsplit(url)
    # Without the gateway the server needs a signature; with it, none is needed and the query is omitted.
    path = f"{place.path}?{place.query}" if DIRECT else place.path
    head = f"PUT {path} HTTP/1.1\r\nhost: {place.netloc}\r\ncontent-length: 10000000\r\n\r\n"
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"x" * 1_000_000)
        time.sleep(0.2)
    time.sleep(0.5)
    with pytest.raises(ClientError) as error:
        client.head_object(Bucket=target.bucket, Key=key)
    assert code_of(error)[0] == 404
    client.put_object(Bucket=target.bucket, Key=key, Body=b"whole")
    assert client.get_object(Bucket=target.bucket, Key=key)["Body"].read() == b"whole"

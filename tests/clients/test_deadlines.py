"""A client's own deadline with a real store: the gateway's change of the header invalidates no signature, on either
side."""

import pytest
from botocore.exceptions import ClientError
from conftest import code_of

TIMEOUT = "x-request-timeout"


def with_deadline(target, time):
    """A client that signs a deadline header in each request."""
    client = target.client()

    def add(request, **_):
        request.headers[TIMEOUT] = time

    client.meta.events.register("before-sign.s3", add)
    signed = []
    client.meta.events.register("before-send.s3", lambda request, **_: signed.append(str(request.headers["Authorization"])))
    return client, signed


def test_a_signed_deadline_works_with_a_store(target, prefix):
    """T1, A2: put, copy, get, multipart, delete, with a deadline that the client signs and the gateway rewrites."""
    client, signed = with_deadline(target, "20")
    place = {"Bucket": target.bucket, "Key": prefix + "k"}
    client.put_object(**place, Body=b"0123456789")
    client.copy_object(Bucket=target.bucket, Key=prefix + "copy", CopySource=place)
    assert client.get_object(Bucket=target.bucket, Key=prefix + "copy")["Body"].read() == b"0123456789"
    upload = client.create_multipart_upload(Bucket=target.bucket, Key=prefix + "parts")["UploadId"]
    part = {"Bucket": target.bucket, "Key": prefix + "parts", "UploadId": upload}
    etag = client.upload_part(**part, PartNumber=1, Body=b"x" * 100_000)["ETag"]
    client.complete_multipart_upload(**part, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    listed = client.list_objects_v2(Bucket=target.bucket, Prefix=prefix)["Contents"]
    assert [each["Size"] for each in listed] == [10, 10, 100_000]
    for name in ("k", "copy", "parts"):
        client.delete_object(Bucket=target.bucket, Key=prefix + name)
    assert len(signed) == 10 and all(TIMEOUT in header for header in signed), signed


@pytest.mark.gateway
def test_an_invalid_deadline_is_an_invalid_argument(target, prefix):
    """T1, E1: the client gets S3's code and the header's name."""
    client, _ = with_deadline(target, "soon")
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=target.bucket, Key=prefix + "k")
    assert code_of(error) == (400, "InvalidArgument")
    assert TIMEOUT in error.value.response["Error"]["Message"]

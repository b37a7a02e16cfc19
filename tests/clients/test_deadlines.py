"""A client's own deadline on its way to a real store: what the gateway tells of it disturbs no signature, on either side."""

import pytest
from botocore.exceptions import ClientError
from conftest import code_of

TIMEOUT = "x-request-timeout"


def in_a_hurry(target, time):
    """A client that signs a deadline along with each of its requests."""
    client = target.client()

    def add(request, **_):
        request.headers[TIMEOUT] = time

    client.meta.events.register("before-sign.s3", add)
    signed = []
    client.meta.events.register("before-send.s3", lambda request, **_: signed.append(str(request.headers["Authorization"])))
    return client, signed


def test_a_deadline_is_no_matter_to_a_store(target, prefix):
    """T1, A2: put, copy, get, in parts, delete, with a deadline that the client signs and the gateway rewrites."""
    client, signed = in_a_hurry(target, "20")
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
def test_a_deadline_that_is_none_is_refused_as_s3_refuses_arguments(target, prefix):
    """T1, E1: the client reads S3's code and the header's name."""
    client, _ = in_a_hurry(target, "soon")
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=target.bucket, Key=prefix + "k")
    assert code_of(error) == (400, "InvalidArgument")
    assert TIMEOUT in error.value.response["Error"]["Message"]

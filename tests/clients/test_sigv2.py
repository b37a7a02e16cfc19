"""SigV2 of real clients, in buckets that accept it: default presigning of boto3 and the AWS CLI, with both servers."""

import os
import uuid

import configuration
import pytest
import urllib3
from botocore.exceptions import ClientError

from conftest import Target, code_of, sha256

pytestmark = pytest.mark.gateway

KEYS = ("AKIASIGVTWO", "sigv2/secret+of/forty=characters")


@pytest.fixture(scope="module")
def endpoint(start_gateway, origin_server, rgw_server, rgw_direct):
    """A gateway that accepts both signatures in front of the embedded origin and of RGW, and SigV4 only in `strict`."""
    gateway = start_gateway(
        "sigv2",
        configuration.both_stores(origin_server, rgw_server, rgw_direct.bucket, auth=("sigv4", "sigv2")),
        configuration.section("strict", rgw_server, bucket=rgw_direct.bucket),
        configuration.key(KEYS),
        configuration.policy(),
    )
    return gateway.endpoint


@pytest.fixture
def key():
    return f"sigv2/{uuid.uuid4().hex}/a b+c~'(d).txt"


def client(endpoint, signature=None, **options):
    """A client with boto3's default signatures, which presigns with SigV2, unless another is given."""
    return Target("sigv2", endpoint, "", KEYS).client(signature=signature, **options)


@pytest.fixture
def http():
    with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(30)) as pool:
        yield pool


def test_default_presigning_of_boto3(endpoint, bucket, key, http):
    """A8: get, put, head, list and delete by URL, with content type, metadata and overrides of response headers."""
    presigner = client(endpoint)

    def url(method, **parameters):
        made = presigner.generate_presigned_url(method, Params={"Bucket": bucket, **parameters})
        assert "AWSAccessKeyId=" in made
        return made

    data = os.urandom(100_000)
    assert http.request("PUT", url("put_object", Key=key), body=data).status == 200
    got = http.request("GET", url("get_object", Key=key))
    assert (got.status, sha256(got.data)) == (200, sha256(data))
    assert http.request("HEAD", url("head_object", Key=key)).headers["content-length"] == str(len(data))
    name = 'attachment; filename="a&b.txt"'
    named = http.request("GET", url("get_object", Key=key, ResponseContentDisposition=name, ResponseContentType="a/b"))
    assert (named.status, named.headers["content-disposition"]) == (200, name)
    typed = url("put_object", Key=key, ContentType="image/png")
    assert http.request("PUT", typed, body=b"x", headers={"content-type": "image/png"}).status == 200
    assert http.request("PUT", typed, body=b"y", headers={"content-type": "text/html"}).status == 403
    assert http.request("GET", url("get_object", Key=key)).headers["content-type"] == "image/png"
    listed = http.request("GET", url("list_objects_v2", Prefix=key[:20]))
    assert listed.status == 200
    assert key[6:38].encode() in listed.data
    assert http.request("GET", url("get_object", Key=key).replace("a%20b", "c%20d")).status == 403
    assert http.request("DELETE", url("get_object", Key=key)).status == 403
    assert http.request("DELETE", url("delete_object", Key=key)).status == 204
    assert http.request("GET", url("get_object", Key=key)).status == 404


def test_a_bucket_in_the_host(endpoint, bucket, key, http):
    """A8: boto3 with virtual-hosted buckets, header and URL."""
    virtual = client(endpoint.replace("127.0.0.1", "localhost"), "s3", addressing="virtual")
    url = virtual.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": key})
    host = f"{bucket}.localhost"
    assert f"://{host}:" in url
    assert http.request("PUT", url.replace(host, "127.0.0.1"), body=b"x", headers={"host": host}).status == 200
    assert client(endpoint).get_object(Bucket=bucket, Key=key)["Body"].read() == b"x"


def test_a_client_that_signs_with_version_2(endpoint, bucket, key):
    """A8: objects, multipart, copies, listings and multi-delete by a client with SigV2 only."""
    s3 = client(endpoint, "s3")
    data = os.urandom(70_000)
    s3.put_object(Bucket=bucket, Key=key, Body=data, Metadata={"who": "me"}, ContentType="text/x")
    got = s3.get_object(Bucket=bucket, Key=key)
    assert sha256(got["Body"].read()) == sha256(data)
    assert (got["Metadata"], got["ContentType"]) == ({"who": "me"}, "text/x")
    s3.copy_object(Bucket=bucket, Key=key + "2", CopySource={"Bucket": bucket, "Key": key})
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key + "3")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key=key + "3", UploadId=upload, PartNumber=1, Body=data)
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    s3.complete_multipart_upload(
        Bucket=bucket, Key=key + "3", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    prefix = key.rsplit("/", 1)[0] + "/"
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    assert [each["Key"] for each in listed] == [key, key + "2", key + "3"]
    s3.head_bucket(Bucket=bucket)
    gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": each["Key"]} for each in listed]})
    assert len(gone["Deleted"]) == 3
    assert s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] == 0


def test_forms_of_boto3(endpoint, bucket, key, http):
    """A8: a form presigned by boto3 with SigV2 stores its file, and one that violates its policy stores nothing."""
    s3 = client(endpoint, "s3")
    form = s3.generate_presigned_post(
        bucket, key, Fields={"acl": "private"}, Conditions=[{"acl": "private"}, ["content-length-range", 0, 1000]]
    )
    assert {"AWSAccessKeyId", "policy", "signature"} <= form["fields"].keys()

    def send(data, **more):
        fields = {**form["fields"], **more, "file": ("f", data, "text/plain")}
        return http.request("POST", form["url"], fields=fields)

    for data, more, status, code in [
        (b"x" * 1001, {}, 400, b"EntityTooLarge"),
        (b"x", {"key": key + "2"}, 403, b"AccessDenied"),
        (b"x", {"signature": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}, 403, b"SignatureDoesNotMatch"),
    ]:
        answer = send(data, **more)
        assert answer.status == status
        assert b"<Code>" + code + b"</Code>" in answer.data
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket=bucket, Key=key)
    assert code_of(error)[0] == 404
    assert send(b"data").status == 204
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"data"


def test_presigning_of_the_aws_cli(endpoint, bucket, key, http):
    """A8: `aws s3 presign` of the CLI v1 with its defaults, which are SigV2."""
    client(endpoint).put_object(Bucket=bucket, Key=key, Body=b"from the cli")
    cli = Target("sigv2", endpoint, bucket, KEYS)

    def presign(seconds):
        url = cli.aws("s3", "presign", f"s3://{bucket}/{key}", "--expires-in", seconds).stdout.decode().strip()
        assert "AWSAccessKeyId=" in url
        return http.request("GET", url)

    assert presign(60).data == b"from the cli"
    late = presign(604_900)
    assert (late.status, late.headers["x-tidegate-reason"]) == (403, "sigv2_lifetime")


def test_version_2_is_off_elsewhere(endpoint, key, http):
    """A8: a bucket that does not list it answers 501 and names the setting, also for forms."""
    presigner = client(endpoint)
    url = presigner.generate_presigned_url("get_object", Params={"Bucket": "strict", "Key": key})
    answer = http.request("GET", url)
    assert answer.status == 501
    assert b"add sigv2 to buckets.NAME.auth" in answer.data
    form = client(endpoint, "s3").generate_presigned_post("strict", key)
    fields = {**form["fields"], "file": ("f", b"x", "text/plain")}
    assert http.request("POST", form["url"], fields=fields).status == 501
    with pytest.raises(ClientError) as error:
        client(endpoint, "s3").list_objects_v2(Bucket="strict")
    assert code_of(error) == (501, "NotImplemented")
    names = [each["Name"] for each in client(endpoint, "s3").list_buckets()["Buckets"]]
    assert "at-rgw" in names
    assert "strict" not in names

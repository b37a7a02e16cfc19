"""POST form uploads, signed by boto3 and sent by `requests` (urllib3's own encoding), with both servers."""

import base64
import datetime
import hashlib
import hmac
import json
import os
import uuid

import pytest
import urllib3
from configuration import both_stores, key, policy
from conftest import Target, sha256

pytestmark = pytest.mark.gateway

KEYS = ("AKIAFORMS", "forms/secret+of/forty=characters")


@pytest.fixture(scope="module")
def client(start_gateway, origin_server, rgw_server, rgw_direct):
    """A client of a gateway that accepts SigV4 only, in front of the embedded origin and of RGW."""
    stores = both_stores(origin_server, rgw_server, rgw_direct.bucket)
    gateway = start_gateway("forms", stores, key(KEYS), policy(methods=("read", "write")))
    return Target("forms", gateway.endpoint, "", KEYS).client()


def send(post, name, data, **more):
    """A form: the presigned fields, others, and the file last."""
    fields = {**post["fields"], **more, "file": (name, data, "text/plain")}
    with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(30)) as pool:
        return pool.request("POST", post["url"], fields=fields, redirect=False)


@pytest.mark.parametrize("size", [0, 1000, 64 * 1024, 5_000_001])
def test_a_presigned_form_stores_its_file(client, bucket, size):
    """A1: boto3's signature is accepted, and the object is the file, with the headers from the form."""
    data = os.urandom(size)
    prefix = f"forms/{uuid.uuid4().hex}/"
    post = client.generate_presigned_post(
        bucket,
        prefix + "${filename}",
        Fields={"Content-Type": "image/png", "x-amz-meta-who": "me", "success_action_status": "201"},
        Conditions=[
            {"Content-Type": "image/png"},
            {"x-amz-meta-who": "me"},
            {"success_action_status": "201"},
            ["content-length-range", 0, 6_000_000],
        ],
    )
    answer = send(post, "a b.png", data)
    assert answer.status == 201, answer.data
    assert f"<Key>{prefix}a b.png</Key>".encode() in answer.data
    got = client.get_object(Bucket=bucket, Key=prefix + "a b.png")
    assert sha256(got["Body"].read()) == sha256(data)
    assert got["ContentType"] == "image/png"
    assert got["Metadata"] == {"who": "me"}
    assert got["ETag"].encode().strip(b'"') in answer.data


def test_a_form_that_breaks_its_policy_stores_nothing(client, bucket):
    """A1, A5: size, fields and signature are compared with the signed policy."""
    key = f"forms/{uuid.uuid4().hex}"
    post = client.generate_presigned_post(bucket, key, Conditions=[["content-length-range", 10, 100_000]])
    for data, fields, status, code in [
        (b"x", {}, 400, b"EntityTooSmall"),
        (b"x" * 100_001, {}, 400, b"EntityTooLarge"),
        (b"x" * 50, {"acl": "public-read"}, 403, b"AccessDenied"),
        (b"x" * 50, {"key": key + "2"}, 403, b"AccessDenied"),
        (b"x" * 50, {"x-amz-signature": "0" * 64}, 403, b"SignatureDoesNotMatch"),
    ]:
        answer = send(post, "f", data, **fields)
        assert answer.status == status
        assert b"<Code>" + code + b"</Code>" in answer.data
    listed = {name for name in (key, key + "2") if exists(client, bucket, name)}
    assert listed == set()
    assert send(post, "f", b"x" * 50).status == 204
    assert exists(client, bucket, key)


def exists(client, bucket, key):
    try:
        client.head_object(Bucket=bucket, Key=key)
    except client.exceptions.ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
        return False
    return True


def test_a_forms_tags_become_the_objects(client, rgw_direct):
    """A1: the document in the field `tagging` becomes the object's tags, and the signed policy restricts it."""
    key = f"forms/{uuid.uuid4().hex}"
    tags = {"0": "0", "a b": "c=d+e"}
    inner = "".join(f"<Tag><Key>{name}</Key><Value>{value}</Value></Tag>" for name, value in tags.items())
    field = {"tagging": f"<Tagging><TagSet>{inner}</TagSet></Tagging>"}
    for data in (b"data", os.urandom(200_000)):
        post = client.generate_presigned_post("at-rgw", key, Fields=field, Conditions=[field])
        answer = send(post, "f", data)
        assert answer.status == 204, answer.data
        stored = rgw_direct.client().get_object_tagging(Bucket=rgw_direct.bucket, Key=key)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in stored} == tags
        assert send(post, "f", data, tagging="<Tagging><TagSet/></Tagging>").status == 403


@pytest.mark.parametrize("where", ["fields", "behind the file"])
def test_a_sending_client_gets_the_refusal_of_its_form(client, bucket, where):
    """A1, V10: fields over their limit, and a part behind a large file, are answered while the client still sends."""
    key = f"forms/{uuid.uuid4().hex}"
    post = client.generate_presigned_post(bucket, key)
    file = ("f", os.urandom(3_000_000), "text/plain")
    more = {"x-ignore-more": "x" * 1_000_000}
    fields = {**more, "file": file} if where == "fields" else {"file": file, **more}
    with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(30)) as pool:
        answer = pool.request("POST", post["url"], fields={**post["fields"], **fields}, redirect=False)
    code = b"MaxPostPreDataLengthExceeded" if where == "fields" else b"MalformedPOSTRequest"
    assert answer.status == 400
    assert b"<Code>" + code + b"</Code>" in answer.data
    assert not exists(client, bucket, key)


def test_an_expiration_is_iso_8601_in_utc(client, bucket):
    """A1: S3 accepts only the form with `T` and `Z`."""
    post = client.generate_presigned_post(bucket, f"forms/{uuid.uuid4().hex}")
    policy = json.loads(base64.b64decode(post["fields"]["policy"]))
    assert datetime.datetime.strptime(policy["expiration"], "%Y-%m-%dT%H:%M:%SZ")
    policy["expiration"] = "2099-11-29 12:00:00.1+00:00"
    text = base64.b64encode(json.dumps(policy).encode()).decode()
    date, region, service, end = post["fields"]["x-amz-credential"].split("/")[1:]
    secret = ("AWS4" + KEYS[1]).encode()
    for step in (date, region, service, end, text):
        secret = hmac.new(secret, step.encode(), hashlib.sha256).digest()
    answer = send(post, "f", b"data", **{"policy": text, "x-amz-signature": secret.hex()})
    assert (answer.status, b"<Code>InvalidPolicyDocument</Code>" in answer.data) == (400, True)


def test_a_browser_is_redirected(client, bucket):
    """A1: after an upload the browser is redirected to the form's page, with the stored key in the query."""
    key = f"forms/{uuid.uuid4().hex}"
    page = "http://pages.example/done?a=1"
    fields = {"success_action_redirect": page}
    post = client.generate_presigned_post(bucket, key, Fields=fields, Conditions=[fields])
    answer = send(post, "f", b"data")
    assert answer.status == 303
    assert answer.headers["location"].startswith(f"{page}&bucket={bucket}&key=forms%2F")

"""Buckets of a Ceph Object Gateway's tenant, `acme:photos`, in every position of a request."""

import dataclasses
import urllib.parse

import botocore.handlers
import pytest
import urllib3
from botocore.exceptions import ClientError
from configuration import DATA, key, policy, section
from conftest import DIRECT, Target, code_of

TENANT = "acme"
BUCKET = f"{TENANT}:photos"
#: The keys that clients of the gateway sign with: one for the tenant, one for all names without a tenant.
STUDIO = ("AKIASTUDIO", "studio-secret")
STRANGER = ("AKIASTRANGER", "stranger-secret")


def named_freely(client):
    """boto3 refuses names with a colon by default, and has a hook to allow them."""
    client.meta.events.unregister("before-parameter-build.s3", botocore.handlers.validate_bucket_name)
    return client


@pytest.fixture(scope="module")
def tenant_direct(rgw_server):
    """The tenant's own user at the store, with an empty bucket `photos`."""
    keys = rgw_server.make_user(TENANT)
    target = Target("rgw", rgw_server.endpoint, BUCKET, keys)
    target.client().create_bucket(Bucket="photos")
    return target


@pytest.fixture(scope="module")
def tenant_gateway(start_gateway, rgw_server, tenant_direct):
    tenants = {"keys": tenant_direct.keys}
    return start_gateway(
        "tenants",
        section("every", rgw_server, pattern="*"),
        section("default", rgw_server, pattern=":*"),
        section("tenant", rgw_server, pattern=f"{TENANT}:*", **tenants),
        section("renamed", rgw_server, pattern="pictures", bucket=BUCKET, **tenants),
        key(STUDIO, policy="studio"),
        policy("studio", buckets=(f"{TENANT}:*", "pictures", ":*"), methods=DATA),
        key(STRANGER, policy="stranger"),
        policy("stranger", methods=DATA),
    )


@pytest.fixture(scope="module")
def studio(request, tenant_direct):
    """The tenant's bucket, through the gateway unless the suite runs without it."""
    if DIRECT:
        return tenant_direct
    gateway = request.getfixturevalue("tenant_gateway")
    return dataclasses.replace(tenant_direct, endpoint=gateway.endpoint, keys=STUDIO)


def test_a_tenants_bucket_is_written_listed_and_read(studio, tenant_direct, prefix):
    """V5, V12, A1, A2: objects written under `acme:photos` are in the tenant's own `photos`, and nowhere else."""
    client = named_freely(studio.client())
    written = client.put_object(Bucket=BUCKET, Key=prefix + "a:b/ü", Body=b"bytes")
    got = client.get_object(Bucket=BUCKET, Key=prefix + "a:b/ü")
    assert (got["Body"].read(), got["ETag"]) == (b"bytes", written["ETag"])
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    assert [item["Key"] for item in listed["Contents"]] == [prefix + "a:b/ü"]
    own = tenant_direct.client().get_object(Bucket="photos", Key=prefix + "a:b/ü")
    assert own["Body"].read() == b"bytes"
    client.delete_object(Bucket=BUCKET, Key=prefix + "a:b/ü")
    assert "Contents" not in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)


def test_every_encoding_of_a_tenants_bucket_has_the_same_signature(studio, prefix):
    """A1, V12: a presigned URL is valid for the encoded and the decoded name, in any case of the escapes."""
    client = named_freely(studio.client())
    client.put_object(Bucket=BUCKET, Key=prefix + "o", Body=b"bytes")
    url = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": prefix + "o"})
    spelled = f"/{TENANT}%3Aphotos/"
    assert spelled in url
    with urllib3.PoolManager(retries=False) as pool:
        for other in (spelled, f"/{TENANT}:photos/", f"/{TENANT}%3aphotos/", "/%61cme%3Aphoto%73/"):
            answer = pool.request("GET", url.replace(spelled, other))
            assert (answer.status, answer.data) == (200, b"bytes"), other
        answer = pool.request("GET", url.replace(spelled, f"/{TENANT}:other/"))
        assert answer.status == 403


@pytest.mark.parametrize("leading", ["", "/"])
@pytest.mark.parametrize("bucket", [BUCKET, f"{TENANT}%3Aphotos", f"{TENANT}%3aphoto%73"])
def test_a_copy_source_may_encode_the_tenant(studio, prefix, leading, bucket):
    """A5, V12: some SDKs encode the name, others do not; either is a copy within the tenant."""
    client = named_freely(studio.client())
    client.put_object(Bucket=BUCKET, Key=prefix + "o", Body=b"bytes")
    sent = []

    def as_written(params, **_):
        """boto3 encodes the value; the header is set after that."""
        params["headers"]["x-amz-copy-source"] = f"{leading}{bucket}/{prefix}o"
        sent.append(params["headers"]["x-amz-copy-source"])

    client.meta.events.register("before-call.s3.CopyObject", as_written)
    client.copy_object(Bucket=BUCKET, Key=prefix + "c", CopySource={"Bucket": BUCKET, "Key": prefix + "o"})
    assert sent == [f"{leading}{bucket}/{prefix}o"]
    assert client.get_object(Bucket=BUCKET, Key=prefix + "c")["Body"].read() == b"bytes"


def test_an_upload_in_parts_to_a_tenants_bucket(studio, prefix):
    """V5: every step of a multipart upload succeeds, with a copied part too."""
    client = named_freely(studio.client())
    client.put_object(Bucket=BUCKET, Key=prefix + "o", Body=b"copied")
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=prefix + "big")
    named = {"Bucket": BUCKET, "Key": prefix + "big", "UploadId": upload["UploadId"]}
    source = {"Bucket": BUCKET, "Key": prefix + "o"}
    part = client.upload_part_copy(**named, PartNumber=1, CopySource=source)["CopyPartResult"]
    assert len(client.list_parts(**named)["Parts"]) == 1
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**named, MultipartUpload=parts)
    assert client.get_object(Bucket=BUCKET, Key=prefix + "big")["Body"].read() == b"copied"


@pytest.mark.gateway
def test_a_tenants_bucket_may_have_another_name(studio, prefix):
    """V5, E2: the store is called for `acme:photos`, and its documents, which omit the tenant, have the client's name.
    """
    client = named_freely(studio.client())
    client.put_object(Bucket="pictures", Key=prefix + "o", Body=b"bytes")
    assert client.get_object(Bucket=BUCKET, Key=prefix + "o")["Body"].read() == b"bytes"
    assert client.list_objects_v2(Bucket="pictures", Prefix=prefix)["Name"] == "pictures"
    client.copy_object(Bucket="pictures", Key=prefix + "c", CopySource={"Bucket": "pictures", "Key": prefix + "o"})
    upload = client.create_multipart_upload(Bucket="pictures", Key=prefix + "big")
    named = {"Bucket": "pictures", "Key": prefix + "big", "UploadId": upload["UploadId"]}
    assert (upload["Bucket"], client.list_parts(**named)["Bucket"]) == ("pictures", "pictures")
    part = client.upload_part(**named, PartNumber=1, Body=b"part")
    done = client.complete_multipart_upload(
        **named, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    assert done["Bucket"] == "pictures"
    assert urllib.parse.unquote(done["Location"]).endswith(f"/pictures/{prefix}big")


@pytest.mark.gateway
def test_no_wildcard_reaches_another_tenant(studio, rgw_direct, prefix):
    """A5, V12: `*` matches no bucket of a tenant, in sections, policies and copy sources."""
    named_freely(studio.client()).put_object(Bucket=BUCKET, Key=prefix + "secret", Body=b"bytes")
    stranger = named_freely(dataclasses.replace(studio, keys=STRANGER).client())
    stranger.put_object(Bucket=rgw_direct.bucket, Key=prefix + "own", Body=b"own")
    for call in (
        lambda: stranger.get_object(Bucket=BUCKET, Key=prefix + "secret"),
        lambda: stranger.list_objects_v2(Bucket=BUCKET),
        lambda: stranger.get_object(Bucket=f":{rgw_direct.bucket}", Key=prefix + "own"),
        lambda: stranger.copy_object(
            Bucket=rgw_direct.bucket, Key=prefix + "c", CopySource={"Bucket": BUCKET, "Key": prefix + "secret"}
        ),
    ):
        with pytest.raises(ClientError) as error:
            call()
        assert code_of(error) == (403, "AccessDenied")


@pytest.mark.gateway
def test_the_default_tenant_has_an_empty_name(studio, rgw_direct, prefix):
    """V5, V12: `:bucket` is a bucket of Ceph's default tenant, for every user."""
    rgw_direct.client().put_object(Bucket=rgw_direct.bucket, Key=prefix + "o", Body=b"bytes")
    got = named_freely(studio.client()).get_object(Bucket=f":{rgw_direct.bucket}", Key=prefix + "o")
    assert got["Body"].read() == b"bytes"


@pytest.mark.gateway
def test_a_tenants_buckets_are_listed_by_their_names(studio, rgw_direct):
    """A5, V12: Ceph lists a tenant's buckets without the tenant; the list has the names that clients can use."""
    names = [bucket["Name"] for bucket in studio.client().list_buckets()["Buckets"]]
    assert BUCKET in names and "pictures" in names and f":{rgw_direct.bucket}" in names
    assert "photos" not in names and rgw_direct.bucket not in names
    stranger = dataclasses.replace(studio, keys=STRANGER)
    names = [bucket["Name"] for bucket in stranger.client().list_buckets()["Buckets"]]
    assert rgw_direct.bucket in names and not any(":" in name for name in names)

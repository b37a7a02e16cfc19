"""Valid and invalid signatures of real clients with a gateway that verifies them: header and presigned."""

import datetime
import uuid

import botocore
import botocore.auth
import configuration
import pytest
import urllib3
from botocore.exceptions import ClientError

from conftest import Target, code_of, sha256

pytestmark = pytest.mark.gateway

KEYS = ("AKIASUITE", "suite/secret+of/forty=characters")
READER = ("AKIAREADER", "another/secret")


@pytest.fixture(scope="module")
def endpoint(start_gateway, origin_server):
    """A gateway that accepts SigV4 only, with two keys, in front of the embedded origin."""
    gateway = start_gateway(
        "signed",
        configuration.section("signed", origin_server, bucket="demo"),
        configuration.key(KEYS),
        configuration.key(READER, policy="reader"),
        configuration.policy(methods=configuration.DATA),
        configuration.policy("reader", buckets=("signed",), methods=("read", "list"), prefixes=("public/",)),
    )
    return gateway.endpoint


def target(endpoint, keys=KEYS):
    return Target("signed", endpoint, "signed", keys)


@pytest.fixture
def key():
    return f"public/a b+c/ü-{uuid.uuid4().hex}"


def test_boto3_reads_writes_lists_and_deletes(endpoint, key):
    """A1, A5: header signatures over unusual keys, ranges, metadata, listings and a multi-object delete."""
    client = target(endpoint).client()
    client.put_object(Bucket="signed", Key=key, Body=b"0123456789", Metadata={"m": "two   words"})
    got = client.get_object(Bucket="signed", Key=key, Range="bytes=2-4")
    assert got["Body"].read() == b"234"
    listed = client.list_objects_v2(Bucket="signed", Prefix=key, Delimiter="|")
    assert [item["Key"] for item in listed["Contents"]] == [key]
    client.copy_object(Bucket="signed", Key=key + "2", CopySource={"Bucket": "signed", "Key": key})
    deleted = client.delete_objects(Bucket="signed", Delete={"Objects": [{"Key": key}, {"Key": key + "2"}]})
    assert len(deleted["Deleted"]) == 2
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["signed"]


def test_boto3_gets_the_rights_of_its_policy(endpoint, key):
    """A5: a key with read access below a prefix can read there, and nothing else."""
    target(endpoint).client().put_object(Bucket="signed", Key=key, Body=b"x")
    reader = target(endpoint, READER).client()
    assert reader.get_object(Bucket="signed", Key=key)["Body"].read() == b"x"
    assert reader.list_objects_v2(Bucket="signed", Prefix="public/")["KeyCount"] >= 1
    for denied in [
        lambda: reader.put_object(Bucket="signed", Key=key, Body=b"y"),
        lambda: reader.delete_object(Bucket="signed", Key=key),
        lambda: reader.list_objects_v2(Bucket="signed"),
        lambda: reader.get_object(Bucket="signed", Key="secret"),
    ]:
        with pytest.raises(ClientError) as error:
            denied()
        assert code_of(error) == (403, "AccessDenied")


@pytest.mark.parametrize(
    ("keys", "code"),
    [((KEYS[0], "wrong-secret"), "SignatureDoesNotMatch"), (("AKIAUNKNOWN", KEYS[1]), "InvalidAccessKeyId")],
)
def test_boto3_gets_the_codes_for_wrong_keys(endpoint, key, keys, code):
    """A1, V8: a wrong secret and an unknown key get S3's codes."""
    with pytest.raises(ClientError) as error:
        target(endpoint, keys).client().list_objects_v2(Bucket="signed")
    assert code_of(error) == (403, code)
    with pytest.raises(ClientError) as error:
        target(endpoint, keys).client().put_object(Bucket="signed", Key=key, Body=b"x")
    assert code_of(error) == (403, code)


def test_boto3_with_a_skewed_clock_is_refused(endpoint, monkeypatch):
    """A1: a skew of twenty minutes is refused, of ten accepted."""
    right = botocore.auth.get_current_datetime

    def late(minutes):
        return lambda *args, **options: right(*args, **options) - datetime.timedelta(minutes=minutes)

    client = target(endpoint).client()
    monkeypatch.setattr(botocore.auth, "get_current_datetime", late(20))
    with pytest.raises(ClientError) as error:
        client.list_objects_v2(Bucket="signed")
    assert code_of(error) == (403, "RequestTimeTooSkewed")
    monkeypatch.setattr(botocore.auth, "get_current_datetime", late(10))
    assert client.list_objects_v2(Bucket="signed")["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_presigned_urls_of_boto3(endpoint, key):
    """A1: a URL grants exactly its operation until it expires."""
    client = target(endpoint).client()

    def url(method, seconds=60):
        return client.generate_presigned_url(method, Params={"Bucket": "signed", "Key": key}, ExpiresIn=seconds)

    with urllib3.PoolManager(retries=False) as pool:
        assert pool.request("PUT", url("put_object"), body=b"presigned").status == 200
        got = pool.request("GET", url("get_object"))
        assert (got.status, got.data) == (200, b"presigned")
        assert pool.request("DELETE", url("get_object")).status == 403
        assert pool.request("GET", url("get_object").replace("a%20b", "c%20d")).status == 403
        late = pool.request("GET", url("get_object", seconds=0).replace("X-Amz-Expires=0", "X-Amz-Expires=900"))
        assert b"<Code>SignatureDoesNotMatch</Code>" in late.data
        week = pool.request("GET", url("get_object", seconds=604_801))
        assert b"<Code>AuthorizationQueryParametersError</Code>" in week.data


def test_the_aws_cli_copies_and_presigns(endpoint, key, tmp_path):
    """A1: the CLI's signatures, in headers and in a URL, and its error for a wrong secret."""
    source = tmp_path / "source.bin"
    source.write_bytes(b"from the cli" * 1000)
    cli = target(endpoint)
    cli.aws("s3", "cp", source, f"s3://signed/{key}")
    cli.aws("s3", "cp", f"s3://signed/{key}", tmp_path / "back.bin")
    assert sha256(tmp_path / "back.bin") == sha256(source)
    version_4 = tmp_path / "config"
    version_4.write_text("[default]\ns3 =\n  signature_version = s3v4\n")
    with urllib3.PoolManager(retries=False) as pool:
        url = cli.aws("s3", "presign", f"s3://signed/{key}", config=version_4).stdout.decode().strip()
        assert pool.request("GET", url).data == source.read_bytes()
        # Without that setting the CLI still presigns with SigV2, which the gateway's error names.
        url = cli.aws("s3", "presign", f"s3://signed/{key}").stdout.decode().strip()
        old = pool.request("GET", url)
        assert old.status == 501 and b"SigV2" in old.data
    wrong = target(endpoint, (KEYS[0], "wrong-secret")).aws("s3", "ls", "s3://signed/", check=False)
    assert wrong.returncode != 0 and b"SignatureDoesNotMatch" in wrong.stderr

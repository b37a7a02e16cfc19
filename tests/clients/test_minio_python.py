"""minio-py with endpoint and keys only: it sends GetBucketLocation and signs for the region in the answer."""

import datetime
import io
import os

import pytest
from conftest import sha256
from minio import Minio
from minio.commonconfig import ComposeSource, CopySource
from minio.deleteobjects import DeleteObject
from minio.datatypes import PostPolicy
from minio.error import S3Error
from tool import AWKWARD, fetch


@pytest.fixture
def minio(tool_target):
    return Minio(tool_target.endpoint.removeprefix("http://"), *tool_target.keys, secure=False)


def test_objects(minio, tool_target, prefix):
    """A9, A1, V5, I2: put, stat, ranges, list, copy, compose, tags, delete of one and several."""
    bucket = tool_target.bucket
    assert minio.bucket_exists(bucket)
    assert bucket in [each.name for each in minio.list_buckets()]
    for name in AWKWARD:
        minio.put_object(bucket, prefix + name, io.BytesIO(name.encode()), len(name.encode()), metadata={"who": "me"})
    assert sorted(each.object_name for each in minio.list_objects(bucket, prefix, recursive=True)) == sorted(prefix + name for name in AWKWARD)
    grouped = [each.object_name for each in minio.list_objects(bucket, prefix) if each.is_dir]
    assert sorted(grouped) == [prefix + "sub dir/", prefix + "~tilde/"]
    assert minio.stat_object(bucket, prefix + AWKWARD[1]).metadata["x-amz-meta-who"] == "me"
    answer = minio.get_object(bucket, prefix + "plain.txt", offset=2, length=3)
    assert answer.read() == b"ain"
    answer.close()
    minio.copy_object(bucket, prefix + "copied", CopySource(bucket, prefix + AWKWARD[3]))
    answer = minio.get_object(bucket, prefix + "copied")
    assert answer.read() == AWKWARD[3].encode()
    answer.close()
    keys = [DeleteObject(each.object_name) for each in minio.list_objects(bucket, prefix, recursive=True)]
    assert list(minio.remove_objects(bucket, keys)) == []
    assert list(minio.list_objects(bucket, prefix, recursive=True)) == []
    with pytest.raises(S3Error) as error:
        minio.stat_object(bucket, prefix + "none")
    assert error.value.code == "NoSuchKey"


def test_parts(minio, tool_target, prefix, tmp_path):
    """A9: a stream of unknown length in parts, and an object composed of parts of others."""
    body = os.urandom(11 << 20)
    minio.put_object(tool_target.bucket, prefix + "big", io.BytesIO(body), -1, part_size=5 << 20)
    minio.fget_object(tool_target.bucket, prefix + "big", str(tmp_path / "out"))
    assert sha256(tmp_path / "out") == sha256(body)
    source = ComposeSource(tool_target.bucket, prefix + "big", offset=0, length=6 << 20)
    minio.compose_object(tool_target.bucket, prefix + "composed", [source, ComposeSource(tool_target.bucket, prefix + "big")])
    assert minio.stat_object(tool_target.bucket, prefix + "composed").size == (6 << 20) + len(body)
    minio.fget_object(tool_target.bucket, prefix + "composed", str(tmp_path / "composed"))
    assert sha256(tmp_path / "composed") == sha256(body[: 6 << 20] + body)


def test_presigned(minio, tool_target, prefix):
    """A1, A9: URLs that write and read, and a form."""
    soon = datetime.timedelta(minutes=5)
    assert fetch(minio.presigned_put_object(tool_target.bucket, prefix + "a b", soon), "PUT", b"tide")[0] == 200
    assert fetch(minio.presigned_get_object(tool_target.bucket, prefix + "a b", soon)) == (200, b"tide")
    policy = PostPolicy(tool_target.bucket, datetime.datetime.now(datetime.timezone.utc) + soon)
    policy.add_starts_with_condition("key", prefix)
    policy.add_content_length_range_condition(1, 1000)
    fields = minio.presigned_post_policy(policy)
    answer = tool_target.raw("POST", f"/{tool_target.bucket}", fields={**fields, "key": prefix + "form", "file": ("f", b"form")})
    assert answer.status == 204, answer.data
    answer = minio.get_object(tool_target.bucket, prefix + "form")
    assert answer.read() == b"form"
    answer.close()


def test_buckets(minio, tool_target, prefix):
    """A9: a bucket is created, its settings are written and read, it is removed."""
    bucket = f"{tool_target.bucket}-{prefix[2:-1]}"
    minio.make_bucket(bucket)
    assert bucket in [each.name for each in minio.list_buckets()]
    policy = f'{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":["*"]}},"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::{bucket}/*"]}}]}}'
    minio.set_bucket_policy(bucket, policy)
    assert "s3:GetObject" in minio.get_bucket_policy(bucket)
    minio.delete_bucket_policy(bucket)
    with pytest.raises(S3Error) as error:
        minio.get_bucket_policy(bucket)
    assert error.value.code == "NoSuchBucketPolicy"
    minio.remove_bucket(bucket)
    assert not minio.bucket_exists(bucket)

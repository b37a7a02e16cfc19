"""The AWS CLI in common use."""

import json
import os

import pytest
from conftest import sha256


def test_put_get_head_list_delete(target, prefix, tmp_path):
    """V5, I2: the low-level commands, with a key of unusual characters."""
    key = prefix + "a b+ü%20~.txt"
    body = os.urandom(70_000)
    (tmp_path / "in").write_bytes(body)
    place = ("--bucket", target.bucket, "--key", key)
    put = json.loads(target.aws("s3api", "put-object", *place, "--body", tmp_path / "in").stdout)
    head = json.loads(target.aws("s3api", "head-object", *place).stdout)
    assert head["ContentLength"] == len(body)
    assert head["ETag"] == put["ETag"]
    target.aws("s3api", "get-object", *place, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == body
    listed = json.loads(
        target.aws("s3api", "list-objects-v2", "--bucket", target.bucket, "--prefix", prefix).stdout
    )
    assert [item["Key"] for item in listed["Contents"]] == [key]
    target.aws("s3api", "delete-object", *place)
    gone = target.aws("s3api", "head-object", *place, check=False)
    assert gone.returncode != 0
    assert b"404" in gone.stderr


def test_sync_both_ways_is_byte_equal(target, prefix, tmp_path):
    """V5, P3: a tree with unusual names up and down, compared by hash; a second sync transfers nothing."""
    names = ["a.txt", "sub dir/b+.bin", "sub dir/ü.txt", "deep/er/100%.dat", "..dots/x~"]
    for name in names:
        path = tmp_path / "up" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(30_000))
    remote = f"s3://{target.bucket}/{prefix}tree"
    target.aws("s3", "sync", "--no-progress", tmp_path / "up", remote)
    target.aws("s3", "sync", "--no-progress", remote, tmp_path / "down")
    for name in names:
        assert sha256(tmp_path / "down" / name) == sha256(tmp_path / "up" / name), name
    assert target.aws("s3", "sync", "--no-progress", tmp_path / "up", remote).stdout == b""


def test_a_stream_of_unknown_length(target, prefix):
    """V2: `aws s3 cp -` in both directions."""
    body = os.urandom(9 << 20)
    remote = f"s3://{target.bucket}/{prefix}stream"
    target.aws("s3", "cp", "-", remote, stdin=body)
    assert sha256(target.aws("s3", "cp", remote, "-").stdout) == sha256(body)


def test_copy_and_move_within_the_bucket(target, prefix):
    """V5: server-side copies by the high-level commands."""
    base = f"s3://{target.bucket}/{prefix}"
    target.aws("s3", "cp", "-", base + "one +.txt", stdin=b"tide")
    target.aws("s3", "cp", "--no-progress", base + "one +.txt", base + "two.txt")
    target.aws("s3", "mv", "--no-progress", base + "two.txt", base + "three.txt")
    listed = target.aws("s3", "ls", base).stdout.decode()
    assert "one +.txt" in listed
    assert "three.txt" in listed
    assert "two.txt" not in listed
    assert target.aws("s3", "cp", base + "three.txt", "-").stdout == b"tide"


def test_removing_a_tree(target, prefix):
    """V5: `aws s3 rm --recursive` lists and deletes the whole tree and nothing else."""
    base = f"s3://{target.bucket}/{prefix}"
    for name in ("in/1", "in/2", "in/x y", "beside"):
        target.aws("s3", "cp", "-", base + name, stdin=b"x")
    target.aws("s3", "rm", "--recursive", base + "in/")
    left = target.aws("s3", "ls", "--recursive", base).stdout.decode().split()
    assert [word for word in left if word.startswith(prefix)] == [prefix + "beside"]


@pytest.mark.gateway
def test_a_client_that_does_not_sign(target, prefix):
    """A4, A2: an anonymous bucket accepts unsigned requests; the gateway signs for a server that requires it."""
    base = f"s3://{target.bucket}/{prefix}"
    target.aws("s3", "cp", "-", base + "o", stdin=b"unsigned", signed=False)
    assert target.aws("s3", "cp", base + "o", "-", signed=False).stdout == b"unsigned"
    assert b"o\n" in target.aws("s3", "ls", base, signed=False).stdout


def test_a_missing_object_is_reported(origin, prefix):
    """E1: the CLI prints the server's code, so the error document is complete.

    Not with RGW: its errors have no message, which the CLI cannot print.
    """
    done = origin.aws(
        "s3api", "get-object", "--bucket", origin.bucket, "--key", prefix + "none", os.devnull, check=False
    )
    assert done.returncode != 0
    assert b"NoSuchKey" in done.stderr

"""s3cmd with its defaults, and with a region."""

import datetime

import pytest
from tool import BIN, Tool, fetch, make_tree, read_tree

#: Refusals that s3cmd provokes and recovers from.
REFUSALS = {"authorization_malformed": "without a region it signs for `US` first, and then for the region of the error"}


@pytest.fixture(params=["no region", "eu-west-1"])
def s3cmd(request, tool_target, tmp_path):
    host = tool_target.endpoint.removeprefix("http://")
    lines = [
        "[default]",
        f"access_key = {tool_target.keys[0]}",
        f"secret_key = {tool_target.keys[1]}",
        f"host_base = {host}",
        f"host_bucket = {host}",
        "use_https = False",
    ]
    if request.param != "no region":
        lines.append(f"bucket_location = {request.param}")
    (tmp_path / ".s3cfg").write_text("\n".join(lines) + "\n")
    return Tool(tmp_path, [BIN / "s3cmd", "--no-progress"])


def test_s3cmd(s3cmd, tool_target, prefix, tmp_path):
    """A9, A1, V5: put, info, get, resumed get, list, copy, move, sync in both directions, delete."""
    base = f"s3://{tool_target.bucket}/{prefix}"
    body = make_tree(tmp_path / "in", ["a b+ü.txt"])["a b+ü.txt"]
    s3cmd("put", tmp_path / "in/a b+ü.txt", base)
    assert "MD5 sum" in s3cmd("info", base + "a b+ü.txt")
    s3cmd("get", base + "a b+ü.txt", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == body
    (tmp_path / "out").write_bytes(body[:1000])
    s3cmd("get", "--continue", base + "a b+ü.txt", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == body
    s3cmd("cp", base + "a b+ü.txt", base + "copied")
    s3cmd("mv", base + "copied", base + "moved")
    listed = s3cmd("ls", base)
    assert base + "a b+ü.txt" in listed
    assert base + "moved" in listed
    assert base + "copied" not in listed
    assert f"s3://{tool_target.bucket}\n" in s3cmd("ls")
    files = make_tree(tmp_path / "up")
    s3cmd("sync", f"{tmp_path}/up/", base + "tree/")
    (tmp_path / "down").mkdir()
    s3cmd("sync", base + "tree/", f"{tmp_path}/down/")
    assert read_tree(tmp_path / "down") == files
    s3cmd("del", "--recursive", "--force", base)
    assert s3cmd("ls", base) == ""


def test_s3cmd_multipart_and_presigned(s3cmd, tool_target, prefix, tmp_path):
    """A8, A9: a multipart upload; a URL of `signurl`, which uses SigV2; access lists."""
    body = make_tree(tmp_path / "in", ["big"], 11 << 20)["big"]
    remote = f"s3://{tool_target.bucket}/{prefix}big"
    s3cmd("put", "--multipart-chunk-size-mb=5", tmp_path / "in/big", remote)
    s3cmd("get", remote, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == body
    soon = int(datetime.datetime.now().timestamp()) + 300
    assert fetch(s3cmd("signurl", remote, soon).strip()) == (200, body)
    s3cmd("setacl", "--acl-public", remote)
    assert "*anon*" in s3cmd("info", remote)
    s3cmd("del", remote)
    assert s3cmd("ls", remote) == ""


@pytest.mark.parametrize("s3cmd", ["no region"], indirect=True)
def test_s3cmd_creates_buckets(s3cmd, tool_target, prefix):
    """A9: a bucket is created, listed and removed. With a region RGW refuses it: its only region has another name."""
    bucket = f"s3://{tool_target.bucket}-{prefix[2:-1]}"
    s3cmd("mb", bucket)
    assert f"{bucket}\n" in s3cmd("ls")
    s3cmd("rb", bucket)
    assert f"{bucket}\n" not in s3cmd("ls")

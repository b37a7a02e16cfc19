"""The AWS CLI, versions 1 and 2, with keys and endpoint and nothing else: no region, default presigning."""

import os
import sys

import pytest
from tool import Tool, fetch, make_tree, read_tree

#: Version 2 is Debian's: no other registry has it.
COMMANDS = {"v1": [sys.executable, "-m", "awscli"], "v2": ["/usr/bin/aws"]}


@pytest.fixture(params=COMMANDS)
def aws(request, place, tmp_path):
    return Tool(
        tmp_path,
        [*COMMANDS[request.param], "--endpoint-url", place.endpoint],
        AWS_ACCESS_KEY_ID=place.keys[0],
        AWS_SECRET_ACCESS_KEY=place.keys[1],
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_MAX_ATTEMPTS="1",
        AWS_PAGER="",
    )


def test_the_aws_cli(aws, place, prefix, tmp_path):
    """A9, A8, A1, V5: cp, ranges, ls, server-side copy and move, sync both ways, presign, rm."""
    base = f"s3://{place.bucket}/{prefix}"
    files = make_tree(tmp_path / "up")
    aws("s3", "sync", "--no-progress", "up", base + "tree")
    aws("s3", "sync", "--no-progress", base + "tree", "down")
    assert read_tree(tmp_path / "down") == files
    aws("s3", "cp", "--no-progress", base + "tree/a b+c.txt", base + "copied")
    aws("s3", "mv", "--no-progress", base + "copied", base + "moved ü")
    assert fetch(aws("s3", "presign", base + "moved ü").strip()) == (200, files["a b+c.txt"])
    named = ("--bucket", place.bucket, "--key", prefix + "moved ü")
    aws("s3api", "get-object", *named, "--range", "bytes=5-9", "piece")
    assert (tmp_path / "piece").read_bytes() == files["a b+c.txt"][5:10]
    assert "ContentLength" in aws("s3api", "head-object", *named)
    aws("s3", "rm", "--recursive", base)
    assert aws("s3", "ls", "--recursive", base, check=False) == ""


def test_the_aws_cli_with_parts(aws, place, prefix, tmp_path):
    """A9, V5, I1: a file over the limit for one request both ways, and copied by parts within the store."""
    body = make_tree(tmp_path / "in", ["big"], 21 << 20)["big"]
    base = f"s3://{place.bucket}/{prefix}"
    aws("s3", "cp", "--no-progress", "in/big", base + "big")
    aws("s3", "cp", "--no-progress", base + "big", base + "copied")
    aws("s3", "cp", "--no-progress", base + "copied", "out")
    assert (tmp_path / "out").read_bytes() == body
    aws("s3", "rm", "--recursive", base)


@pytest.mark.parametrize("aws", ["v1"], indirect=True)
def test_the_aws_cli_makes_buckets(aws, place, prefix):
    """A9, V5: mb, ls, rb. Version 2 names a region of AWS as the bucket's, which RGW refuses."""
    bucket = f"{place.bucket}-{prefix[2:-1]}"
    aws("s3", "mb", f"s3://{bucket}")
    assert bucket in aws("s3", "ls")
    aws("s3", "rb", f"s3://{bucket}")

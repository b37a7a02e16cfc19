"""The AWS CLI, versions 1 and 2, with only keys and endpoint configured: no region, default presigning."""

import json

import pytest
from tool import AWS_CLI, assert_empty, aws_cli, fetch, make_tree, read_tree


@pytest.fixture(params=AWS_CLI)
def aws(request, tool_target, tmp_path):
    return aws_cli(request.param, tool_target, tmp_path)


def test_the_aws_cli(aws, tool_target, prefix, tmp_path):
    """A9, A8, A1, V5: cp, ranges, ls, server-side copy and move, sync both ways, presign, rm."""
    base = f"s3://{tool_target.bucket}/{prefix}"
    files = make_tree(tmp_path / "up")
    aws("s3", "sync", "--no-progress", "up", base + "tree")
    aws("s3", "sync", "--no-progress", base + "tree", "down")
    assert read_tree(tmp_path / "down") == files
    aws("s3", "cp", "--no-progress", base + "tree/a b+c.txt", base + "copied")
    aws("s3", "mv", "--no-progress", base + "copied", base + "moved ü")
    assert [line.split(maxsplit=3)[-1] for line in aws("s3", "ls", base).splitlines()] == ["tree/", "moved ü"]
    assert fetch(aws("s3", "presign", base + "moved ü").strip()) == (200, files["a b+c.txt"])
    named = ("--bucket", tool_target.bucket, "--key", prefix + "moved ü")
    aws("s3api", "get-object", *named, "--range", "bytes=5-9", "piece")
    assert (tmp_path / "piece").read_bytes() == files["a b+c.txt"][5:10]
    assert json.loads(aws("s3api", "head-object", *named))["ContentLength"] == len(files["a b+c.txt"])
    aws("s3", "rm", "--recursive", base)
    assert_empty(aws, base)


def test_the_aws_cli_with_parts(aws, tool_target, prefix, tmp_path):
    """A9, I1: a file over the limit for one request in both directions, and copied by parts within the store."""
    body = make_tree(tmp_path / "in", ["big"], 21 << 20)["big"]
    base = f"s3://{tool_target.bucket}/{prefix}"
    aws("s3", "cp", "--no-progress", "in/big", base + "big")
    aws("s3", "cp", "--no-progress", base + "big", base + "copied")
    aws("s3", "cp", "--no-progress", base + "copied", "out")
    assert (tmp_path / "out").read_bytes() == body
    aws("s3", "rm", "--recursive", base)
    assert_empty(aws, base)


@pytest.mark.parametrize("aws", ["v1"], indirect=True)
def test_the_aws_cli_makes_buckets(aws, tool_target, prefix):
    """A9: mb, ls, rb. Version 2 sends an AWS region as the bucket's, which RGW refuses."""
    bucket = f"{tool_target.bucket}-{prefix[2:-1]}"
    aws("s3", "mb", f"s3://{bucket}")
    assert bucket in aws("s3", "ls")
    aws("s3", "rb", f"s3://{bucket}")
    assert bucket not in aws("s3", "ls")

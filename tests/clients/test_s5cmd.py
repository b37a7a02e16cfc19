"""s5cmd with the AWS SDK for Go, with only keys and endpoint configured."""

import json

import pytest
from tool import BIN, Tool, fetch, make_tree, read_tree


@pytest.fixture
def s5cmd(tool_target, tmp_path):
    return Tool(
        tmp_path,
        [BIN / "s5cmd", "--endpoint-url", tool_target.endpoint, "--retry-count", "0"],
        AWS_ACCESS_KEY_ID=tool_target.keys[0],
        AWS_SECRET_ACCESS_KEY=tool_target.keys[1],
    )


def test_s5cmd(s5cmd, tool_target, prefix, tmp_path):
    """A9, A1, A8, V5: copies in both directions, parts, streams, list, size, server-side copy, sync, presigned URL,
    delete."""
    base = f"s3://{tool_target.bucket}/{prefix}"
    files = make_tree(tmp_path / "up")
    s5cmd("cp", "up/", base + "tree/")
    listed = [json.loads(line)["key"] for line in s5cmd("--json", "ls", base + "tree/*").splitlines()]
    assert sorted(listed) == sorted(base + "tree/" + name for name in files)
    s5cmd("sync", base + "tree/*", "down/")
    assert read_tree(tmp_path / "down") == files
    assert s5cmd("sync", "up/", base + "tree/") == ""
    # No space: s5cmd writes it as a plus in a copy source, which RGW does not decode.
    s5cmd("cp", base + "tree/plain.txt", base + "copied.txt")
    s5cmd("mv", base + "copied.txt", base + "moved.txt")
    assert [line.split()[-1] for line in s5cmd("ls", base).splitlines()] == ["tree/", "moved.txt"]
    assert s5cmd.output("cat", base + "moved.txt") == files["plain.txt"]
    assert fetch(s5cmd("presign", base + "moved.txt").strip()) == (200, files["plain.txt"])
    body = make_tree(tmp_path / "in", ["big"], 11 << 20)["big"]
    s5cmd("cp", "--part-size", "5", "in/big", base + "big")
    # Read in ranges of 5 MiB.
    s5cmd("cp", "--part-size", "5", base + "big", "out")
    assert (tmp_path / "out").read_bytes() == body
    s5cmd("pipe", base + "stream", stdin=body[:300_000])
    assert s5cmd.output("cat", base + "stream") == body[:300_000]
    assert json.loads(s5cmd("--json", "du", base + "stream"))["size"] == 300_000
    s5cmd("rm", base + "*")
    left = s5cmd.run("ls", base + "*")
    assert (left.returncode, left.stdout) == (1, b"")
    assert "no object found" in left.stderr.decode()
    bucket = f"s3://{tool_target.bucket}-{prefix[2:-1]}"
    s5cmd("mb", bucket)
    assert bucket in s5cmd("ls")
    s5cmd("rb", bucket)
    assert bucket not in s5cmd("ls")

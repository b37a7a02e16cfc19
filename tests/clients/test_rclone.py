"""rclone from Debian: its S3 backend with only provider, keys and endpoint configured."""

import pytest
from tool import Tool, fetch, make_tree, read_tree


@pytest.fixture(params=["Other", "Ceph", "Minio"])
def rclone(request, tool_target, tmp_path):
    settings = {
        "TYPE": "s3",
        "PROVIDER": request.param,
        "ACCESS_KEY_ID": tool_target.keys[0],
        "SECRET_ACCESS_KEY": tool_target.keys[1],
        "ENDPOINT": tool_target.endpoint,
    }
    environment = {f"RCLONE_CONFIG_R_{name}": value for name, value in settings.items()}
    return Tool(tmp_path, ["rclone", "--config", "/dev/null", "--retries", "1", "--low-level-retries", "1"], **environment)


def test_rclone(rclone, tool_target, prefix, tmp_path):
    """A9, A1, V5: copy, ranges, list, server-side copy and move, sync in both directions, check, link, delete, purge.
    """
    base = f"r:{tool_target.bucket}/{prefix}"
    files = make_tree(tmp_path / "up")
    rclone("copy", tmp_path / "up", base + "tree")
    assert sorted(rclone("lsf", "-R", "--files-only", base + "tree").splitlines()) == sorted(files)
    rclone("check", tmp_path / "up", base + "tree")
    rclone("copyto", base + "tree/a b+c.txt", base + "copied ü+.txt")
    rclone("moveto", base + "copied ü+.txt", base + "moved.txt")
    assert rclone("lsf", "--files-only", base) == "moved.txt\n"
    (tmp_path / "up/plain.txt").unlink()
    del files["plain.txt"]
    rclone("sync", tmp_path / "up", base + "tree")
    rclone("sync", base + "tree", tmp_path / "down")
    assert read_tree(tmp_path / "down") == files
    status, body = fetch(rclone("link", base + "moved.txt").strip())
    assert (status, body) == (200, files["a b+c.txt"])
    rclone("deletefile", base + "moved.txt")
    assert rclone("lsf", "--files-only", base) == ""
    rclone("purge", base)
    assert rclone("lsf", "-R", base) == ""


def test_rclone_streams_and_parts(rclone, tool_target, prefix, tmp_path):
    """A1, I2: a stream of unknown length, a multipart upload, and a range of it."""
    base = f"r:{tool_target.bucket}/{prefix}"
    body = make_tree(tmp_path / "in", ["big"], 11 << 20)["big"]
    rclone("--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", "copyto", tmp_path / "in/big", base + "big")
    rclone("rcat", base + "stream", stdin=body[:300_000])
    assert rclone.output("cat", "--offset", 5_242_870, "--count", 20, base + "big") == body[5_242_870:5_242_890]
    assert rclone.output("cat", base + "stream") == body[:300_000]
    assert f"{tool_target.bucket}/" in rclone("lsf", "r:")
    rclone("purge", base)

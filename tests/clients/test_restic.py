"""restic from Debian: a repository in a bucket, with minio-go and no configured region."""

import pytest
from tool import Tool, make_tree, read_tree


@pytest.fixture
def restic(tool_target, prefix, tmp_path):
    return Tool(
        tmp_path,
        ["restic", "--no-cache", "--repo", f"s3:{tool_target.endpoint}/{tool_target.bucket}/{prefix}repository"],
        AWS_ACCESS_KEY_ID=tool_target.keys[0],
        AWS_SECRET_ACCESS_KEY=tool_target.keys[1],
        RESTIC_PASSWORD="a repository's password",
    )


def test_restic(restic, tmp_path):
    """A9, A1, I2: init, two backups, check of all data, restore, forget with prune."""
    restic("init")
    files = make_tree(tmp_path / "up", size=400_000)
    restic("backup", "up")
    (tmp_path / "up/plain.txt").write_bytes(b"changed")
    restic("backup", "up")
    assert restic("snapshots", "--json").count('"short_id"') == 2
    restic("check", "--read-data")
    restic("restore", "latest", "--target", tmp_path / "down")
    assert read_tree(tmp_path / "down/up") == files | {"plain.txt": b"changed"}
    restic("forget", "--keep-last", "1", "--prune")
    restic("check", "--read-data")
    assert restic("snapshots", "--json").count('"short_id"') == 1

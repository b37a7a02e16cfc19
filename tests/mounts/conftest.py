"""Fixtures: mounts in a separate namespace, and the result of `tidegate check` for a file on one of them.

`tests/mounts/run` creates the mount namespace; mounts are not visible outside of it.
"""

import os
import pathlib
import subprocess

import pytest

import documented

TIMEOUT_SECONDS = 20
BINARY = pathlib.Path(os.environ["TIDEGATE_BINARY"])


def pytest_collection_modifyitems(items):
    documented.require_names(items)


@pytest.fixture(scope="session", autouse=True)
def own_mounts():
    """Fails outside a separate mount namespace."""
    assert os.environ.get("TIDEGATE_OWN_MOUNTS") == "1", "start it with tests/mounts/run"


class Mounts:
    """File systems below /mnt, which a tmpfs covers during a test."""

    def __init__(self):
        self.root = pathlib.Path("/mnt")
        self._points = []
        self.tmpfs(self.root, 0o755)

    @staticmethod
    def _run(*command):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"

    def tmpfs(self, point, mode):
        """Mounts a tmpfs with a root directory of this mode."""
        point.mkdir(exist_ok=True)
        self._run("mount", "-t", "tmpfs", "-o", f"mode={mode:o}", "tidegate-test", point)
        self._points.append(point)
        return point

    def bind(self, source, point, read_only):
        """Bind-mounts a file or directory."""
        if source.is_dir():
            point.mkdir(exist_ok=True)
        else:
            point.touch()
        self._run("mount", "--bind", source, point)
        self._points.append(point)
        if read_only:
            self.make_read_only(point)
        return point

    def make_read_only(self, point):
        self._run("mount", "-o", "remount,bind,ro", point)

    def close(self):
        while self._points:
            self._run("umount", self._points.pop())


@pytest.fixture
def mounts():
    mounts = Mounts()
    yield mounts
    mounts.close()


def write(path, mode, text="hunter2-hunter2-hunter2-hunter2-hunter2"):
    path.write_text(text)
    path.chmod(mode)
    return path


def check(**keys):
    """The exit code and standard error of `tidegate check`, with these keys set by environment variables."""
    settings = {"buckets__b__auth": "anonymous", "buckets__b__s3__endpoints": "http://127.0.0.1:9000", **keys}
    environment = {f"TIDEGATE_{key.upper()}": str(value) for key, value in settings.items()}
    done = subprocess.run(
        [BINARY, "check"], env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    assert "hunter2" not in done.stdout + done.stderr
    return done.returncode, done.stderr


def check_secret(path):
    """The result of `check` for a bucket with this file as its secret."""
    return check(buckets__b__s3__access_key_id="A", buckets__b__s3__secret_access_key_file=path)

"""A gateway that is the first process of a container, in a PID namespace of its own."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest

from conftest import BINARY, PATIENCE_SECONDS


@pytest.fixture
def first_process(tmp_path):
    """The address of the admin listener of a gateway with PID 1."""
    bucket = {"buckets__b__auth": "anonymous", "buckets__b__s3__endpoints": "http://127.0.0.1:9"}
    keys = {"server__port": 0, "admin__port": 0, **bucket}
    environment = {f"TIDEGATE_{key.upper()}": str(value) for key, value in keys.items()}
    command = [shutil.which("unshare"), "--pid", "--fork", "--kill-child", BINARY]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            entry = json.loads(line)
            if entry["msg"] == "listening":
                yield entry["admin"]
                break
        process.kill()


def test_the_first_process_of_a_container_is_not_upgraded(first_process):
    """G8: PID 1 is refused with the hint to roll the containers, and the gateway goes on."""
    request = urllib.request.Request(f"http://{first_process}/upgrade", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE_SECONDS)
    assert refused.value.code == 409
    error = json.load(refused.value)["error"]
    assert error["code"] == "upgrade_refused" and "roll the containers" in error["message"], error
    with urllib.request.urlopen(f"http://{first_process}/status", timeout=PATIENCE_SECONDS) as reply:
        assert json.load(reply)["predecessors"] == []

"""Memory during a large multipart upload: parts of 64 MiB, 16 at a time, within 64 MiB above an idle gateway.

The object has TIDEGATE_TEST_OBJECT_MIB (1024); the documented size is tested with

TIDEGATE_TEST_OBJECT_MIB=5120 TIDEGATE_BINARY=target/release/tidegate python -m pytest tests/clients/test_memory.py

The store keeps nothing (sink.py), so neither disk nor memory bounds the size. The peak of the resident set is the
kernel's own (`VmHWM`, reset by `clear_refs`), not a sample's.
"""

import os
import pathlib
import subprocess
import sys
import urllib.request

import pytest
from boto3.s3.transfer import TransferConfig
from configuration import key, policy, section
from conftest import Target, gateways

import servers

pytestmark = pytest.mark.gateway

MIB = 1 << 20
PART_BYTES = 64 * MIB
AT_A_TIME = 16
OVER_IDLE_MIB = 64
OBJECT_BYTES = int(os.environ.get("TIDEGATE_TEST_OBJECT_MIB", "1024")) * MIB
KEYS = ("AKIAMEMORY", "a/secret+of/forty=characters")


@pytest.fixture(scope="module")
def sink(tmp_path_factory):
    store = servers.Process(
        [sys.executable, servers.HERE / "sink.py"], tmp_path_factory.mktemp("sink"), lambda line: "address" in line
    )
    yield store.ready["address"]
    store.process.kill()
    store.process.communicate()


@pytest.fixture
def gateway(sink, tmp_path_factory):
    """One gateway for each test: memory left by an earlier one would count as idle."""
    store = section("sink", f"http://{sink}", keys=("AKIASINK", "unverified"))
    with gateways(tmp_path_factory) as start:
        yield start("memory", store, key(KEYS), policy(methods=("read", "write")))


def taken(sink):
    with urllib.request.urlopen(f"http://{sink}/taken") as answer:
        return int(answer.read())


def highest_mib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def forget_highest(process):
    pathlib.Path(f"/proc/{process.pid}/clear_refs").write_text("5")


class Repeated:
    """An object of one repeated block, which is on no disk and which boto3 reads part by part."""

    def __init__(self, length):
        self.block, self.left = os.urandom(MIB), length

    def read(self, count=-1):
        count = self.left if count < 0 else min(count, self.left)
        self.left -= count
        return (self.block * (count // MIB + 1))[:count]


def in_chunks(form, chunk_bytes):
    def upload(gateway):
        place = gateway.endpoint.removeprefix("http://")
        counts = (OBJECT_BYTES // PART_BYTES, PART_BYTES, chunk_bytes, AT_A_TIME)
        command = [sys.executable, servers.HERE / "uploader.py", form, place, *KEYS, *map(str, counts)]
        done = subprocess.run(command, env=servers.clean_environment(), stderr=subprocess.PIPE, timeout=900)
        assert done.returncode == 0, done.stderr.decode()[-3000:]

    return upload


def by_boto3(gateway):
    transfer = TransferConfig(multipart_chunksize=PART_BYTES, max_concurrency=AT_A_TIME)
    client = Target("sink", gateway.endpoint, "sink", KEYS).client()
    client.upload_fileobj(Repeated(OBJECT_BYTES), "sink", "big", Config=transfer)


@pytest.mark.parametrize(
    "upload",
    [
        pytest.param(in_chunks("signed", 64 << 10), id="signed chunks of 64 KiB"),
        pytest.param(in_chunks("signed", MIB), id="signed chunks of 1 MiB, the largest allowed"),
        pytest.param(in_chunks("trailer", MIB), id="an unsigned trailer"),
        pytest.param(by_boto3, id="boto3"),
    ],
)
def test_a_large_object_in_parts_needs_no_memory_of_its_size(gateway, sink, upload):
    """M3, A1: every part is verified while it is streamed, and none is kept."""
    before = taken(sink)
    # The gateway's first request allocates memory that all later ones use.
    Target("sink", gateway.endpoint, "sink", KEYS).client().get_object(Bucket="sink", Key="first")
    forget_highest(gateway.process)
    idle = highest_mib(gateway.process)
    upload(gateway)
    over = highest_mib(gateway.process) - idle
    assert taken(sink) - before == OBJECT_BYTES
    assert over <= OVER_IDLE_MIB, f"{over:.1f} MiB over an idle gateway's {idle:.1f} MiB"

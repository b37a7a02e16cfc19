"""The AWS Common Runtime: under boto3's transfer manager, and by itself. It sends trailers, which RGW alone refuses.

boto3's own `preferred_transfer_client = "crt"` ignores `endpoint_url`, so the transfer manager is built here.
"""

import os

import crt
import pytest
from botocore.session import Session
from conftest import sha256
from s3transfer.crt import BotocoreCRTRequestSerializer, CRTTransferManager

pytestmark = pytest.mark.gateway

SIZE = 21 << 20


def test_the_transfer_manager(tool_target, prefix, tmp_path):
    """A1, A9, I1, I2: a file is uploaded in parts, downloaded in parallel ranges, and deleted."""
    (tmp_path / "in").write_bytes(os.urandom(SIZE))
    settings = {"region_name": crt.REGION, "endpoint_url": tool_target.endpoint}
    with CRTTransferManager(crt.make_client(tool_target), BotocoreCRTRequestSerializer(Session(), settings)) as manager:
        manager.upload(str(tmp_path / "in"), tool_target.bucket, prefix + "a b+ü").result()
        manager.download(tool_target.bucket, prefix + "a b+ü", str(tmp_path / "out")).result()
        manager.delete(tool_target.bucket, prefix + "a b+ü").result()
    assert sha256(tmp_path / "out") == sha256(tmp_path / "in")


@pytest.mark.parametrize("algorithm", ["CRC32C", "CRC64NVME", "SHA256"])
@pytest.mark.parametrize("size", [1000, SIZE], ids=["whole", "parts"])
def test_checksums_in_trailers(tool_target, prefix, tmp_path, algorithm, size):
    """A1, I1: bodies with a trailing checksum, in one request and in parts."""
    (tmp_path / "in").write_bytes(os.urandom(size))
    crt.put_with_trailer(crt.make_client(tool_target), tool_target, prefix + "o", tmp_path / "in", algorithm)
    got = tool_target.client().get_object(Bucket=tool_target.bucket, Key=prefix + "o")
    assert sha256(got["Body"]) == sha256(tmp_path / "in")

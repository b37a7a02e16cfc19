"""The AWS Common Runtime: under boto3's transfer manager, and by itself.

boto3's own `preferred_transfer_client = "crt"` overlooks `endpoint_url`, so the transfer manager is put together here.
"""

import os

import pytest
from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.s3 import (
    S3ChecksumAlgorithm,
    S3ChecksumConfig,
    S3ChecksumLocation,
    S3RequestType,
)
from botocore.session import Session
from conftest import sha256
from s3transfer.crt import BotocoreCRTRequestSerializer, CRTTransferManager, create_s3_crt_client

SIZE = 21 << 20
REGION = "eu-west-1"


@pytest.fixture
def crt(place):
    credentials = AwsCredentialsProvider.new_static(*place.keys)
    return create_s3_crt_client(
        REGION, crt_credentials_provider=credentials, part_size=5 << 20, use_ssl=False, target_throughput=125_000_000
    )


def test_the_transfer_manager(place, prefix, tmp_path, crt):
    """A1, A9, I1, I2: a file in parts up, in parallel ranges down, deleted."""
    (tmp_path / "in").write_bytes(os.urandom(SIZE))
    settings = {"region_name": REGION, "endpoint_url": place.endpoint}
    with CRTTransferManager(crt, BotocoreCRTRequestSerializer(Session(), settings)) as manager:
        manager.upload(str(tmp_path / "in"), place.bucket, prefix + "a b+ü").result()
        manager.download(place.bucket, prefix + "a b+ü", str(tmp_path / "out")).result()
        manager.delete(place.bucket, prefix + "a b+ü").result()
    assert sha256(tmp_path / "out") == sha256(tmp_path / "in")


@pytest.mark.gateway
@pytest.mark.parametrize("algorithm", ["CRC32C", "CRC64NVME", "SHA256"])
def test_checksums_in_trailers(place, prefix, tmp_path, crt, algorithm):
    """A1, I1: parts whose checksums come behind their bytes. RGW by itself refuses them."""
    (tmp_path / "in").write_bytes(os.urandom(SIZE))
    kind = getattr(S3ChecksumAlgorithm, algorithm, None)
    headers = HttpHeaders([("host", place.endpoint.removeprefix("http://")), ("content-length", str(SIZE))])
    made = crt.make_request(
        type=S3RequestType.PUT_OBJECT,
        request=HttpRequest("PUT", f"/{place.bucket}/{prefix}crt", headers),
        send_filepath=str(tmp_path / "in"),
        checksum_config=S3ChecksumConfig(algorithm=kind, location=S3ChecksumLocation.TRAILER),
    )
    made.finished_future.result(60)
    got = place.client().get_object(Bucket=place.bucket, Key=prefix + "crt")
    assert sha256(got["Body"]) == sha256(tmp_path / "in")

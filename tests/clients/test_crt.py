"""The AWS Common Runtime: as the transfer client of boto3, and by itself with its parallel ranges."""

import os

import boto3
import pytest
from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap, ClientTlsContext, DefaultHostResolver, EventLoopGroup, TlsContextOptions
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType, create_default_s3_signing_config
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from conftest import sha256

SIZE = 21 << 20


def test_boto3_transfers(place, prefix, tmp_path):
    """A1, A9, I1, I2: a file in parts up, in ranges down, by `preferred_transfer_client = "crt"`."""
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=place.endpoint,
        region_name="eu-west-1",
        aws_access_key_id=place.keys[0],
        aws_secret_access_key=place.keys[1],
        config=Config(s3={"addressing_style": "path"}),
    )
    (tmp_path / "in").write_bytes(os.urandom(SIZE))
    config = TransferConfig(preferred_transfer_client="crt")
    client.upload_file(str(tmp_path / "in"), place.bucket, prefix + "a b+ü", Config=config)
    client.download_file(place.bucket, prefix + "a b+ü", str(tmp_path / "out"), Config=config)
    assert sha256(tmp_path / "out") == sha256(tmp_path / "in")


@pytest.fixture
def crt():
    group = EventLoopGroup(1)
    return ClientBootstrap(group, DefaultHostResolver(group))


def test_the_client_of_awscrt(place, prefix, tmp_path, crt):
    """A1, A9, I1, I2: parts with checksums in trailers up, parallel ranges down."""
    credentials = AwsCredentialsProvider.new_static(*place.keys)
    client = S3Client(
        bootstrap=crt,
        region="eu-west-1",
        tls_mode=S3RequestTlsMode.DISABLED,
        signing_config=create_default_s3_signing_config(region="eu-west-1", credential_provider=credentials),
        part_size=5 << 20,
        throughput_target_gbps=1,
    )
    (tmp_path / "in").write_bytes(os.urandom(SIZE))
    host = place.endpoint.removeprefix("http://")

    def transfer(kind, method, file, **options):
        headers = HttpHeaders([("host", host)])
        if method == "PUT":
            headers.add("content-length", str(SIZE))
        request = HttpRequest(method, f"/{place.bucket}/{prefix}crt", headers)
        made = client.make_request(type=kind, request=request, endpoint=place.endpoint, **{file: str(tmp_path / options["path"])})
        made.finished_future.result(60)

    transfer(S3RequestType.PUT_OBJECT, "PUT", "send_filepath", path="in")
    transfer(S3RequestType.GET_OBJECT, "GET", "recv_filepath", path="out")
    assert sha256(tmp_path / "out") == sha256(tmp_path / "in")

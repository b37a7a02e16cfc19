"""The S3 client of the AWS Common Runtime, for a target."""

from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.s3 import S3ChecksumAlgorithm, S3ChecksumConfig, S3ChecksumLocation, S3RequestType
from s3transfer.crt import create_s3_crt_client

REGION = "eu-west-1"


def make_client(target):
    """Parts of 5 MiB; one thread's worth of throughput."""
    credentials = AwsCredentialsProvider.new_static(*target.keys)
    return create_s3_crt_client(
        REGION, crt_credentials_provider=credentials, part_size=5 << 20, use_ssl=False, target_throughput=125_000_000
    )


def put_with_trailer(client, target, key, file, algorithm):
    """Uploads a file with trailing checksums."""
    size = ("content-length", str(file.stat().st_size))
    made = client.make_request(
        type=S3RequestType.PUT_OBJECT,
        request=HttpRequest("PUT", f"/{target.bucket}/{key}", HttpHeaders([("host", target.endpoint.removeprefix("http://")), size])),
        send_filepath=str(file),
        checksum_config=S3ChecksumConfig(algorithm=S3ChecksumAlgorithm[algorithm], location=S3ChecksumLocation.TRAILER),
    )
    made.finished_future.result(60)

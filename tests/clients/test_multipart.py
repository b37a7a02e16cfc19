"""Large objects: 100 MiB in parts through boto3 and through the AWS CLI, in both directions, compared by hash."""

import os

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from conftest import BIG_BYTES, code_of, sha256

PART_BYTES = 16 << 20


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_boto3_moves_100_mib_in_parts(target, prefix, big_file, tmp_path, checksums):
    """V2, P1: parts of 16 MiB, several at a time, up and down; the limit is per request."""
    path, digest = big_file
    client = target.client(checksums=checksums)
    transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=6)
    client.upload_file(str(path), target.bucket, prefix + "big", Config=transfer)
    head = client.head_object(Bucket=target.bucket, Key=prefix + "big")
    assert head["ContentLength"] == BIG_BYTES
    assert head["ETag"].strip('"').endswith("-7"), "it did not go up in seven parts"
    back = tmp_path / "back"
    client.download_file(target.bucket, prefix + "big", str(back), Config=transfer)
    assert sha256(back) == digest
    client.delete_object(Bucket=target.bucket, Key=prefix + "big")


def test_100_mib_in_one_request_each_way(target, client, prefix, big_file):
    """V2, M3: a body of exactly the default limit is streamed completely."""
    path, digest = big_file
    with path.open("rb") as file:
        client.put_object(Bucket=target.bucket, Key=prefix + "big", Body=file)
    got = client.get_object(Bucket=target.bucket, Key=prefix + "big")
    assert got["ContentLength"] == BIG_BYTES
    assert sha256(got["Body"]) == digest
    client.delete_object(Bucket=target.bucket, Key=prefix + "big")


@pytest.mark.parametrize("signed", [True, pytest.param(False, marks=pytest.mark.gateway)])
def test_the_aws_cli_moves_100_mib(target, prefix, big_file, tmp_path, signed):
    """V2, A4: `aws s3 cp` up and down, byte-equal; with any signature and with none."""
    path, digest = big_file
    remote = f"s3://{target.bucket}/{prefix}big file+.bin"
    target.aws("s3", "cp", "--no-progress", path, remote, signed=signed)
    target.aws("s3", "cp", "--no-progress", remote, tmp_path / "back", signed=signed)
    assert sha256(tmp_path / "back") == digest
    target.aws("s3", "rm", remote, signed=signed)


def test_parts_may_come_in_any_order_and_be_listed(target, client, prefix):
    """I2: `partNumber` and `uploadId` are forwarded; the object has the parts in numerical order, not in order of
    arrival."""
    bodies = {number: os.urandom(5 << 20) for number in (1, 2, 3)}
    upload = client.create_multipart_upload(Bucket=target.bucket, Key=prefix + "o", Metadata={"kind": "parts"})
    place = {"Bucket": target.bucket, "Key": prefix + "o", "UploadId": upload["UploadId"]}
    tags = {n: client.upload_part(PartNumber=n, Body=bodies[n], **place)["ETag"] for n in (3, 1, 2)}
    listed = client.list_parts(**place)["Parts"]
    assert sorted(part["PartNumber"] for part in listed) == [1, 2, 3]
    parts = [{"PartNumber": n, "ETag": tags[n]} for n in (1, 2, 3)]
    client.complete_multipart_upload(MultipartUpload={"Parts": parts}, **place)
    got = client.get_object(Bucket=target.bucket, Key=prefix + "o")
    assert got["Metadata"] == {"kind": "parts"}
    assert got["ETag"].endswith('-3"')
    assert sha256(got["Body"]) == sha256(b"".join(bodies[n] for n in (1, 2, 3)))


def test_a_part_can_be_a_range_of_another_object(target, client, prefix):
    """I2: `x-amz-copy-source-range` is forwarded."""
    source = os.urandom(6 << 20)
    client.put_object(Bucket=target.bucket, Key=prefix + "from", Body=source)
    upload = client.create_multipart_upload(Bucket=target.bucket, Key=prefix + "to")
    place = {"Bucket": target.bucket, "Key": prefix + "to", "UploadId": upload["UploadId"]}
    copied = client.upload_part_copy(
        PartNumber=1,
        CopySource={"Bucket": target.bucket, "Key": prefix + "from"},
        CopySourceRange=f"bytes=1000-{(5 << 20) + 999}",
        **place,
    )
    parts = [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]
    client.complete_multipart_upload(MultipartUpload={"Parts": parts}, **place)
    got = client.get_object(Bucket=target.bucket, Key=prefix + "to")
    assert sha256(got["Body"]) == sha256(source[1000 : (5 << 20) + 1000])


def test_an_aborted_upload_leaves_no_object(target, client, prefix):
    """E1, I2: abort is 204, and later requests get the server's error."""
    upload = client.create_multipart_upload(Bucket=target.bucket, Key=prefix + "o")
    place = {"Bucket": target.bucket, "Key": prefix + "o", "UploadId": upload["UploadId"]}
    client.upload_part(PartNumber=1, Body=b"x" * 1000, **place)
    assert client.abort_multipart_upload(**place)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=target.bucket, Key=prefix + "o")
    assert code_of(error) == (404, "NoSuchKey")


def test_completing_with_a_wrong_part_is_the_servers_error(rgw, prefix):
    """E2: an error document from CompleteMultipartUpload reaches the client as that error."""
    client = rgw.client()
    upload = client.create_multipart_upload(Bucket=rgw.bucket, Key=prefix + "o")
    place = {"Bucket": rgw.bucket, "Key": prefix + "o", "UploadId": upload["UploadId"]}
    client.upload_part(PartNumber=1, Body=b"x" * 1000, **place)
    parts = [{"PartNumber": 1, "ETag": '"00000000000000000000000000000000"'}]
    with pytest.raises(ClientError) as error:
        client.complete_multipart_upload(MultipartUpload={"Parts": parts}, **place)
    assert code_of(error) == (400, "InvalidPart")

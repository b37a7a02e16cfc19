"""The embedded origin's own limits: what a file system cannot hold is the client's error, never the server's."""

import pytest
from botocore.exceptions import ClientError
from conftest import code_of


@pytest.fixture(scope="module")
def client(origin):
    return origin.client()


def refused(call, **arguments):
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return code_of(error)


def test_looking_whether_a_folder_exists_is_404(origin, client, prefix):
    """B3, R1: tools that mount buckets ask this often: were it a 500, the breaker would close the bucket to all."""
    client.put_object(Bucket=origin.bucket, Key=prefix + "folder/o", Body=b"x")
    for _ in range(12):
        for key in (prefix + "folder", prefix + "folder/", prefix + "folder/o/"):
            assert refused(client.head_object, Bucket=origin.bucket, Key=key)[0] == 404
            assert refused(client.get_object, Bucket=origin.bucket, Key=key) == (404, "NoSuchKey")
    assert client.get_object(Bucket=origin.bucket, Key=prefix + "folder/o")["Body"].read() == b"x"


def test_a_key_cannot_be_a_folder_too(origin, client, prefix):
    """E1, B3: refused as the client's error, and the object that was there stays whole."""
    client.put_object(Bucket=origin.bucket, Key=prefix + "o", Body=b"x")
    for key in (prefix + "o/below", prefix.rstrip("/")):
        assert refused(client.put_object, Bucket=origin.bucket, Key=key, Body=b"y") == (400, "InvalidRequest")
    assert client.get_object(Bucket=origin.bucket, Key=prefix + "o")["Body"].read() == b"x"


def test_a_name_is_free_again_once_the_objects_below_it_are_deleted(origin, client, prefix):
    """E1: the folder that deletes leave behind is in nobody's way."""
    client.put_object(Bucket=origin.bucket, Key=prefix + "name/o", Body=b"x")
    client.delete_object(Bucket=origin.bucket, Key=prefix + "name/o")
    client.put_object(Bucket=origin.bucket, Key=prefix + "name", Body=b"y")
    assert client.get_object(Bucket=origin.bucket, Key=prefix + "name")["Body"].read() == b"y"


def test_a_key_of_any_length_is_stored_or_refused(origin, client, prefix):
    """E1, B3: too long is KeyTooLongError, before anything is stored."""
    for length in (100, 130, 160, 170, 200, 260, 900):
        key = prefix + "k" * (length - len(prefix))
        try:
            client.put_object(Bucket=origin.bucket, Key=key, Body=b"x")
            assert client.get_object(Bucket=origin.bucket, Key=key)["Body"].read() == b"x"
            assert length <= 164
        except ClientError as error:
            assert error.response["Error"]["Code"] == "KeyTooLongError"
            assert length > 164
            assert refused(client.head_object, Bucket=origin.bucket, Key=key)[0] == 404


def test_deleting_a_folder_succeeds_and_deletes_nothing(origin, client, prefix):
    """E1, E5: there is no such object, so there is nothing to do: one by one and many at once."""
    client.put_object(Bucket=origin.bucket, Key=prefix + "folder/o", Body=b"x")
    client.delete_object(Bucket=origin.bucket, Key=prefix + "folder")
    answer = client.delete_objects(Bucket=origin.bucket, Delete={"Objects": [{"Key": prefix + "folder"}]})
    assert "Errors" not in answer
    assert client.get_object(Bucket=origin.bucket, Key=prefix + "folder/o")["Body"].read() == b"x"


def test_the_bucket_is_not_deleted_with_its_objects(origin, client, prefix):
    """E1: 409, as from any S3 server."""
    client.put_object(Bucket=origin.bucket, Key=prefix + "o", Body=b"x")
    assert refused(client.delete_bucket, Bucket=origin.bucket) == (409, "BucketNotEmpty")
    assert client.get_object(Bucket=origin.bucket, Key=prefix + "o")["Body"].read() == b"x"


def test_what_it_does_not_do_it_says(origin, client):
    """E5: 501 for an operation it lacks, never a silent success."""
    assert refused(client.list_multipart_uploads, Bucket=origin.bucket) == (501, "NotImplemented")
    assert refused(
        client.put_bucket_versioning, Bucket=origin.bucket, VersioningConfiguration={"Status": "Enabled"}
    ) == (501, "NotImplemented")

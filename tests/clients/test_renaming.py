"""A bucket `a` that is `b` at the store, with keys that begin with either name."""

import dataclasses
import uuid

import pytest
from botocore.exceptions import ClientError

from configuration import section
from conftest import DUMMY_KEYS

pytestmark = pytest.mark.gateway


@dataclasses.dataclass(frozen=True)
class Renamed:
    """The client's and the store's bucket name, and a client of each."""

    ours: str
    theirs: str
    client: object
    store: object
    endpoint: str

    @property
    def keys(self):
        """Keys that equal the bucket's names, begin with them, or resemble paths of the bucket."""
        names = [self.theirs, self.ours]
        return sorted([*names, *(f"{name}/k" for name in names), f"{self.theirs}/{self.theirs}/{self.ours}", f"/{self.theirs}/k"])


@pytest.fixture(scope="module")
def renamed(start_gateway, rgw_server, rgw_direct):
    run = uuid.uuid4().hex[:8]
    ours, theirs = f"a-{run}", f"b-{run}"
    store = rgw_direct.client()
    store.create_bucket(Bucket=theirs)
    gateway = start_gateway("renaming", section(ours, rgw_server, auth=("anonymous",), bucket=theirs))
    target = dataclasses.replace(rgw_direct, endpoint=gateway.endpoint, keys=DUMMY_KEYS)
    found = Renamed(ours, theirs, target.client(), store, gateway.endpoint)
    for key in found.keys:
        found.client.put_object(Bucket=ours, Key=key, Body=key.encode(), Metadata={"bucket": theirs})
    return found


def test_objects_stay_under_their_keys(renamed):
    """V5: the store has the client's keys, and reads return their bytes and metadata."""
    stored = renamed.store.list_objects_v2(Bucket=renamed.theirs)
    assert [item["Key"] for item in stored["Contents"]] == renamed.keys
    for key in renamed.keys:
        got = renamed.client.get_object(Bucket=renamed.ours, Key=key)
        assert (got["Body"].read(), got["Metadata"]) == (key.encode(), {"bucket": renamed.theirs})


@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
def test_a_listing_names_the_bucket_and_keeps_keys(renamed, version):
    """V5: keys, prefixes and delimiters that equal the store's name of the bucket are unchanged."""
    whole = getattr(renamed.client, version)(Bucket=renamed.ours)
    assert whole["Name"] == renamed.ours
    assert [item["Key"] for item in whole["Contents"]] == renamed.keys
    below = getattr(renamed.client, version)(Bucket=renamed.ours, Prefix=f"{renamed.theirs}/", Delimiter="/")
    assert (below["Name"], below["Prefix"]) == (renamed.ours, f"{renamed.theirs}/")
    assert [item["Prefix"] for item in below["CommonPrefixes"]] == [f"{renamed.theirs}/{renamed.theirs}/"]
    cut = getattr(renamed.client, version)(Bucket=renamed.ours, Delimiter=renamed.theirs)
    assert cut["Delimiter"] == renamed.theirs
    assert {item["Prefix"] for item in cut["CommonPrefixes"]} == {renamed.theirs, f"/{renamed.theirs}"}


def test_versions_name_the_bucket_and_keep_keys(renamed):
    """V5: ListObjectVersions."""
    answer = renamed.client.list_object_versions(Bucket=renamed.ours)
    assert answer["Name"] == renamed.ours
    assert [item["Key"] for item in answer["Versions"]] == renamed.keys


def test_an_upload_in_parts_keeps_its_key(renamed):
    """V5: every step has the client's bucket, with a key that equals the store's name of it."""
    client, place = renamed.client, {"Bucket": renamed.ours, "Key": renamed.theirs}
    begun = client.create_multipart_upload(**place)
    assert (begun["Bucket"], begun["Key"]) == (renamed.ours, renamed.theirs)
    upload = {**place, "UploadId": begun["UploadId"]}
    under_way = client.list_multipart_uploads(Bucket=renamed.ours, Prefix=renamed.theirs)
    assert (under_way["Bucket"], under_way["Uploads"][0]["Key"]) == (renamed.ours, renamed.theirs)
    part = client.upload_part(**upload, PartNumber=1, Body=b"part")
    parts = client.list_parts(**upload)
    assert (parts["Bucket"], parts["Key"]) == (renamed.ours, renamed.theirs)
    done = client.complete_multipart_upload(
        **upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    assert (done["Bucket"], done["Key"]) == (renamed.ours, renamed.theirs)
    assert done["Location"] == f"{renamed.endpoint}/{renamed.ours}/{renamed.theirs}"
    assert renamed.store.get_object(Bucket=renamed.theirs, Key=renamed.theirs)["Body"].read() == b"part"
    client.put_object(Bucket=renamed.ours, Key=renamed.theirs, Body=renamed.theirs.encode(), Metadata={"bucket": renamed.theirs})


def test_a_copy_between_keys_that_are_bucket_names(renamed):
    """V5: only the bucket of a copy source is mapped."""
    key = f"{renamed.ours}/copy"
    source = {"Bucket": renamed.ours, "Key": f"{renamed.ours}/k"}
    renamed.client.copy_object(Bucket=renamed.ours, Key=key, CopySource=source)
    assert renamed.store.get_object(Bucket=renamed.theirs, Key=key)["Body"].read() == f"{renamed.ours}/k".encode()
    renamed.client.delete_object(Bucket=renamed.ours, Key=key)


def test_an_error_names_the_clients_bucket(renamed):
    """V5, E2: a missing key that begins with the store's name."""
    with pytest.raises(ClientError) as error:
        renamed.client.get_object(Bucket=renamed.ours, Key=f"{renamed.theirs}/missing")
    assert error.value.response["Error"]["Code"] == "NoSuchKey"
    assert error.value.response["Error"].get("BucketName") == renamed.ours

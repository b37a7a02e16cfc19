"""obstore: Rust's object_store crate, which polars, delta-rs and DataFusion use too, in a small wheel.

polars and pyarrow are not installed: polars sends the same requests with the same crate.
"""

import datetime
import os

import obstore
import pytest
from conftest import sha256
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store
from tool import AWKWARD, fetch


@pytest.fixture
def store(tool_target, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    return S3Store(
        tool_target.bucket,
        endpoint=tool_target.endpoint,
        access_key_id=tool_target.keys[0],
        secret_access_key=tool_target.keys[1],
        client_options={"allow_http": True},
    )


def test_objects(store, prefix):
    """A9, A1, V5, I2: put, head, ranges, list, copy, rename, delete of several."""
    for name in AWKWARD:
        obstore.put(store, prefix + name, name.encode())
    listed = [each["path"] for batch in obstore.list(store, prefix) for each in batch]
    assert sorted(listed) == sorted(prefix + name for name in AWKWARD)
    grouped = obstore.list_with_delimiter(store, prefix)
    assert sorted(grouped["common_prefixes"]) == [prefix + "sub dir", prefix + "~tilde"]
    assert obstore.head(store, prefix + AWKWARD[1])["size"] == len(AWKWARD[1])
    assert bytes(obstore.get_range(store, prefix + "plain.txt", start=2, end=5)) == b"ain"
    pieces = obstore.get_ranges(store, prefix + "plain.txt", starts=[0, 6], ends=[2, 9])
    assert [bytes(piece) for piece in pieces] == [b"pl", b"txt"]
    obstore.copy(store, prefix + AWKWARD[3], prefix + "copied")
    obstore.rename(store, prefix + "copied", prefix + "renamed")
    assert bytes(obstore.get(store, prefix + "renamed").bytes()) == AWKWARD[3].encode()
    obstore.delete(store, [prefix + name for name in [*AWKWARD, "renamed"]])
    assert [each for batch in obstore.list(store, prefix) for each in batch] == []


def test_parts_conditions_and_urls(store, prefix):
    """A1, A9, I2: a multipart upload, a write that must create, presigned URLs."""
    body = os.urandom(11 << 20)
    obstore.put(store, prefix + "big", body, use_multipart=True, chunk_size=5 << 20)
    assert sha256(bytes(obstore.get(store, prefix + "big").bytes())) == sha256(body)
    obstore.put(store, prefix + "once", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, prefix + "once", b"2", mode="create")
    assert bytes(obstore.get(store, prefix + "once").bytes()) == b"1"
    soon = datetime.timedelta(minutes=5)
    assert fetch(obstore.sign(store, "PUT", prefix + "signed", soon), "PUT", b"tide")[0] == 200
    assert fetch(obstore.sign(store, "GET", prefix + "signed", soon)) == (200, b"tide")

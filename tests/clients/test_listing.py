"""Listings: both versions, prefixes, delimiters, pages."""

import pytest

NAMES = ["a.txt", "b.txt", "dir one/1.txt", "dir one/2.txt", "dir+two/1.txt", "dir%3/x/y.txt", "z.txt"]


@pytest.fixture(scope="module")
def tree(target, client):
    """Objects for the whole module: listings do not change them."""
    root = "listing-tree/"
    for name in NAMES:
        client.put_object(Bucket=target.bucket, Key=root + name, Body=name.encode())
    return root


def keys(answer):
    return [item["Key"] for item in answer.get("Contents", [])]


def prefixes(answer):
    return sorted(item["Prefix"] for item in answer.get("CommonPrefixes", []))


@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
def test_a_listing_names_every_key_in_order(target, client, tree, version):
    """V5: the query string is forwarded unchanged, and the answer has the keys of the puts."""
    answer = getattr(client, version)(Bucket=target.bucket, Prefix=tree)
    assert keys(answer) == sorted(tree + name for name in NAMES)
    assert answer["IsTruncated"] is False
    assert [item["Size"] for item in answer["Contents"]] == [len(name) for name in sorted(NAMES)]


@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
def test_a_delimiter_groups_keys(target, client, tree, version):
    """V5: prefix and delimiter, alone and with characters that must stay encoded."""
    answer = getattr(client, version)(Bucket=target.bucket, Prefix=tree, Delimiter="/")
    assert keys(answer) == [tree + name for name in ("a.txt", "b.txt", "z.txt")]
    assert prefixes(answer) == [tree + name for name in ("dir one/", "dir%3/", "dir+two/")]
    for name, inside in (("dir one/", ["1.txt", "2.txt"]), ("dir+two/", ["1.txt"])):
        answer = getattr(client, version)(Bucket=target.bucket, Prefix=tree + name, Delimiter="/")
        assert keys(answer) == [tree + name + file for file in inside]
        assert prefixes(answer) == []


@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
def test_pages_join_to_the_whole(target, client, tree, version):
    """V5: markers and continuation tokens are returned to the server unchanged."""
    # Pages of four keys: RGW does not encode the marker of version 1, so no page may end with the key with a plus.
    paginator = client.get_paginator(version)
    pages = list(paginator.paginate(Bucket=target.bucket, Prefix=tree, PaginationConfig={"PageSize": 4}))
    assert len(pages) == 2
    assert [key for page in pages for key in keys(page)] == sorted(tree + name for name in NAMES)


def test_a_listing_can_start_after_a_key(target, client, tree):
    """V5: `start-after` with a space and a slash in it."""
    answer = client.list_objects_v2(Bucket=target.bucket, Prefix=tree, StartAfter=tree + "dir one/1.txt")
    assert keys(answer) == [key for key in sorted(tree + name for name in NAMES) if key > tree + "dir one/1.txt"]


def test_an_empty_listing_is_an_empty_listing(target, client, prefix):
    """E1, I2: no match is 200 without contents, not an error and not a missing body."""
    answer = client.list_objects_v2(Bucket=target.bucket, Prefix=prefix + "nothing")
    assert answer["KeyCount"] == 0
    assert "Contents" not in answer


def test_a_delimiter_of_control_characters_is_legal(rgw, prefix):
    """V3: an encoded line feed in a listing's query is forwarded, unlike one in a path."""
    client = rgw.client()
    client.put_object(Bucket=rgw.bucket, Key=prefix + "o", Body=b"x")
    answer = client.list_objects_v2(Bucket=rgw.bucket, Prefix=prefix, Delimiter="\n")
    assert keys(answer) == [prefix + "o"]

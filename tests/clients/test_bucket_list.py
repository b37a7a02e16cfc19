"""ListBuckets of real clients with a pattern section in front of a Ceph Object Gateway."""

import dataclasses
import uuid

import pytest
from botocore.exceptions import ClientError

import servers
from configuration import key, policy, section
from conftest import code_of

pytestmark = pytest.mark.gateway

KEYS = ("AKIALISTER", "lister/secret+of/forty=characters")
TEAM = ("AKIATEAM", "team/secret")


@pytest.fixture(scope="module")
def buckets(rgw_direct):
    """Three buckets of the store; one is in no policy except `all`."""
    run = uuid.uuid4().hex[:8]
    names = [f"team-{run}-a", f"team-{run}-b", f"other-{run}"]
    for name in names:
        rgw_direct.client().create_bucket(Bucket=name)
    return names


@pytest.fixture(scope="module")
def lister(start_gateway, rgw_server, rgw_direct, buckets):
    gateway = start_gateway(
        "bucket-list",
        section("every", rgw_server, pattern="*", auth=("sigv4", "anonymous")),
        section("gone", f"http://127.0.0.1:{servers.free_port()}", pattern="gone-*"),
        key(KEYS),
        key(TEAM, policy="team"),
        policy(methods=("read", "list")),
        policy("team", buckets=("team-*",), methods=("read", "list")),
    )
    return dataclasses.replace(rgw_direct, endpoint=gateway.endpoint, keys=TEAM)


def listed(answer):
    return [bucket["Name"] for bucket in answer["Buckets"]]


def test_the_stores_buckets_are_listed(lister, rgw_direct, buckets):
    """A5: a client gets the store's buckets in its policy, with the store's dates."""
    answer = lister.client().list_buckets()
    ours = [bucket for bucket in answer["Buckets"] if bucket["Name"] in buckets]
    assert [bucket["Name"] for bucket in ours] == buckets[:2]
    assert all(name.startswith("team-") for name in listed(answer))
    dates = {bucket["Name"]: bucket["CreationDate"] for bucket in rgw_direct.client().list_buckets()["Buckets"]}
    assert all(bucket["CreationDate"] == dates[bucket["Name"]] for bucket in ours)
    assert answer["Owner"]["ID"] == "tidegate"


def test_the_cli_lists_buckets(lister, buckets):
    """A5: `aws s3 ls` lists them."""
    names = [line.split()[-1] for line in lister.aws("s3", "ls").stdout.decode().splitlines()]
    assert [name for name in names if name in buckets] == buckets[:2]


def test_pages_of_one_bucket_join_to_the_whole(lister):
    """A5, A9: the SDK's paginator accepts the gateway's continuation tokens."""
    client = lister.client()
    pages = list(client.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": 1}))
    assert [len(listed(page)) for page in pages[:2]] == [1, 1]
    joined = [name for page in pages for name in listed(page)]
    assert joined == listed(client.list_buckets())
    narrowed = client.list_buckets(Prefix="team-", BucketRegion="us-east-1")
    assert listed(narrowed) == joined
    assert {bucket["BucketRegion"] for bucket in narrowed["Buckets"]} == {"us-east-1"}


def test_an_anonymous_client_sees_none_of_them(lister):
    """A4: an anonymous client causes no call to the store, and pattern sections contribute no names."""
    assert listed(lister.client(signed=False).list_buckets()) == []


def test_an_unreachable_store_makes_the_list_an_error(lister):
    """E2: a client with that store's buckets in its policy gets an error instead of an incomplete list."""
    with pytest.raises(ClientError) as error:
        dataclasses.replace(lister, keys=KEYS).client().list_buckets()
    assert code_of(error) == (503, "ServiceUnavailable")
    assert "section `gone`" in error.value.response["Error"]["Message"]

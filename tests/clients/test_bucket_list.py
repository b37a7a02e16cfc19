"""ListBuckets of real clients before a gateway whose section by pattern asks a Ceph Object Gateway."""

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
    """Three buckets of the store, of which one belongs to nobody's policy but `all`."""
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
    """A5: a client sees the buckets of the store that its policy names, with the store's dates."""
    answer = lister.client().list_buckets()
    ours = [bucket for bucket in answer["Buckets"] if bucket["Name"] in buckets]
    assert [bucket["Name"] for bucket in ours] == buckets[:2]
    assert all(name.startswith("team-") for name in listed(answer))
    dates = {bucket["Name"]: bucket["CreationDate"] for bucket in rgw_direct.client().list_buckets()["Buckets"]}
    assert all(bucket["CreationDate"] == dates[bucket["Name"]] for bucket in ours)
    assert answer["Owner"]["ID"] == "tidegate"


def test_the_cli_lists_buckets(lister, buckets):
    """A5: `aws s3 ls` shows them."""
    names = [line.split()[-1] for line in lister.aws("s3", "ls").stdout.decode().splitlines()]
    assert [name for name in names if name in buckets] == buckets[:2]


def test_pages_of_one_bucket_join_to_the_whole(lister):
    """A5, A9: the SDK's paginator reads the tokens of the gateway."""
    client = lister.client()
    pages = list(client.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": 1}))
    assert [len(listed(page)) for page in pages[:2]] == [1, 1]
    joined = [name for page in pages for name in listed(page)]
    assert joined == listed(client.list_buckets())
    narrowed = client.list_buckets(Prefix="team-", BucketRegion="us-east-1")
    assert listed(narrowed) == joined
    assert {bucket["BucketRegion"] for bucket in narrowed["Buckets"]} == {"us-east-1"}


def test_a_client_without_a_proof_sees_none_of_them(lister):
    """A4: an anonymous client causes no call, and patterns have no names."""
    assert listed(lister.client(signed=False).list_buckets()) == []


def test_a_store_that_is_away_makes_the_list_an_error(lister):
    """E2: a client whose policy names buckets of that store gets no list that looks whole."""
    with pytest.raises(ClientError) as error:
        dataclasses.replace(lister, keys=KEYS).client().list_buckets()
    assert code_of(error) == (503, "ServiceUnavailable")
    assert "section `gone`" in error.value.response["Error"]["Message"]

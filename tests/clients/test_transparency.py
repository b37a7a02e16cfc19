"""Transparency of the gateway: the same requests to gateway and store, and answers compared byte by byte.

Each chapter runs with RGW itself and with a gateway in front of that RGW, which verifies signatures, each with a fresh
bucket. Allowed differences are listed in conversation.py. Steps marked `own` are refused by the gateway before the
store is called, with the store's status and code but another message.
"""

import chapters_of_buckets
import chapters_of_objects
import pytest
from configuration import before_all
from conversation import Conversation, describe

pytestmark = pytest.mark.gateway

KEYS = ("AKIATRANSPARENT", "the/secret+of+the=client")


@pytest.fixture(scope="module")
def transparent(start_gateway, rgw_server):
    return start_gateway("transparent", before_all(rgw_server, KEYS, auth=("sigv4", "anonymous"))).endpoint


def made(talk):
    talk.ask("PUT")
    return talk


CHAPTERS = [
    chapters_of_objects.objects,
    chapters_of_objects.ranges,
    chapters_of_objects.conditions,
    chapters_of_buckets.missing,
    chapters_of_objects.integrity,
    chapters_of_buckets.listings,
    chapters_of_buckets.multipart,
    chapters_of_objects.copies,
    chapters_of_buckets.tags_and_acls,
    chapters_of_buckets.versions,
    chapters_of_objects.keys,
    chapters_of_objects.metadata,
    chapters_of_buckets.several_deletes,
    chapters_of_objects.presigned,
    chapters_of_buckets.buckets,
]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.__name__)
def test_answers_equal_the_stores(rgw_server, transparent, chapter):
    """V5, V7, E1, E2, I2: status, headers and body of every answer are the store's."""
    own_keys = (rgw_server.access_key_id, rgw_server.secret_access_key)
    direct, through = Conversation(rgw_server.endpoint, own_keys), Conversation(transparent, KEYS)
    for talk in (direct, through):
        chapter(made(talk))
    assert len(direct.steps) == len(through.steps) > 8
    pairs = zip(direct.comparable(), through.comparable(), strict=True)
    different = [(step, store, gateway) for (step, store), (_, gateway) in pairs if store != gateway]
    assert not different, "\n".join(describe(*difference) for difference in different)

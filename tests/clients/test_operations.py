"""RGW's handling of requests that select an operation in more than one way, with keys that have one access each.

The gateway decides by a table of operations (V11). A key of each access sends every method with every pair of
sub-resources to a gateway in front of RGW, and RGW's state is compared afterwards.
"""

import http.client
import itertools
import uuid

import botocore
import pytest
from configuration import DATA, policy, section

CONTENT = b"content-that-only-readers-see"
BYSTANDER = "bystander"

# Parameters that select an operation at S3 or RGW, and parameters that are combined with them. An empty name means no
# parameter.
PARAMETERS = [
    "",
    "acl",
    "append&position=0",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "legal-hold",
    "lifecycle",
    "list-type=2",
    "location",
    "logging",
    "notification",
    "object-lock",
    "partNumber=1",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "select-type=2",
    "tagging",
    "torrent",
    "uploadId",
    "uploadId=",
    "uploadId=UPLOAD",
    "uploads",
    "uploads=x",
    "usage",
    "versionId=null",
    "versioning",
    "versions",
    "website",
]
METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE"]
DELETE_LIST = f"<Delete><Object><Key>{BYSTANDER}</Key></Object><Object><Key>target</Key></Object></Delete>".encode()
POLICY = (
    b'<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>main</ID></Owner><AccessControlList>'
    b'<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">'
    b"<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>"
    b"</AccessControlList></AccessControlPolicy>"
)


class Store:
    """A bucket at RGW and its state, read without the gateway."""

    def __init__(self, direct):
        self.client = direct.client()
        self.bucket = f"operations-{uuid.uuid4().hex[:8]}"
        self.client.create_bucket(Bucket=self.bucket)
        self.reset()

    def reset(self):
        """Restores two objects and one upload."""
        for name in (BYSTANDER, "target"):
            self.client.put_object(Bucket=self.bucket, Key=name, Body=CONTENT)
        for upload in self._uploads():
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=upload[0], UploadId=upload[1])
        started = self.client.create_multipart_upload(Bucket=self.bucket, Key="target")
        self.upload = started["UploadId"]

    def _uploads(self):
        listed = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return {(upload["Key"], upload["UploadId"]) for upload in listed}

    def _ask(self, operation, **arguments):
        try:
            answer = getattr(self.client, operation)(Bucket=self.bucket, **arguments)
        except botocore.exceptions.ClientError as error:
            return error.response["Error"]["Code"]
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}

    def objects(self):
        listed = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        # Not the ETag: RGW loses it with an object's tags.
        return {item["Key"]: item["Size"] for item in listed}

    def settings(self):
        """Everything that only `configure` may change."""
        settings = {f"acl of {name}": self._ask("get_object_acl", Key=name) for name in (BYSTANDER, "target")}
        for operation in ("acl", "policy", "cors", "lifecycle_configuration", "tagging", "versioning", "website"):
            settings[operation] = self._ask(f"get_bucket_{operation}")
        return settings

    def state(self):
        return {"objects": self.objects(), "uploads": self._uploads(), "settings": self.settings()}


@pytest.fixture(scope="module")
def store(rgw_direct):
    return Store(rgw_direct)


@pytest.fixture(scope="module")
def gateway(start_gateway, rgw_server, store):
    """RGW behind a gateway that accepts API keys, one for each access."""

    def api_key(access):
        table = f'[api_keys.{access}]\nsecret = "secret-of-{access}-key"\npolicy = "{access}"\n'
        return table + policy(access, buckets=(store.bucket,), methods=(access,))

    bucket = section("b", rgw_server, pattern=store.bucket, auth=("api_key",))
    return start_gateway("operations", bucket, *map(api_key, DATA))


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.reason = response.getheader("x-tidegate-reason")
        self.body = response.read()


class Asker:
    """One key's requests, on one connection."""

    def __init__(self, gateway, store, access):
        self.connection = http.client.HTTPConnection(gateway.endpoint.removeprefix("http://"), timeout=30)
        self.bucket = store.bucket
        self.access = access

    def ask(self, method, path, query, headers=()):
        self.connection.putrequest(method, f"/{self.bucket}{path}?{query}", skip_accept_encoding=True)
        body = {"PUT": POLICY, "POST": DELETE_LIST}.get(method, b"")
        for name, value in [("x-api-key", f"secret-of-{self.access}-key"), *headers]:
            self.connection.putheader(name, value)
        if body:
            self.connection.putheader("content-length", str(len(body)))
        self.connection.endheaders(body)
        return Answer(self.connection.getresponse())


def check(access, before, after, answer, request):
    """The store has changed only within the access, and the answer has only data within it."""
    kept = {name: value for name, value in after["settings"].items() if value != "NoSuchKey" or access != "delete"}
    assert kept == {name: before["settings"][name] for name in kept}, request
    if access in ("read", "list"):
        assert after == before, request
    if access == "write":
        assert after["objects"].keys() >= before["objects"].keys(), request
        assert after["objects"][BYSTANDER] == before["objects"][BYSTANDER], request
    if access == "delete":
        assert after["objects"].items() <= before["objects"].items(), request
        assert after["uploads"] == before["uploads"], request
    if access != "read":
        assert CONTENT not in answer.body, request
    if access != "list":
        # The answer to a delete has the deleted keys.
        assert BYSTANDER.encode() not in answer.body or access == "delete", request


@pytest.mark.gateway
@pytest.mark.parametrize("access", ["read", "write", "delete", "list"])
def test_every_pair_of_parameters_stays_within_the_access(gateway, store, access):
    """V11, A5: every method with every pair of sub-resources, with a key of one access."""
    store.reset()
    asker = Asker(gateway, store, access)
    before, passed = store.state(), 0
    for method, path in itertools.product(METHODS, ["", "/target"]):
        for pair in itertools.product(PARAMETERS, repeat=2):
            query = "&".join(filter(None, pair)).replace("UPLOAD", store.upload)
            answer = asker.ask(method, path, query)
            if answer.reason is not None:
                assert answer.status in (400, 403), (method, path, query, answer.status)
                continue
            passed += 1
            after = store.state()
            check(access, before, after, answer, (access, method, path, query))
            if after != before:
                store.reset()
                before = store.state()
        # Requests that the gateway answered itself did not reach the store.
        assert store.state() == before, (access, method, path)
    assert passed > 0


@pytest.mark.gateway
@pytest.mark.parametrize(
    "access, method, query, headers",
    [
        ("write", "DELETE", "uploadId=", ()),
        ("write", "DELETE", "uploadId", ()),
        ("write", "DELETE", "uploadId=%zz", ()),
        ("write", "DELETE", "uploadId=&uploadId=x", ()),
        ("write", "DELETE", "a;uploadId=x", ()),
        ("read", "POST", "select&uploads", ()),
        ("read", "POST", "select&uploads%3Dx", ()),
        ("read", "POST", "?select&uploads", ()),
        ("read", "POST", "%73elect&&%75ploads", ()),
        ("write", "PUT", "", [("x-amz-acl", "public-read")]),
        ("write", "PUT", "", [("x-amz-grant-read", 'uri="http://acs.amazonaws.com/groups/global/AllUsers"')]),
        ("write", "PUT", "", [("x_amz_acl", "public-read")]),
        ("write", "PUT", "acl", ()),
    ],
)
def test_an_ambiguous_request_stays_within_the_access(gateway, store, access, method, query, headers):
    """V11: a request that RGW parses as another operation is refused, or forwarded without the part that selects it."""
    store.reset()
    before = store.state()
    answer = Asker(gateway, store, access).ask(method, "/target", query, headers)
    after = store.state()
    check(access, before, after, answer, (access, method, query, headers))
    assert after["uploads"] == before["uploads"]


@pytest.mark.gateway
@pytest.mark.parametrize("name", ["x_amz_copy_source", "x-amz-copy_source", "x_amz-copy-source"])
def test_an_alias_of_the_copy_source_copies_nothing(gateway, store, rgw_direct, name):
    """V11, V7: RGW reads `_` as `-`; a key with write access only must not copy objects to a readable place."""
    other = rgw_direct.client()
    other.put_object(Bucket=rgw_direct.bucket, Key="of-another-bucket", Body=CONTENT)
    Asker(gateway, store, "write").ask("PUT", "/target", "", [(name, f"/{rgw_direct.bucket}/of-another-bucket")])
    stored = store.client.get_object(Bucket=store.bucket, Key="target")["Body"].read()
    store.reset()
    assert stored == POLICY

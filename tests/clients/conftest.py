"""What the suites share: the targets, the clients, and two rules for the tests themselves.

A target is an S3 endpoint with a bucket: `origin` is the gateway on its embedded origin, `rgw` the gateway in front
of a Ceph Object Gateway. With TIDEGATE_TEST_DIRECT=1 the same tests talk to those servers without the gateway, which
shows that what they demand is what S3 does. Variables: TIDEGATE_BINARY (the gateway), TIDEGATE_ORIGIN_BINARY (the
origin alone, only for direct runs), TIDEGATE_TEST_RGW (endpoint of a running RGW with this suite's user).
"""

import dataclasses
import hashlib
import os
import pathlib
import subprocess
import sys
import uuid

# Before botocore is imported: where awscrt is installed, which has tests of its own, botocore would sign with it.
os.environ["BOTO_DISABLE_CRT"] = "true"

import boto3
import botocore
import pytest
import urllib3
from botocore.config import Config

import documented
import servers

DIRECT = os.environ.get("TIDEGATE_TEST_DIRECT") == "1"
BIG_BYTES = 100 * 1024 * 1024

# Clients of the gateway sign with keys that no server here knows: it must put its own in their place.
DUMMY_KEYS = ("AKIADUMMYDUMMYDUMMY0", "dummy-secret-that-no-server-knows")

# The key pair of tools at the gateway that verifies signatures.
TOOL_KEYS = ("AKIATOOLS", "tools/secret+of/forty=characters")


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a client connects, and with which keys."""

    name: str
    endpoint: str
    bucket: str
    keys: tuple[str, str]

    def client(self, signed=True, checksums="when_supported", addressing="path"):
        """A boto3 client that tries once: a retry would hide what the gateway did."""
        key_id, secret = self.keys if signed else (None, None)
        config = Config(
            signature_version="s3v4" if signed else botocore.UNSIGNED,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": addressing},
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=40,
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=config,
        )

    def raw(self, method, path, **options):
        """A plain HTTP request whose path goes out as given; unsigned."""
        with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(10)) as pool:
            return pool.request(method, self.endpoint + path, **options)

    def aws(self, *arguments, signed=True, check=True, stdin=None, config=os.devnull):
        """Runs the AWS CLI; its output is text, its failure a failed test."""
        key_id, secret = self.keys
        environment = servers.clean_environment(
            AWS_ACCESS_KEY_ID=key_id,
            AWS_SECRET_ACCESS_KEY=secret,
            AWS_DEFAULT_REGION="us-east-1",
            AWS_CONFIG_FILE=str(config),
            AWS_SHARED_CREDENTIALS_FILE=os.devnull,
            AWS_EC2_METADATA_DISABLED="true",
            AWS_MAX_ATTEMPTS="1",
            AWS_PAGER="",
            PYTHONIOENCODING="utf-8",
        )
        command = [sys.executable, "-m", "awscli", "--endpoint-url", self.endpoint]
        if not signed:
            command.append("--no-sign-request")
        done = subprocess.run(
            [*command, *map(str, arguments)],
            env=environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=180,
        )
        if check:
            assert done.returncode == 0, f"aws {arguments}: {done.stderr.decode()}"
        return done


def sha256(source):
    """Of bytes, of a file, or of a streaming body."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    if isinstance(source, pathlib.Path):
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for chunk in source.iter_chunks(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def code_of(error):
    """Status and S3 error code of a botocore ClientError."""
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def pytest_collection_modifyitems(config, items):
    documented.require_names(items)
    if DIRECT:
        left_out = [item for item in items if item.get_closest_marker("gateway")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def rgw_server(tmp_path_factory):
    server = servers.Rgw(tmp_path_factory.mktemp("rgw"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rgw_direct(rgw_server):
    """RGW without the gateway between: to prepare, and to see what really arrived."""
    keys = (rgw_server.access_key_id, rgw_server.secret_access_key)
    target = Target("rgw", rgw_server.endpoint, f"suite-{uuid.uuid4().hex[:12]}", keys)
    target.client().create_bucket(Bucket=target.bucket)
    return target


def rgw_configuration(endpoint, bucket, server):
    """The gateway before RGW: a catch-all, and buckets that differ from it in one respect each."""

    def section(name, pattern, auth='auth = ["anonymous"]', more="", upstream="", secret=server.secret_access_key):
        return f"""
[buckets.{name}]
kind = "s3"
pattern = "{pattern}"
{auth}
{more}
[buckets.{name}.s3]
endpoints = ["{endpoint}"]
access_key_id = "{server.access_key_id}"
secret_access_key = "{secret}"
{upstream}
"""

    return "".join(
        [
            section("every", "*"),
            section("closed", "closed-bucket", auth=""),
            section("wrong", "wrong-keys", secret="not-the-secret"),
            section("small", "small-bucket", more='max_request_size = "1MiB"'),
            section("alias", "other-name", upstream=f'bucket = "{bucket}"'),
        ]
    )


@pytest.fixture(scope="session")
def rgw_gateway(tmp_path_factory, rgw_server, rgw_direct):
    configuration = rgw_configuration(rgw_server.endpoint, rgw_direct.bucket, rgw_server)
    gateway = servers.Gateway(tmp_path_factory.mktemp("gateway-rgw"), configuration)
    yield gateway
    # G4: a drained gateway exits with 0, after all that these suites have put it through.
    assert gateway.stop() == 0


@pytest.fixture(scope="session")
def origin_server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("origin")
    server = servers.OriginAlone(directory, "demo") if DIRECT else servers.Gateway(directory)
    yield server
    code = server.stop()
    assert DIRECT or code == 0


@pytest.fixture(scope="session")
def origin(origin_server):
    keys = (origin_server.access_key_id, origin_server.secret_access_key) if DIRECT else DUMMY_KEYS
    return Target("origin", origin_server.endpoint, "demo", keys)


@pytest.fixture(scope="session")
def rgw(request, rgw_direct):
    if DIRECT:
        return rgw_direct
    gateway = request.getfixturevalue("rgw_gateway")
    return dataclasses.replace(rgw_direct, endpoint=gateway.endpoint, keys=DUMMY_KEYS)


@pytest.fixture(scope="session")
def verifying_gateway(tmp_path_factory, rgw_server):
    """A gateway in front of RGW. It verifies SigV4 and SigV2 for buckets of any name."""
    configuration = f"""
[buckets.every]
pattern = "*"
auth = ["sigv4", "sigv2"]
[buckets.every.s3]
endpoints = ["{rgw_server.endpoint}"]
access_key_id = "{rgw_server.access_key_id}"
secret_access_key = "{rgw_server.secret_access_key}"
[keys.{TOOL_KEYS[0]}]
secret = "{TOOL_KEYS[1]}"
policy = "all"
[policies.all]
buckets = ["*"]
methods = ["read", "write", "delete", "list", "configure"]
"""
    gateway = servers.Gateway(tmp_path_factory.mktemp("gateway-verifying"), configuration)
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture
def place(request, rgw_direct):
    """The endpoint for tools with default settings. The test fails if the gateway refused a request, also if the tool recovered."""
    if DIRECT:
        yield rgw_direct
        return
    gateway = request.getfixturevalue("verifying_gateway")
    before = sum(1 for _ in gateway.lines())
    yield dataclasses.replace(rgw_direct, endpoint=gateway.endpoint, keys=TOOL_KEYS)
    lines = list(gateway.lines())[before:]
    told = ("method", "path", "status", "reason")
    expected = getattr(request.module, "REFUSALS", {})
    refused = [tuple(line[name] for name in told) for line in lines if line.get("msg") == "request" and "reason" in line]
    assert [line for line in refused if line[3] not in expected] == []


@pytest.fixture(scope="session", params=["origin", "rgw"])
def target(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def client(target):
    return target.client()


@pytest.fixture
def prefix():
    """A place in the bucket that belongs to one test."""
    return f"t-{uuid.uuid4().hex[:10]}/"


@pytest.fixture(scope="session")
def big_file(tmp_path_factory):
    """100 MiB in which no two places look alike, so that swapped parts would show."""
    path = tmp_path_factory.mktemp("big") / "big.bin"
    with path.open("wb") as file:
        for _ in range(BIG_BYTES >> 20):
            file.write(os.urandom(1 << 20))
    return path, sha256(path)

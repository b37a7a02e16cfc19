"""Shared fixtures of the suites: the targets, the clients, and two rules for the tests themselves.

A target is an S3 endpoint with a bucket: `origin` is the gateway on its embedded origin, `rgw` the gateway in front of
a Ceph Object Gateway. With TIDEGATE_TEST_DIRECT=1 the same tests call those servers without the gateway, which shows
that the asserted behaviour is S3's. Variables: TIDEGATE_BINARY (the gateway), TIDEGATE_ORIGIN_BINARY (the origin alone,
only for direct runs), TIDEGATE_TEST_RGW (endpoint of a running RGW with this suite's user).
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import subprocess
import uuid

# Set before botocore is imported: with awscrt installed, which has its own tests, botocore would sign with it.
os.environ["BOTO_DISABLE_CRT"] = "true"

import boto3
import botocore
import pytest
import urllib3
from botocore.config import Config

import documented
import servers
from configuration import before_all, section
from tool import AWS_CLI, aws_environment

DIRECT = os.environ.get("TIDEGATE_TEST_DIRECT") == "1"
BIG_BYTES = 100 * 1024 * 1024

# Clients of the gateway sign with keys that no server here accepts: the gateway must replace the signature.
DUMMY_KEYS = ("AKIADUMMYDUMMYDUMMY0", "dummy-secret-that-no-server-knows")

# The key pair of tools at the gateway that verifies signatures.
TOOL_KEYS = ("AKIATOOLS", "tools/secret+of/forty=characters")


@dataclasses.dataclass(frozen=True)
class Target:
    """An endpoint with its key pair."""

    name: str
    endpoint: str
    bucket: str
    keys: tuple[str, str]

    def client(
        self,
        signed=True,
        checksums="when_supported",
        addressing="path",
        signature="s3v4",
        region="us-east-1",
        verify=None,
    ):
        """A boto3 client with one attempt per request: a retry would hide an error of the gateway.

        `signature=None` is boto3's default: SigV4 in headers, SigV2 in presigned URLs. `verify` is the file of the
        authority that signs the gateway's certificate.
        """
        key_id, secret = self.keys if signed else (None, None)
        config = Config(
            signature_version=signature if signed else botocore.UNSIGNED,
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
            region_name=region,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            verify=verify,
            config=config,
        )

    def raw(self, method, path, **options):
        """An unsigned plain HTTP request with the path sent unchanged."""
        with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(10)) as pool:
            return pool.request(method, self.endpoint + path, **options)

    def aws(self, *arguments, signed=True, check=True, stdin=None, config=os.devnull):
        """Runs the AWS CLI; returns its output as text. A failure fails the test."""
        variables = aws_environment(self.keys, AWS_DEFAULT_REGION="us-east-1", AWS_CONFIG_FILE=str(config))
        command = [*AWS_CLI["v1"], "--endpoint-url", self.endpoint]
        if not signed:
            command.append("--no-sign-request")
        done = subprocess.run(
            [*command, *map(str, arguments)],
            env=servers.clean_environment(PYTHONIOENCODING="utf-8", **variables),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=180,
        )
        if check:
            assert done.returncode == 0, f"aws {arguments}: {done.stderr.decode()}"
        return done


def sha256(source):
    """The hash of bytes, of a file, or of a streaming body."""
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
    """RGW without the gateway: to prepare the store, and to read its state."""
    keys = (rgw_server.access_key_id, rgw_server.secret_access_key)
    target = Target("rgw", rgw_server.endpoint, f"suite-{uuid.uuid4().hex[:12]}", keys)
    target.client().create_bucket(Bucket=target.bucket)
    return target


@contextlib.contextmanager
def gateways(tmp_path_factory):
    """Yields `start(name, *parts, **variables)`: a gateway with the parts as its configuration, or with none.

    Each gateway is stopped at the end, and the exit code of each must be 0.
    """

    def stop(gateway):
        # G4: a drained gateway exits with 0, whatever the suite sent to it.
        assert gateway.stop() == 0, gateway.out

    with contextlib.ExitStack() as started:

        def start(name, *parts, **variables):
            configuration = "".join(parts) if parts else None
            gateway = servers.Gateway(tmp_path_factory.mktemp(f"gateway-{name}"), configuration, **variables)
            started.callback(stop, gateway)
            return gateway

        yield start


@pytest.fixture(scope="module")
def start_gateway(tmp_path_factory):
    """Starts gateways that run until the module's end."""
    with gateways(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def start_shared_gateway(tmp_path_factory):
    """Starts gateways that run until the session's end."""
    with gateways(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def rgw_gateway(start_shared_gateway, rgw_server, rgw_direct):
    """The gateway in front of RGW: a catch-all, and buckets that each differ from it in one setting."""
    open_to_all = {"auth": ("anonymous",)}
    wrong = (rgw_server.access_key_id, "not-the-secret")
    return start_shared_gateway(
        "rgw",
        section("every", rgw_server, pattern="*", **open_to_all),
        section("closed", rgw_server, pattern="closed-bucket", auth=()),
        section("wrong", rgw_server, pattern="wrong-keys", keys=wrong, **open_to_all),
        section("small", rgw_server, pattern="small-bucket", more='max_request_size = "1MiB"', **open_to_all),
        section("alias", rgw_server, pattern="other-name", bucket=rgw_direct.bucket, **open_to_all),
    )


@pytest.fixture(scope="session")
def origin_server(request, tmp_path_factory):
    if not DIRECT:
        yield request.getfixturevalue("start_shared_gateway")("origin")
        return
    server = servers.OriginAlone(tmp_path_factory.mktemp("origin"), "demo")
    yield server
    server.stop()


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
def verifying_gateway(start_shared_gateway, rgw_server):
    """A gateway in front of RGW. It verifies SigV4 and SigV2 for buckets of any name."""
    return start_shared_gateway("verifying", before_all(rgw_server, TOOL_KEYS, auth=("sigv4", "sigv2")))


def access_lines(gateway, target):
    """The access lines of every request so far: those before the line of a request that is sent now."""
    request_id = uuid.uuid4().hex
    url = target.client().generate_presigned_url("head_bucket", Params={"Bucket": target.bucket})
    answer = target.raw("HEAD", url.removeprefix(target.endpoint), headers={"x-request-id": request_id})
    assert answer.status == 200
    return gateway.access_lines_until(request_id)[:-1]


@pytest.fixture
def tool_target(request, rgw_direct):
    """The endpoint for tools with default settings. The test fails if the gateway refused a request, even if a retry
    succeeded."""
    if DIRECT:
        yield rgw_direct
        return
    gateway = request.getfixturevalue("verifying_gateway")
    target = dataclasses.replace(rgw_direct, endpoint=gateway.endpoint, keys=TOOL_KEYS)
    before = len(access_lines(gateway, target))
    yield target
    fields = ("method", "path", "status", "reason")
    expected = getattr(request.module, "REFUSALS", {})
    lines = access_lines(gateway, target)[before + 1 :]
    refused = [tuple(line[name] for name in fields) for line in lines if "reason" in line]
    assert [line for line in refused if line[3] not in expected] == []


@pytest.fixture(scope="session", params=["origin", "rgw"])
def target(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def client(target):
    return target.client()


@pytest.fixture(params=["at-origin", "at-rgw"])
def bucket(request):
    """The two buckets of `configuration.both_stores`."""
    return request.param


@pytest.fixture
def prefix():
    """A key prefix for one test only."""
    return f"t-{uuid.uuid4().hex[:10]}/"


@pytest.fixture(scope="session")
def big_file(tmp_path_factory):
    """100 MiB without a repeated pattern, so that swapped parts are detected."""
    path = tmp_path_factory.mktemp("big") / "big.bin"
    with path.open("wb") as file:
        for _ in range(BIG_BYTES >> 20):
            file.write(os.urandom(1 << 20))
    return path, sha256(path)

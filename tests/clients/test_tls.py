"""Real clients over TLS: boto3, the AWS CLI and curl, over HTTP/1.1 and HTTP/2, during certificate renewals.

The authority is created by openssl for each run; every client verifies the certificate.
"""

import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid

import configuration
import pytest
from conftest import Target, sha256
from tool import AWS_CLI, aws_cli

pytestmark = pytest.mark.gateway

KEYS = ("AKIASECURE", "suite/secret+over/tls")
BIG_BYTES = 20 << 20


class Authority:
    """An authority, and a gateway's certificate and key in a directory."""

    def __init__(self, directory):
        self.directory = directory
        self.certificate = directory / "authority.pem"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                      "-subj", "/CN=authority", "-keyout", "authority.key", "-out", "authority.pem")  # fmt: skip
        self.renew()

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=60)

    def renew(self):
        """Replaces the pair by a new one; the key first, so that the two are inconsistent for a moment."""
        (self.directory / "names.cnf").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=gateway",
                      "-keyout", "new.key", "-out", "gateway.csr")  # fmt: skip
        self._openssl("x509", "-req", "-in", "gateway.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
                      "-days", "2", "-extfile", "names.cnf", "-out", "new.pem")  # fmt: skip
        os.chmod(self.directory / "new.key", 0o600)
        os.replace(self.directory / "new.key", self.directory / "gateway.key")
        os.replace(self.directory / "new.pem", self.directory / "gateway.pem")

    def shown(self, endpoint):
        """The certificate of a new connection, verified with the authority."""
        context = ssl.create_default_context(cafile=self.certificate)
        host, port = endpoint.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname=host) as secured:
                return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True))

    def current(self):
        return (self.directory / "gateway.pem").read_text()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def gateway(start_gateway, origin_server, authority):
    server = f"""
[server.tls]
certificate_file = "{authority.directory}/gateway.pem"
private_key_file = "{authority.directory}/gateway.key"
reload_interval = 3600
"""
    store = configuration.section("signed", origin_server, bucket="demo")
    gateway = start_gateway("secured", server, store, configuration.key(KEYS), configuration.policy(methods=configuration.DATA))
    gateway.endpoint = gateway.endpoint.replace("http://", "https://")
    return gateway


@pytest.fixture(scope="module")
def tls_target(gateway):
    return Target("tls", gateway.endpoint, "signed", KEYS)


@pytest.fixture(scope="module")
def client(tls_target, authority):
    return tls_target.client(verify=str(authority.certificate))


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    path = tmp_path_factory.mktemp("big") / "big.bin"
    path.write_bytes(os.urandom(BIG_BYTES))
    return path, sha256(path)


@pytest.fixture
def key():
    return f"tls/{uuid.uuid4().hex} a+b"


def curl(authority, *arguments, check=True):
    command = ["curl", "--silent", "--show-error", "--cacert", authority.certificate, "--max-time", "120"]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, timeout=180)
    if check:
        assert done.returncode == 0, done.stderr.decode()
    return done


def test_boto3_over_tls(client, key, big):
    """A7, A1: multipart uploads with unsigned chunks over TLS, downloads, listings."""
    path, digest = big
    client.upload_file(str(path), "signed", key)
    assert sha256(client.get_object(Bucket="signed", Key=key)["Body"]) == digest
    client.put_object(Bucket="signed", Key=key + "2", Body=b"0123456789")
    assert client.get_object(Bucket="signed", Key=key + "2", Range="bytes=2-4")["Body"].read() == b"234"
    listed = client.list_objects_v2(Bucket="signed", Prefix=key)
    assert [item["Key"] for item in listed["Contents"]] == [key, key + "2"]


@pytest.mark.parametrize("version", AWS_CLI)
def test_the_aws_cli_over_tls(tls_target, authority, key, big, tmp_path, version):
    """A7, A1: upload and download compared by hash, with a configured authority."""
    path, digest = big
    aws = aws_cli(version, tls_target, tmp_path, AWS_CA_BUNDLE=str(authority.certificate))
    aws("s3", "cp", "--no-progress", path, f"s3://signed/{key}")
    aws("s3", "cp", "--no-progress", f"s3://signed/{key}", tmp_path / "back")
    assert sha256(tmp_path / "back") == digest


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_curl_signs_over_both_protocols(gateway, authority, big, tmp_path, protocol):
    """A7, A1: an upload and a download, signed by curl, equal by hash, with the requested protocol."""
    path, digest = big
    place = f"{gateway.endpoint}/signed/tls/{uuid.uuid4().hex}"
    signing = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", ":".join(KEYS)]
    telling = ["--write-out", "%{http_code} %{http_version}", "--output"]
    # curl 7 signs the empty hash for a file, so the payload is declared as unsigned, as TLS allows.
    unsigned = ["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    version = protocol.removeprefix("--http").removesuffix(".0")
    put = curl(authority, protocol, *signing, *unsigned, *telling, tmp_path / "answer", "--upload-file", path, place)
    assert put.stdout.decode() == f"200 {version}", (tmp_path / "answer").read_text()
    got = curl(authority, protocol, *signing, *unsigned, *telling, tmp_path / "back", place)
    assert got.stdout.decode() == f"200 {version}"
    assert sha256(tmp_path / "back") == digest


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_a_presigned_url_over_tls(client, authority, key, tmp_path, protocol):
    """A7, A1: curl uses URLs presigned by boto3 for get and put, over both protocols."""
    body = os.urandom(300_000)
    (tmp_path / "in").write_bytes(body)
    place = {"Bucket": "signed", "Key": key}
    url = client.generate_presigned_url("put_object", Params=place, ExpiresIn=60)
    assert url.startswith("https://")
    curl(authority, protocol, "--fail", "--upload-file", tmp_path / "in", url)
    url = client.generate_presigned_url("get_object", Params=place, ExpiresIn=60)
    assert curl(authority, protocol, "--fail", url).stdout == body
    wrong = curl(authority, protocol, "--fail", url.replace("Signature=", "Signature=0"), check=False)
    assert wrong.returncode == 22


def test_a_certificate_changes_while_a_transfer_runs(gateway, authority, client, key, big):
    """A7: a slow download that started before SIGHUP completes after it; new connections get the new certificate."""
    path, digest = big
    client.upload_file(str(path), "signed", key)
    old = authority.shown(gateway.endpoint)
    assert old.strip() == authority.current().strip()
    begun, renewed = threading.Event(), threading.Event()
    digests = []

    def download():
        body = client.get_object(Bucket="signed", Key=key)["Body"]
        first = body.read(1 << 16)
        begun.set()
        assert renewed.wait(60)
        digests.append(sha256(first + body.read()))

    thread = threading.Thread(target=download)
    thread.start()
    assert begun.wait(60)
    authority.renew()
    gateway.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while authority.shown(gateway.endpoint) == old and time.monotonic() < deadline:
        time.sleep(0.02)
    assert authority.shown(gateway.endpoint).strip() == authority.current().strip() != old.strip()
    renewed.set()
    thread.join(timeout=60)
    assert digests == [digest]


def test_an_untrusted_certificate_is_refused(gateway, tmp_path):
    """A7: a client with another authority refuses the connection, and the gateway counts it."""
    stranger = Authority(tmp_path)
    done = curl(stranger, f"{gateway.endpoint}/signed/k", check=False)
    assert done.returncode == 60, done.stderr.decode()


def test_a_load_of_many_streams(gateway, client, authority, key):
    """A7, P2: 2,000 requests over 4 connections with 25 streams each are all answered with 200."""
    client.put_object(Bucket="signed", Key=key, Body=b"x" * 4096)
    url = client.generate_presigned_url("get_object", Params={"Bucket": "signed", "Key": key}, ExpiresIn=300)
    command = ["h2load", "-n", "2000", "-c", "4", "-m", "25", url]
    done = subprocess.run(command, capture_output=True, timeout=120, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout
    assert "status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx" in done.stdout, done.stdout

"""The status document in several states, against its own JSON Schema, with a validator of JSON Schema 2020-12."""

import json
import os
import resource
import signal
import time

import jsonschema
import pytest
import servers
import urllib3

pytestmark = pytest.mark.gateway

PATIENCE_SECONDS = 20
HTTP = urllib3.PoolManager(retries=False)

#: Two buckets: `b` behind two endpoints that refuse connections, with two credentials, and `api` with one credential.
BUCKETS = """
[buckets.b]
auth = ["anonymous"]
[buckets.b.s3]
endpoints = ["http://127.0.0.1:@ONE@", "http://127.0.0.1:@TWO@"]
[buckets.b.s3.concurrency.adaptive]
enabled = true
[buckets.b.s3.retry]
max_attempts = 1
[buckets.b.s3.circuit_breaker]
failure_threshold = 2
[buckets.b.s3.credentials.one]
access_key_id = "A"
secret_access_key = "s"
[buckets.b.s3.credentials.two]
access_key_id = "B"
secret_access_key = "t"
[buckets.api]
kind = "http"
auth = ["anonymous"]
[buckets.api.http]
endpoints = ["http://127.0.0.1:@ONE@"]
[buckets.api.http.credentials.k]
value = "hidden"
"""


def get(gateway, path):
    """The JSON document at a path of the admin listener."""
    answer = HTTP.request("GET", gateway.admin + path)
    assert answer.status == 200, (path, answer.status)
    return json.loads(answer.data)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts gateways in front of stores that refuse connections."""
    running = []

    def begin(more="", **variables):
        buckets = BUCKETS.replace("@ONE@", str(servers.free_port())).replace("@TWO@", str(servers.free_port()))
        gateway = servers.Gateway(tmp_path_factory.mktemp("gateway"), buckets + more, **variables)
        running.append(gateway)
        return gateway

    yield begin
    for gateway in running:
        gateway.stop()


def validated(gateway):
    """The status document, which its own schema describes."""
    schema = get(gateway, "/status.schema.json")
    jsonschema.Draft202012Validator.check_schema(schema)
    status = get(gateway, "/status")
    errors = [f"{error.json_path}: {error.message}" for error in jsonschema.Draft202012Validator(schema).iter_errors(status)]
    assert errors == []
    return status


def until(gateway, *codes):
    """Waits for causes with these codes. Each document until then is validated too."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        status = validated(gateway)
        present = {cause["code"] for cause in status["causes"]}
        if present >= set(codes):
            return status
        assert time.monotonic() < deadline, (codes, present)
        time.sleep(0.02)


def test_a_healthy_gateway(start):
    """X7, X10: the document of a gateway without a cause is valid."""
    status = validated(start())
    assert (status["status"], status["causes"], status["events"]) == ("ok", [], [])
    assert status["buckets"]["b"]["pool"]["adaptive"] is not None
    assert len(status["buckets"]["b"]["pool"]["credentials"]) == 2


def test_a_stopped_store(start):
    """X7, X10: the document with an open circuit is valid, and so are its events."""
    gateway = start()
    for _ in range(8):
        assert HTTP.request("GET", gateway.endpoint + "/b/k").status in (502, 503)
    status = until(gateway, "circuit_open")
    assert status["status"] == "critical"
    assert {event["change"] for event in status["events"]} >= {"began"}


def test_crashed_actors_and_shadow_limits(start):
    """X7, X10: the document is valid while actors are held down, and with causes that counters find."""
    limits = "[rate_limit.per_ip]\nrequests_per_second = 0.01\nburst = 1\nmode = \"shadow\"\n"
    gateway = start(limits + "[admin]\nchaos = true\n")
    for _ in range(4):
        HTTP.request("GET", gateway.endpoint + "/b/k")
    until(gateway, "chaos", "limit_shadow")
    for actor in ("limiter", "sessions", "monitor", "pool:b"):
        for _ in range(12):
            HTTP.request("POST", f"{gateway.admin}/actors/{actor}/crash")
    status = until(gateway, "limiter_failed", "pool_failed")
    assert status["limiter"] is None
    assert status["status"] == "critical"


def test_an_exhausted_process(start):
    """X7, X10: the document at the level `exhausted` is valid, and the level is the reason for the status."""
    gateway = start("[monitor]\nwarning = 30\ncritical = 40\nexhausted = 50\ninterval_ms = 20\n")
    pid = gateway.process.pid
    used = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + used // 2, used + used // 2))
    status = until(gateway, "exhausted")
    assert (status["status"], status["level"]) == ("critical", "exhausted")
    assert status["transitions"]


def test_a_draining_process(start):
    """X7, X10: the document of a process that stops is valid, and its first cause is the drain."""
    gateway = start("[server]\ndrain_delay = 5\n")
    gateway.process.send_signal(signal.SIGTERM)
    status = until(gateway, "draining")
    assert (status["status"], status["causes"][0]["code"]) == ("critical", "draining")


def test_a_wrong_document_is_refused(start):
    """X7: the schema refuses a document with a wrong word, a missing or an additional field."""
    gateway = start()
    schema, status = get(gateway, "/status.schema.json"), get(gateway, "/status")
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(status)
    assert not validator.is_valid(status | {"status": "degraded"})
    assert not validator.is_valid(status | {"additional": 1})
    assert not validator.is_valid({name: value for name, value in status.items() if name != "summary"})
    assert not validator.is_valid(status | {"started": "yesterday"})

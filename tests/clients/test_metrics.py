"""The metrics by the judgement of Prometheus itself: promtool lints them, and a server scrapes them."""

import json
import shutil
import subprocess
import time
import urllib.parse

import pytest
import servers
import urllib3
from configuration import section

pytestmark = pytest.mark.gateway

PATIENCE_SECONDS = 60
HISTOGRAM = "tidegate_request_duration_seconds_bucket"
FEATURES = "hedging.enabled = true\nconcurrency.adaptive.enabled = true"


def get(url, **headers):
    # Without a proxy of the environment, and without a retry that would hide an error.
    with urllib3.PoolManager(retries=False) as http:
        answer = http.request("GET", url, headers=headers)
    return answer.status, answer.data, answer.headers


def lint(text):
    """What promtool says about a scrape."""
    program = shutil.which("promtool")
    assert program, "promtool is missing: it is in the Debian package prometheus"
    done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def configuration(store):
    """Every feature with metrics of its own, on a bucket of each kind."""
    return (
        section("stored", store, auth=("anonymous",), bucket="demo", upstream=FEATURES)
        + '[buckets.api]\nkind = "http"\nauth = ["anonymous"]\n[buckets.api.http]\n'
        + f'endpoints = ["{store}"]\ncredential_check_path = "/"\n'
        + '[buckets.api.http.credentials.one]\nvalue = "secret"\n'
        + '[rate_limit.global]\nrequests_per_second = 10000\nmode = "shadow"\n'
    )


@pytest.fixture(scope="module")
def store(start_gateway):
    """The embedded origin."""
    return start_gateway("store").endpoint


@pytest.fixture(scope="module")
def gateway(start_gateway, store):
    gateway = start_gateway("scraped", configuration(store))
    for target in ("/stored/", "/stored/no-such-key", "/api/demo", "/nowhere/key", "/stored/" + "k" * 8200):
        get(gateway.endpoint + target)
    return gateway


@pytest.mark.parametrize("namespace", [None, "acme_gateway", ""])
def test_promtool_finds_nothing(start_gateway, store, namespace):
    """O3: `promtool check metrics` is clean before and after requests, whatever the namespace"""
    settings = "" if namespace is None else f'[metrics]\nnamespace = "{namespace}"\n'
    gateway = start_gateway(f"lint-{namespace}", configuration(store), settings)
    for targets in ([], ["/stored/", "/api/demo", "/nowhere/key", "/stored/" + "k" * 8200]):
        for target in targets:
            get(gateway.endpoint + target)
        status, text, headers = get(gateway.admin + "/metrics")
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4")
        assert text.count(b"# TYPE ") > 80
        assert lint(text) == (0, "")


def test_promtool_finds_faults(gateway):
    """O3: the check above fails for a counter without its suffix, so it can fail"""
    _, text, _ = get(gateway.admin + "/metrics")
    code, said = lint(text.replace(b"tidegate_requests_total", b"tidegate_requests"))
    assert code != 0 and "_total" in said


class Prometheus:
    """A Prometheus server that scrapes one gateway ten times a second, and keeps exemplars."""

    def __init__(self, directory, gateway):
        program = shutil.which("prometheus")
        assert program, "prometheus is missing: it is in the Debian package of that name"
        self.url = f"http://127.0.0.1:{servers.free_port()}"
        settings = {
            "global": {"scrape_interval": "100ms", "scrape_timeout": "100ms"},
            "scrape_configs": [
                {"job_name": "tidegate", "static_configs": [{"targets": [gateway.admin.removeprefix("http://")]}]}
            ],
        }
        # YAML contains JSON.
        (directory / "prometheus.yml").write_text(json.dumps(settings))
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    f"--config.file={directory}/prometheus.yml",
                    f"--storage.tsdb.path={directory}/data",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                    "--enable-feature=exemplar-storage",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=servers.clean_environment(),
            )

    def query(self, path, **parameters):
        try:
            status, body, _ = get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        except urllib3.exceptions.HTTPError:
            return None  # not ready yet
        return json.loads(body)["data"] if status == 200 else None

    def wait_for(self, path, found, **parameters):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (data := self.query(path, **parameters)) or not found(data):
            assert self.process.poll() is None, "Prometheus has ended"
            assert time.monotonic() < deadline, f"{path} {parameters}: {data}"
            time.sleep(0.1)
        return data

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, gateway):
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), gateway)
    yield server
    server.stop()


def test_prometheus_scrapes_openmetrics(prometheus, gateway):
    """O3: Prometheus negotiates OpenMetrics, parses all of it, and finds the exemplar of a request of the access log"""
    prometheus.wait_for("query", lambda data: data["result"] and data["result"][0]["value"][1] == "1", query="up")
    request_id = "exemplar-of-a-real-server"
    status, _, headers = get(gateway.endpoint + "/stored/", **{"x-request-id": request_id})
    assert (status, headers["x-request-id"]) == (200, request_id)
    gateway.access_lines_until(request_id)

    def ids(data):
        return {one["labels"]["request_id"] for series in data for one in series["exemplars"]}

    now = time.time()
    query = {"query": HISTOGRAM, "start": now - 600, "end": now + 600}
    prometheus.wait_for("query_exemplars", lambda data: request_id in ids(data), **query)
    (target,) = prometheus.query("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


def test_prometheus_has_the_types_of_all_metrics(prometheus):
    """O3: counters, gauges and histograms arrive as what they are"""
    # Whether a counter's family has its suffix depends on the version.
    data = prometheus.wait_for("metadata", lambda data: any(name.startswith("process_cpu_seconds") for name in data))
    kinds = {name.removesuffix("_total"): {entry["type"] for entry in entries} for name, entries in data.items()}
    for name, kind in [
        ("tidegate_requests", "counter"),
        ("tidegate_errors", "counter"),
        ("process_cpu_seconds", "counter"),
        ("tidegate_requests_in_flight", "gauge"),
        ("tidegate_build_info", "gauge"),
        ("tidegate_request_duration_seconds", "histogram"),
        ("tidegate_upstream_duration_seconds", "histogram"),
    ]:
        assert kinds.get(name) == {kind}, name
    assert not {"unknown", "untyped"} & set().union(*kinds.values()), kinds

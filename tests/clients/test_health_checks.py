"""Health checks of real proxies, in the forms from their manuals."""

import csv
import socket
import time

import proxies
import pytest
import servers
import urllib3

pytestmark = pytest.mark.gateway

PATIENCE_SECONDS = 20
PROXIED = """
[server]
proxy_protocol = true
trusted_proxies = ["127.0.0.1"]
"""


class Checking(proxies.Haproxy):
    """HAProxy with a health check ten times a second; its runtime API returns the result."""

    template = proxies.replaced(
        proxies.Haproxy.template,
        ("maxconn 100\n", "maxconn 100\n  stats socket @DIRECTORY@/admin.sock\n"),
        ("\nbackend gateway\n", "\nbackend gateway\n  @CHECK@\n  default-server inter 100ms fall 1 rise 1\n"),
        ("@SEND@", "@SEND@ check @HOW@"),
    )

    def __init__(self, directory, gateway, check, send="", how=""):
        port = gateway.rsplit(":", 1)[1]
        self.values = {"FORWARD": "", "SEND": send, "CHECK": check, "HOW": how.replace("@CHECKPORT@", port)}
        super().__init__(directory, gateway)

    def check_status(self):
        with socket.socket(socket.AF_UNIX) as api:
            api.settimeout(5)
            api.connect(str(self.directory / "admin.sock"))
            api.sendall(b"show stat\n")
            text = b"".join(iter(lambda: api.recv(65536), b"")).decode()
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        (row,) = (row for row in rows if (row["pxname"], row["svname"]) == ("gateway", "gateway"))
        return row["check_status"], row["status"]

    def becomes(self, *wanted):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (self.directory / "admin.sock").exists():
            assert time.monotonic() < deadline, "HAProxy does not open its socket"
            time.sleep(0.05)
        while (found := self.check_status()) != wanted:
            assert time.monotonic() < deadline, f"HAProxy finds the gateway {found} and not {wanted}"
            time.sleep(0.05)


@pytest.fixture(scope="module", params=["plain", "proxied"])
def gateway(request, start_gateway):
    gateway = start_gateway(request.param, PROXIED if request.param == "proxied" else "")
    gateway.is_proxied = request.param == "proxied"
    return gateway


CHECKS = {
    "httpchk": "option httpchk",
    "httpchk-path": "option httpchk GET /-/readyz",
    "httpchk-head": "option httpchk HEAD /-/livez HTTP/1.0",
    "http-check-host": "option httpchk\n  http-check send meth GET uri /-/readyz ver HTTP/1.1 hdr Host any.name.test",
    "http-check-no-host": "option httpchk\n  http-check send meth HEAD uri /-/readyz ver HTTP/1.0",
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_haproxy_finds_the_gateway_up(gateway, tmp_path, check):
    """O5: each check is answered with 200, also after a required PROXY header, and traffic is served."""
    proxy = Checking(tmp_path, gateway.endpoint, check, send="send-proxy" if gateway.is_proxied else "")
    try:
        proxy.becomes("L7OK", "UP")
        with urllib3.PoolManager(retries=False) as pool:
            assert pool.request("GET", proxy.endpoint + "/demo/none").status == 404
    finally:
        proxy.stop()


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_haproxy_checks_without_the_required_proxy_header(gateway, tmp_path, check):
    """O5, L3: a check to an explicit port sends no PROXY header (HAProxy manual, check-send-proxy), and is answered."""
    send = "send-proxy-v2" if gateway.is_proxied else ""
    proxy = Checking(tmp_path, gateway.endpoint, check, send=send, how="port @CHECKPORT@")
    try:
        proxy.becomes("L7OK", "UP")
    finally:
        proxy.stop()


def test_haproxy_detects_the_drain(tmp_path):
    """O5, G4: the plain check marks the server as down while the gateway drains, before it refuses connections."""
    directory = tmp_path / "gateway"
    directory.mkdir()
    gateway = servers.Gateway(directory, TIDEGATE_SERVER__DRAIN_DELAY="5")
    proxy = Checking(tmp_path, gateway.endpoint, "option httpchk")
    try:
        proxy.becomes("L7OK", "UP")
        gateway.process.terminate()
        proxy.becomes("L7STS", "DOWN")
    finally:
        proxy.stop()
        # A second signal would end the drain.
        assert gateway.process.wait(servers.STOP_SECONDS) == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_checks_through_nginx_are_answered(tmp_path, method):
    """O5: a cloud load balancer's check through nginx gets the gateway's answer."""
    directory = tmp_path / "gateway"
    directory.mkdir()
    gateway = servers.Gateway(directory)
    proxy = proxies.Nginx(tmp_path, gateway.endpoint)
    try:
        with urllib3.PoolManager(retries=False) as pool:
            for path in ["/-/livez", "/-/readyz"]:
                assert pool.request(method, proxy.endpoint + path).status == 200, path
    finally:
        proxy.stop()
        assert gateway.stop() == 0

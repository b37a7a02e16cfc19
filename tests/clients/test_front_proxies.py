"""The gateway behind real proxies: whose request it is, and that nothing of the request is lost between parsers.

Clients come from addresses of their own on the loopback network, the proxies from 127.0.0.1, which alone is trusted.
"""

import time
import uuid

import pytest
import servers
import urllib3

pytestmark = pytest.mark.gateway

CONFIGURATION = """
[server]
trusted_proxies = ["127.0.0.1"]
[rate_limit.per_ip]
requests_per_second = 0.001
burst = 40
"""
CLIENTS = ["127.0.0.2", "127.0.0.3"]


BY_HEADER = [servers.Nginx, servers.Haproxy]
BY_PROXY_PROTOCOL = [servers.HaproxyLine, servers.HaproxyBlock]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    gateway = servers.Gateway(tmp_path_factory.mktemp("gateway-fronted"), CONFIGURATION)
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture(scope="module")
def proxied_gateway(tmp_path_factory):
    configuration = CONFIGURATION.replace("[server]", "[server]\nproxy_protocol = true")
    gateway = servers.Gateway(tmp_path_factory.mktemp("gateway-proxied"), configuration)
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture(scope="module", params=BY_PROXY_PROTOCOL)
def named_by_connection(request, tmp_path_factory, proxied_gateway):
    proxy = request.param(tmp_path_factory.mktemp("front"), proxied_gateway.endpoint)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module", params=BY_HEADER)
def front(request, tmp_path_factory, gateway):
    proxy = request.param(tmp_path_factory.mktemp("front"), gateway.endpoint)
    yield proxy
    proxy.stop()


def asked(gateway, endpoint, client, path="/demo/none", **headers):
    """Asks from this address; the status and the access line."""
    identity = uuid.uuid4().hex
    with urllib3.PoolManager(retries=False, source_address=(client, 0), timeout=urllib3.Timeout(10)) as pool:
        answer = pool.request("GET", endpoint + path, headers={"x-request-id": identity, **headers})
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for line in gateway.lines():
            if line.get("msg") == "request" and line.get("id") == identity:
                return answer.status, line
        time.sleep(0.02)
    raise AssertionError(f"no access line for {identity}")


@pytest.mark.parametrize("client", CLIENTS)
def test_the_client_behind_a_proxy_is_told(gateway, front, client):
    """L3: what the proxy appended is believed, what the client wrote before it is not."""
    for spoofed in [{}, {"X-Forwarded-For": "203.0.113.1"}, {"X-Forwarded-For": "203.0.113.1, 127.0.0.1"}]:
        status, line = asked(gateway, front.endpoint, client, **spoofed)
        assert status == 404
        assert (line["client"], line["client_source"]) == (client, "forwarded")


def test_a_client_that_goes_past_the_proxy_is_not_believed(gateway):
    """L3: a header of a peer that is no trusted proxy changes nothing."""
    status, line = asked(gateway, gateway.endpoint, "127.0.0.4", **{"X-Forwarded-For": "127.0.0.2"})
    assert (status, line["client"], line["client_source"]) == (404, "127.0.0.4", "peer")


def test_clients_behind_a_proxy_have_budgets_of_their_own(gateway, front):
    """L4, L1: one client's budget is used up, another's through the same proxy is whole."""
    greedy, modest = front.greedy, f"{front.greedy}1"
    statuses = [asked(gateway, front.endpoint, greedy)[0] for _ in range(41)]
    assert statuses == [404] * 40 + [429]
    assert asked(gateway, front.endpoint, modest)[0] == 404


@pytest.mark.parametrize("path", ["//double//k", "/a%2Fb", "/a+b%20c", "/it's", "/~x%7E", "/100%25", "/..name", "/a;b=c&d", "/%C3%A9"])
def test_a_proxy_before_the_gateway_changes_no_path(gateway, front, path):
    """V5: what the proxy passes on is what the gateway reads."""
    status, line = asked(gateway, front.endpoint, "127.0.0.8", "/demo" + path)
    assert (status, line["path"]) == (404, "/demo" + path)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_client_that_a_connection_names_is_told(proxied_gateway, named_by_connection, client):
    """L3: what the PROXY header says counts, and a header of a client that is no proxy does not."""
    for spoofed in [{}, {"X-Forwarded-For": "203.0.113.1"}]:
        status, line = asked(proxied_gateway, named_by_connection.endpoint, client, **spoofed)
        assert (status, line["client"], line["client_source"]) == (404, client, "proxy")


def test_clients_that_connections_name_have_budgets_of_their_own(proxied_gateway, named_by_connection):
    """L4, L1: one client's budget is used up, another's through the same proxy is whole."""
    greedy, modest = named_by_connection.greedy, f"{named_by_connection.greedy}1"
    statuses = [asked(proxied_gateway, named_by_connection.endpoint, greedy)[0] for _ in range(41)]
    assert statuses == [404] * 40 + [429]
    assert asked(proxied_gateway, named_by_connection.endpoint, modest)[0] == 404


def test_a_client_that_goes_past_the_proxy_has_no_say_in_its_address(proxied_gateway):
    """L3: a peer that is no trusted proxy begins with HTTP, as without the setting."""
    status, line = asked(proxied_gateway, proxied_gateway.endpoint, "127.0.0.4")
    assert (status, line["client"], line["client_source"]) == (404, "127.0.0.4", "peer")
